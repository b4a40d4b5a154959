"""Processes that we start and end: commands with a time limit, staged servers, the real server.

Each one gets a process group of its own, so that ending it ends its children too, and a log
file instead of a pipe, so that nothing blocks when nobody reads. What the processes are for is
not known here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types

from unified_db.errors import ServerError
from unified_db.migration import process_table
from unified_db.migration.config import MigrationConfig
from unified_db.migration.redaction import redaction_of

log = logging.getLogger(__name__)

_TAIL_LINES = 20
_TAIL_BYTES = 16_384
_GRACE_S = 5.0
_POLL_S = 0.02
_WATCH_S = 0.25
# systemd's and gunicorn's: sockets that were handed over, and where to say that the service is up.
_OF_THE_REAL_SERVICE = frozenset(
    {
        "GUNICORN_FD",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
_LOG_LIMIT_BYTES = 64 * 1024 * 1024
_LOG_HEAD_BYTES = 1024 * 1024
_PORTS = range(20_000, 32_000)
_SHELL = "/bin/sh"
_GATE = 'read -r _ || exit 1; exec "$0" "$@" </dev/null'
# The kernel's promise is made once setpriv has asked for it, and we may be gone by then.
_CHILD = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
_MARK = "UNIFY_DB_COMMAND"
# Part of util-linux; where it is missing, staged processes may outlive a kill -9 of ours.
_SETPRIV = shutil.which("setpriv") if sys.platform == "linux" else None


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        exit_code: Its exit code, negative where a signal ended it.
        timed_out: True where we ended it after its time was up.
        log: What it printed, both streams; of a flood its beginning and its end.
        ended: Processes that left its group, outlived it and were ended by us, each as "pid command".
    """

    exit_code: int
    timed_out: bool
    seconds: float
    log: Path
    ended: tuple[str, ...] = ()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment.

    Below those that the system gives to whoever connects: it may be some seconds until it is used.
    """
    # Not the shared generator: whoever seeds that would have the same port everywhere.
    for port in (*secrets.SystemRandom().sample(_PORTS, 50), 0):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise ServerError("no port on 127.0.0.1 is free", hint="End something that listens, and run again.")


def application_environment(config: MigrationConfig, *, port: int | None = None) -> dict[str, str]:
    """Our environment plus PORT and `[app] env`: what the real application is started with.

    Without what a Prefect worker tells its flow run about itself.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT__")}
    return {**inherited, "PORT": str(port or config.app.port), **config.app.env}


def staged_environment(config: MigrationConfig, *, port: int, temporary: Path) -> dict[str, str]:
    """The environment of a staged process: as the real one, overlaid by `[staging] env`.

    HOME stays: interpreters, user-installed packages and model caches are found through it. What would
    make the process speak for the real service to systemd or take over its sockets is left out.

    Args:
        config: The application's configuration.
        port: The port of its own that it shall listen on.
        temporary: Its own folder for temporary files; made here.
    """
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    ours = {"PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    ours |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    inherited = application_environment(config, port=port)
    kept = {name: value for name, value in inherited.items() if name not in _OF_THE_REAL_SERVICE}
    return {**kept, **ours, **config.staging.env}


def ready_url(config: MigrationConfig, *, port: int) -> str:
    """Where the application says that it is ready, when it listens on *port* of 127.0.0.1."""
    ready = config.app.ready
    if "://" not in ready:
        return f"http://127.0.0.1:{port}/{ready.lstrip('/')}"
    parts = urlsplit(ready)
    return urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))


def run_command(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log_file: Path,
    timeout_s: float,
    watch: Callable[[list[int]], None] | None = None,
) -> CommandResult:
    """Run *command* to its end, or end it and all its children after *timeout_s*.

    Children that made a session of their own, or whose parent has gone, are found by a variable in
    their environment and ended too. What it prints beyond 64 MB goes, but for its beginning and its end.

    Args:
        command: Program and arguments; no shell.
        cwd: Where it runs.
        env: Its whole environment.
        log_file: Takes what it prints; replaced.
        timeout_s: Seconds until the whole process group is ended.
        watch: Called four times a second with the process ids that are there then.

    Raises:
        ServerError: The command cannot be started.
    """
    begun = time.monotonic()
    mark = secrets.token_hex(16)
    log_file.unlink(missing_ok=True)
    # Appended to, so that it can be cut while it is written.
    process = _spawn(command, cwd=cwd, env={**env, _MARK: mark}, log_file=log_file, mode="ab")
    timed_out = False
    ended: tuple[str, ...] = ()
    try:
        while not timed_out and not _ended_within(process, _WATCH_S):
            timed_out = time.monotonic() - begun > timeout_s
            _bound_log(log_file)
            if watch is not None:
                watch([p.pid for p in _tree(process.pid)])
    finally:
        # Also after a plain end: a child that a test forgot must not outlive its suite.
        _end_group(process, grace_s=_GRACE_S)
        ended = _end_marked(mark)
    return CommandResult(process.returncode, timed_out, time.monotonic() - begun, log_file, ended)


