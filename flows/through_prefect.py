"""Runs the flow in this process, and goes on without Prefect where Prefect fails.

Prefect shows and records a run; it must never be what stops one. Its API may be slow, gone, or
stuck on a locked database: every wait here has an end, and what was done by then is not done again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from flows import order
from flows.direct import Direct
from unified_db import sqlite
from unified_db.errors import SourceError, UnifyError
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.processes import free_port
from unified_db.migration.runs import RunFolder

log = logging.getLogger("unified_db.prefect")

HEALTH_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 5.0
START_TIMEOUT_S = 120.0
DRAIN_TIMEOUT_S = 10.0

# Asked for in the environment, since Prefect reads it once, while it is imported.
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # An API that does not answer is given up after seconds, not minutes.
    "PREFECT_API_REQUEST_TIMEOUT": "10",
    "PREFECT_CLIENT_MAX_RETRIES": "1",
    # Our own log lines belong to the run's pages.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "unified_db",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
# The terminal shows the same lines by itself, and none of Prefect's about what it could not send.
_QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}

# Set once Prefect has failed: at the end of the process it would go on trying to send what it
# holds, for seven seconds per event.
failed = threading.Event()

# Prefect's own way to a temporary server begins anew for ever when the server cannot open its
# database. This child ends by itself when we do, however we end: then its input is closed.
_SERVER = """
import os, signal, sys, threading
def watch():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
import uvicorn
uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1",
            port=int(sys.argv[1]), log_level="error", lifespan="on")
"""


class PrefectUnavailableError(Exception):
    """Prefect cannot be reached or started; the message says why."""


def migrate(
    config: MigrationConfig, run: RunFolder, *, dry_run: bool, home: Path | None = None
) -> order.Outcome:
    """As :func:`flows.order.migrate`, shown in Prefect where that is possible.

    With *home* a Prefect of its own records the run there, whatever else is set up.

    Raises:
        UnifyError: As the phases raise them; never because of Prefect.
    """
    try:
        return _migrate_in_flow(config, run, dry_run=dry_run, home=home)
    except UnifyError:
        raise
    except PrefectUnavailableError as error:
        log.warning("Prefect is not reachable (%s); going on without it", error)
    except Exception as error:
        if _is_cancelled(error):
            raise KeyboardInterrupt from error
        if phases.phase_of(error) is not None:
            raise
        # Whatever no phase raised is Prefect's. Were it ours, it would come again below.
        failed.set()
        log.warning("Prefect failed (%s); going on without it", type(error).__name__)
        log.info("Prefect's error", exc_info=True)
    return order.migrate(Direct(), config, run, dry_run=dry_run)


def _migrate_in_flow(
    config: MigrationConfig, run: RunFolder, *, dry_run: bool, home: Path | None
) -> order.Outcome:
    # Prefect's log handler writes to standard error, past every setting, what it could not send.
    logging.raiseExceptions = False
    with _reachable(run, home):
        from flows.unify import unify

        with order.prepared(run):
            return unify(config=config.file, dry_run=dry_run)


@contextlib.contextmanager
def _reachable(run: RunFolder, home: Path | None) -> Iterator[None]:
    """Prefect imported, with an API that answers: the one that is set up, else one of our own."""
    import_prefect(home)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = PREFECT_API_URL.value()
    if url:
        require_healthy(url)
        yield
        return
    require_free(_database())
    with _temporary_server(run) as own, temporary_settings({PREFECT_API_URL: own}):
        try:
            yield
        finally:
            _drain()


def import_prefect(home: Path | None = None) -> None:
    """Import Prefect with our settings where the user has none of his own, or at home in *home*.

    The environment is as before afterwards, since the application that we start inherits it.
    """
    kept = dict(os.environ)
    for name, value in {**SETTINGS, **_QUIET}.items():
        os.environ.setdefault(name, value)
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home)
        for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
            os.environ.pop(name, None)
    try:
        import prefect.main  # noqa: F401 -- its settings are read here, once
    finally:
        os.environ.clear()
        os.environ.update(kept)
        # The one that Prefect looks at again and again; it asks anybody else for the same courtesy.
        os.environ.setdefault("DO_NOT_TRACK", SETTINGS["DO_NOT_TRACK"])


def require_healthy(url: str) -> None:
    """Return where the API at *url* answers.

    Raises:
        PrefectUnavailableError: It does not, within seconds.
    """
    address = f"{url.rstrip('/')}/health"
    try:
        # Any answer will do: an API that asks for a password is there.
        with urllib.request.urlopen(address, timeout=HEALTH_TIMEOUT_S):  # noqa: S310 -- the user's own setting
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:
            return
        raise PrefectUnavailableError(f"{address} answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise PrefectUnavailableError(f"{address} does not answer") from error


def require_free(database: Path | None) -> None:
    """Return where Prefect's own *database* can be written, or is not there yet.

    Raises:
        PrefectUnavailableError: Another process holds its lock.
    """
    if database is None or not database.exists():
        return
    try:
        with sqlite.closing(sqlite.connect_writable(database, timeout_s=LOCK_TIMEOUT_S)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("ROLLBACK")
    except (sqlite3.Error, SourceError) as error:
        raise PrefectUnavailableError(f"its database {database} cannot be written: {error}") from error


def _database() -> Path | None:
    """Prefect's own SQLite file; None where it uses a server or memory."""
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    secret = get_current_settings().server.database.connection_url
    text = secret.get_secret_value() if secret is not None else ""
    if not text:
        return Path(get_current_settings().home) / "prefect.db"
    url = make_url(text)
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


