"""The real application: is it running, stop it, start it, wait until it answers.

What the cut-over and the rollback need of it; staged copies are the business of `processes.py`, and
whether it is well on its new file that of `soak.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types

from unified_db.errors import CutoverRefusedError, CutoverUndoneError
from unified_db.migration import process_table, processes
from unified_db.migration.config import MigrationConfig
from unified_db.migration.processes import Server
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

_POLL_S = 0.02


def is_running(config: MigrationConfig) -> bool:
    """True where the application answers at its ready address, or one of its sources is open."""
    return answers(config) or bool(_users(config))


def is_away(config: MigrationConfig) -> bool:
    """True where nobody is served: it does not answer, whoever else has its files open.

    Without a server of its own, where nobody has.
    """
    return not (answers(config) if config.app.start else _users(config))


def answers(config: MigrationConfig) -> bool:
    """True where the application answers at its ready address."""
    if not config.app.start:
        # Without a server of its own, whatever answers at that port is somebody else's.
        return False
    with client() as asking:
        try:
            asking.get(processes.ready_url(config, port=config.app.port))
        except httpx.HTTPError:
            return False
    return True


def stop(config: MigrationConfig) -> None:
    """Run the configured stop command and wait until nobody has a source or the target open.

    Without a stop command a person stops it, before or now, when that is asked for.

    Raises:
        CutoverUndoneError: The command failed, or a process is still there after the time allowed.
    """
    if config.app.stop:
        result = processes.run_command(
            config.command(config.app.stop),
            cwd=config.cwd,
            env=processes.application_environment(config),
            log_file=config.state_folder / "stop.log",
            timeout_s=config.app.stop_timeout_s,
        )
        if result.exit_code:
            tail = processes.log_tail(result.log, lines=5)
            raise CutoverUndoneError(f"the stop command ended with code {result.exit_code}: {tail}")
    deadline = time.monotonic() + config.app.stop_timeout_s
    asked = bool(config.app.stop)
    while (users := _users(config)) or answers(config):
        found = f"by: {'; '.join(users)}" if users else "for it still answers at its ready address"
        if not asked:
            asked = True
            log.warning(
                "stop the application now, within %g s (unify.toml has no [app] stop): it is in use %s",
                config.app.stop_timeout_s,
                found,
            )
        if time.monotonic() > deadline:
            how = "" if config.app.stop else " ([app] stop in unify.toml names what stops it)"
            raise CutoverUndoneError(f"still in use after the stop, {found}{how}")
        time.sleep(_POLL_S)


def require_no_holders(paths: Sequence[Path], *, after: str) -> None:
    """Return where no process but this one has one of *paths* open.

    Raises:
        CutoverRefusedError: Names each such process with its command.
    """
    users = process_table.holders(paths, exclude={os.getpid()})
    if users:
        raise CutoverRefusedError(f"after {after} a database is still open in: {'; '.join(users)}")


@contextlib.contextmanager
def starting(config: MigrationConfig, run: RunFolder) -> Iterator[Server]:
    """The application, which begins to run when the block ends and outlives us; see `processes.starting`.

    Its output goes to the configured log, or to `server.log` in the run's folder.
    """
    with processes.starting(
        config.command(config.app.start),
        cwd=config.cwd,
        env=processes.application_environment(config),
        log_file=log_of(config, run),
    ) as server:
        yield server


def wait_healthy(config: MigrationConfig, server: Server) -> None:
    """Wait until *server* answers at its ready address.

    Raises:
        ServerError: It ended, or did not answer in the time allowed.
    """
    url = processes.ready_url(config, port=config.app.port)
    server.wait_ready(url, timeout_s=config.app.ready_timeout_s)


def end_started(known: Mapping[str, Any]) -> None:
    """End the process that `process_table.describe` told of, and its children, if it is there still.

    Asked first, then forced. Another process that has its number by now is left alone.
    """
    if not process_table.is_there(known):
        return
    pid = int(known["pid"])
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        _quietly(member.terminate)
    _, left = psutil.wait_procs(family, timeout=10)
    for member in left:
        _quietly(member.kill)
    psutil.wait_procs(left, timeout=5)


def log_of(config: MigrationConfig, run: RunFolder) -> Path:
    """Where the application's log is: the configured one, else what it prints in the run's folder."""
    return config.resolve(config.app.log) if config.app.log else run.server_log


def _users(config: MigrationConfig) -> list[str]:
    paths = [*(config.resolve(s.path) for s in config.source), config.target_path]
    return process_table.holders(paths, exclude={os.getpid()})


def client() -> httpx.Client:
    """A client for the application on this machine."""
    # A proxy in the environment must not stand between us and our own server.
    return httpx.Client(trust_env=False, verify=False, timeout=10.0)  # noqa: S501 - readiness alone is asked


def _quietly(act: object) -> None:
    try:
        act()  # type: ignore[operator]
    except psutil.NoSuchProcess:
        return
