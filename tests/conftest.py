"""What several test modules share: real SQLite files, built from SQL or by LangGraph's own savers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

with contextlib.suppress(ImportError):
    import hypothesis

    # What is new every time is for `make fuzz`; and a loaded machine is no finding.
    hypothesis.settings.register_profile(
        "suite",
        deadline=None,
        derandomize="UNIFY_DB_FUZZ" not in os.environ,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("suite")

# Ports of each worker's own: some are drawn long before they are used, or free while a server restarts. Its
# children, whose ports are used at once, draw from others.
with contextlib.suppress(ImportError):
    from unified_db.migration import processes

    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
    processes._PORTS = range(10_000 + worker * 2_000, 12_000 + worker * 2_000)

# A suite that was started in the background would hand on that Ctrl-C is ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# One that was started with nohup would hand on that a closed terminal is ignored; a handler is not handed on.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

REPOSITORY = Path(__file__).parent.parent
_LONG = {
    *("test_applications", "test_approval", "test_asking", "test_cases", "test_cli", "test_crash_matrix"),
    *("test_deployments", "test_docs_commands", "test_end_to_end", "test_faults"),
}

# Small applications with tests of their own, which run on copies.
collect_ignore = ["applications"]


def build_database(path: Path, sql: str, *, wal: bool = False) -> Path:
    """A database at *path* with what *sql* makes of it; all connections are closed."""
    with closing(sqlite3.connect(path)) as conn:
        # `encoding` counts only before anything is written, which journal_mode=WAL would do.
        conn.executescript(sql)
        conn.commit()
        if wal:
            conn.execute("PRAGMA journal_mode=WAL")
    return path


def backwards(a: str, b: str) -> int:
    """An order that only an application knows."""
    return (a[::-1] > b[::-1]) - (a[::-1] < b[::-1])


@contextlib.contextmanager
def connected_as_the_application(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to *path* with a collation and a function that nobody else has."""
    with closing(sqlite3.connect(path)) as conn:
        conn.create_collation("BACKWARDS", backwards)
        conn.create_function("shout", 1, lambda text: text and text.upper(), deterministic=True)
        yield conn


@dataclass(frozen=True)
class Done:
    """How a call of the command ended, its one JSON object, and all that it told people."""

    exit_code: int
    answer: dict[str, Any]
    told: str


def unify(*arguments: object, through: Sequence[str] = (), **options: Any) -> Done:
    """Call `unify-db --json` as its entry point does."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    verb, *others = (os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments)
    done = subprocess.run(
        [*through, sys.executable, "-m", "unified_db._launcher", verb, "--json", *others],
        env=env,
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )
    told = done.stderr.decode(errors="replace")
    assert len(done.stdout.splitlines()) == 1, told
    return Done(done.returncode, json.loads(done.stdout), told)


def unify_without_privileges(*arguments: object, **options: Any) -> Done:
    """As :func:`unify`, and as root without the right to pass over permissions."""
    if os.geteuid():
        return unify(*arguments, **options)
    if shutil.which("setpriv") is None:
        pytest.skip("root passes over permissions, and setpriv, which takes that away, is not here")
    rights = "-dac_override,-dac_read_search,-fowner"
    return unify(*arguments, through=["setpriv", "--bounding-set", rights, "--inh-caps", rights], **options)


def look_at(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything under *folder*: names, kinds, sizes, times of change, and contents.

    Of a `-shm` file only that it is there and how big it is: it holds the locks of the moment.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        facts: tuple[object, ...] = (status.st_mode, status.st_ino)
        if stat.S_ISREG(status.st_mode):
            facts += (status.st_size,)
            if not path.name.endswith("-shm"):
                facts += (status.st_mtime_ns, path.read_bytes())
        found[str(path.relative_to(folder))] = facts
    return found


_USER = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.executescript(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def used_by_another(path: Path, sql: str) -> Iterator[subprocess.Popen[str]]:
    """*path* open in another process, which has executed *sql*, for the block.

    Another process, because a test that reads the bytes of a file drops the locks that its own
    connections hold on it.
    """
    command = [sys.executable, "-c", _USER, path, sql]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        try:
            assert user.stdout is not None
            assert user.stdout.readline() == "ready\n"
            yield user
        finally:
            user.kill()


@contextlib.contextmanager
def small_file_system(folder: Path, *, size: str) -> Iterator[Callable[[], None]]:
    """A file system of its own at *folder* for the block; yields what makes it read-only."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def without_a_look_at_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which packages an application's interpreter has is another test's matter, and takes a second."""
    monkeypatch.setattr("unified_db.migration.plan._require_runtime", lambda _config: None)


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Path]:
    """Makes `NAME` in the test's folder from SQL."""

    def make(name: str, sql: str, *, wal: bool = False) -> Path:
        return build_database(tmp_path / name, sql, wal=wal)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first: a file is one worker's, and at the end the other would only wait."""
    items.sort(key=lambda item: item.path.stem not in _LONG)