@contextlib.contextmanager
def _temporary_server(run: RunFolder) -> Iterator[str]:
    """An API of our own for the length of the block, on the database that `prefect server start` uses."""
    from prefect.settings import get_current_settings

    port = free_port()
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # As Prefect starts its own: without pages, and with those services alone that record runs.
    ours = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    log.info("Prefect: starting a temporary server (the first start takes up to half a minute)")
    with (run.path / "prefect-server.log").open("wb") as output:
        process = subprocess.Popen(
            # -P: what lies in the current folder must not stand before Prefect's own modules.
            [sys.executable, "-P", "-c", _SERVER, str(port)],
            env={**os.environ, **SETTINGS, **settings, **ours},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is ours to handle: the run's end still has to be recorded.
            start_new_session=True,
        )
    try:
        _wait_until_up(process, port)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        _end(process)


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    def require_running() -> None:
        if process.poll() is not None:
            raise PrefectUnavailableError(f"its server ended with code {process.returncode}")

    wait_until_healthy(f"http://127.0.0.1:{port}/api", check=require_running)


def wait_until_healthy(url: str, *, check: Callable[[], None] = lambda: None) -> None:
    """Wait for an API that is starting; *check* is called before each look and may raise.

    Raises:
        PrefectUnavailableError: It does not answer in the time that a first start may take.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        check()
        with contextlib.suppress(PrefectUnavailableError):
            require_healthy(url)
            return
        time.sleep(0.2)
    raise PrefectUnavailableError(f"its server was not ready after {START_TIMEOUT_S:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _drain() -> None:
    """Let Prefect send the log lines and events that it still holds, for a bounded time."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    sends: list[Callable[[], object]] = [
        lambda: EventsWorker.drain_all(timeout=DRAIN_TIMEOUT_S),
        lambda: APILogWorker.drain_all(timeout=DRAIN_TIMEOUT_S),
    ]
    threads = [threading.Thread(target=send, daemon=True) for send in sends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DRAIN_TIMEOUT_S)


def _is_cancelled(error: Exception) -> bool:
    """True where a person ended the run from Prefect's pages."""
    from prefect.exceptions import Abort, CancelledRun

    return isinstance(error, (Abort, CancelledRun))