class Server:
    """A server process that we started, with its children.

    As a context manager it is stopped at the end of the block, whatever happened.

    Attributes:
        pid: The process id, which is its process group's too.
        log_file: Where its output goes.
    """

    def __init__(self, process: subprocess.Popen[bytes], *, log_file: Path, cwd: Path) -> None:
        self._process = process
        self._started = time.monotonic()
        self._peak_bytes = 0
        self.pid = process.pid
        self.log_file = log_file
        self._cwd = cwd

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log_file: Path,
        detached: bool = False,
    ) -> Self:
        """Start *command*; its output is appended to *log_file*. Returns at once.

        Unless *detached*, it dies when we do, however we die (on Linux).

        Raises:
            ServerError: The command cannot be started.
        """
        process = _spawn(command, cwd=cwd, env=env, log_file=log_file, mode="ab", detached=detached)
        return cls(process, log_file=log_file, cwd=cwd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """True while the process we started is there."""
        return self._process.poll() is None

    def wait_ready(self, url: str, *, timeout_s: float) -> float:
        """Wait until *url* answers 2xx; milliseconds since the start of the process.

        Raises:
            ServerError: It exited or did not get ready in time; its last log lines are named.
        """
        deadline = time.monotonic() + timeout_s
        with _client() as client:
            while time.monotonic() < deadline:
                if not self.running:
                    raise self._failure(f"exited with code {self._process.returncode} before it was ready")
                # Asked again after the answer: a stranger on this port may have given it.
                if _answers(client, url) and self.running:
                    return (time.monotonic() - self._started) * 1000
                time.sleep(_POLL_S)
        raise self._failure(f"was not ready after {timeout_s:g} s at {url}")

    def let_go(self) -> None:
        """Have a detached server begin; again and again is the same as once."""
        gate = self._process.stdin
        # A broken pipe: it ended while it waited, which whoever asks whether it is ready is told.
        if gate is not None and not gate.closed:
            with contextlib.suppress(BrokenPipeError):
                gate.write(b"\n")
                gate.flush()
            with contextlib.suppress(BrokenPipeError):
                gate.close()

    def stop(self, *, timeout_s: float = 10.0) -> int:
        """End the process and its children, forcibly after *timeout_s*; its exit code."""
        _end_group(self._process, grace_s=timeout_s)
        return self._process.returncode

    def pids(self) -> list[int]:
        """The process and all of its children that are there now."""
        return [p.pid for p in _tree(self.pid)]

    def peak_rss_bytes(self) -> int:
        """The most memory that the process and its children held so far.

        On Linux the kernel's own high-water mark of each, which no sampling can miss;
        elsewhere the most that any call of this method saw.
        """
        self._peak_bytes = max(self._peak_bytes, sum(_rss_bytes(p) for p in _tree(self.pid)))
        return self._peak_bytes

    def _failure(self, what: str) -> ServerError:
        # What it prints may be rows and settings; the log in the run's folder has all of it.
        tail = redaction_of(self._cwd).clean(log_tail(self.log_file))
        return ServerError(
            f"the server (process {self.pid}) {what}" + (f"; it printed last:\n{tail}" if tail else ""),
            hint=f"Its whole output is in {self.log_file}. "
            "The start command must listen on {port} (or $PORT) of 127.0.0.1.",
        )


@contextlib.contextmanager
def starting(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log_file: Path
) -> Iterator[Server]:
    """The real application, which begins to run when the block ends, and outlives us and our terminal.

    In the block its process is there and waits, so that it can be written down which one it is. Killed
    in the block, we leave no process behind; after it, none that nobody knows of.

    It has a session of its own, no terminal, and appends what it prints to *log_file*.
    Do not use the server as a context manager: that would stop it.

    Raises:
        ServerError: The command cannot be started.
    """
    server = Server.start(command, cwd=cwd, env=env, log_file=log_file, detached=True)
    try:
        yield server
    except BaseException:
        server.stop()
        raise
    server.let_go()


def start_detached(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log_file: Path) -> Server:
    """As :func:`starting`, begun at once."""
    with starting(command, cwd=cwd, env=env, log_file=log_file) as server:
        pass
    return server


def wait_ready(url: str, *, timeout_s: float) -> float:
    """Wait for a server that is not our child; milliseconds waited.

    Raises:
        ServerError: No 2xx answer within *timeout_s*.
    """
    begun = time.monotonic()
    with _client() as client:
        while time.monotonic() - begun < timeout_s:
            if _answers(client, url):
                return (time.monotonic() - begun) * 1000
            time.sleep(_POLL_S)
    raise ServerError(
        f"nothing answered at {url} within {timeout_s:g} s",
        hint="See the server's log for why it does not answer.",
    )


def log_tail(path: Path, *, lines: int = _TAIL_LINES) -> str:
    """The last *lines* of a log, at most 16 KiB of them; empty where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _spawn(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log_file: Path,
    mode: str,
    detached: bool = False,
) -> subprocess.Popen[bytes]:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log_file.open(mode) as output:
            return subprocess.Popen(
                _held_back(command, cwd, env) if detached else _dying_with_us(command, env),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.PIPE if detached else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except (OSError, IndexError) as error:
        raise ServerError(
            f"cannot start {command[0] if command else 'an empty command'!r} in {cwd}: {error}",
            hint="Check the command, python and cwd in unify.toml.",
        ) from error


def _held_back(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> list[str]:
    """*command*, which begins once its input has a line, and never where that ends without one."""
    if not command:
        return []
    place = str(cwd / command[0]) if os.sep in command[0] else command[0]
    # One that is not there is told by the system, who knows why.
    found = shutil.which(place, path=env.get("PATH")) is not None and Path(_SHELL).exists()
    return [_SHELL, "-c", _GATE, *command] if found else list(command)


def _dying_with_us(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """*command*, which the kernel ends when we die, so that no staged server outlives a kill -9.

    Not through a preexec_fn: that runs Python's fork hooks, and a signal that arrives meanwhile
    raises inside of one, where its exception is dropped.
    """
    found = bool(command) and shutil.which(command[0], path=env.get("PATH")) is not None
    if not (_SETPRIV and found and Path(_SHELL).exists()):
        return list(command)
    return [_SETPRIV, "--pdeathsig", "KILL", _SHELL, "-c", _CHILD, str(os.getpid()), *command]


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_group(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    """End *process* and what is left of its group: asked first, forced after *grace_s*."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        _ended_within(process, grace_s)
    # The children may outlive the leader; its group is still there for as long as one of them is.
    if process.poll() is None or _group_is_alive(process.pid):
        _signal_group(process.pid, signal.SIGKILL)
    process.wait(_GRACE_S)


def _end_marked(mark: str) -> tuple[str, ...]:
    """End the processes that have *mark* in their environment; each as "pid command"."""
    ended: dict[int, str] = {}
    deadline = time.monotonic() + _GRACE_S
    # One that forks while it is looked for may leave a child: looked again until nobody is there.
    while (left := [p for p in psutil.process_iter() if _has_mark(p, mark)]) and time.monotonic() < deadline:
        for process in left:
            ended[process.pid] = f"{process.pid} {process_table.command_of(process.pid)}"
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    return tuple(ended.values())


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == mark)
    except (psutil.Error, OSError):
        return False


def _bound_log(path: Path) -> None:
    """Cut a log that floods the disk back to its beginning; what follows is appended to that."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        with path.open("r+b") as stream:
            stream.seek(-_LOG_HEAD_BYTES, os.SEEK_END)
            # Whoever prints may have come to its end meanwhile: this is all of it that there will be.
            end = b""
            while chunk := stream.read(_LOG_HEAD_BYTES):
                end = (end + chunk)[-_LOG_HEAD_BYTES:]
            os.truncate(path, _LOG_HEAD_BYTES)
        with path.open("ab") as stream:
            stream.write(b"\n[cut here: it printed too much to keep]\n" + end)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def _rss_bytes(process: psutil.Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        mark = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        return int(mark.split()[1]) * 1024 if mark else int(process.memory_info().rss)
    except (OSError, psutil.Error):
        with contextlib.suppress(psutil.Error):
            return int(process.memory_info().rss)
        return 0


def _client() -> httpx.Client:
    # trust_env: a proxy in the environment must not stand between us and our own server.
    # verify: readiness is all that is asked, and a local certificate is often self-signed.
    return httpx.Client(trust_env=False, verify=False, timeout=5.0)  # noqa: S501 -- as said above


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False
