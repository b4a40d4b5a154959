"""The connections that our own threads use, and which errors of SQLite mean what.

Not here: connections that an application lends to a saver (`lanes.py`) and those of SQLAlchemy
(`engines.py`).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unified_db.errors import DatabaseMovedError, UsageError, WriteLockHeldError

log = logging.getLogger(__name__)

Synchronous = Literal["NORMAL", "FULL", "EXTRA"]

BUSY_TIMEOUT_S = 30.0
# A checkpoint insert, three kinds of pending writes and their reads, for every caller alike.
_CACHED_STATEMENTS = 256


@dataclass(frozen=True)
class FileSettings:
    """How our threads open a file.

    Attributes:
        synchronous: FULL, as the stock savers have it: what is committed survives a power cut.
            NORMAL survives a crash of the application, and is several times faster.
        busy_timeout_s: Seconds to wait for another process's write transaction.
    """

    synchronous: Synchronous = "FULL"
    busy_timeout_s: float = BUSY_TIMEOUT_S


class ThreadConnection(sqlite3.Connection):
    """A connection of one of our threads.

    Attributes:
        known: What functions and extensions it was given.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known: set[str] = set()


def connect_writer(path: Path, settings: FileSettings) -> sqlite3.Connection:
    """A read-write connection in autocommit mode, WAL set; makes the file where it is missing."""
    conn = _connect(path, settings)
    # WAL keeps readers and the writer out of each other's way. It stays set in the file.
    conn.execute("PRAGMA journal_mode=WAL").fetchone()
    conn.execute(f"PRAGMA synchronous={settings.synchronous}")
    return conn


def connect_reader(path: Path, settings: FileSettings) -> sqlite3.Connection:
    """A connection that refuses to write.

    Not opened with mode=ro: on a WAL database that connection could not bring the WAL in order
    when it is the first one after a crash.
    """
    conn = _connect(path, settings)
    conn.execute("PRAGMA query_only=1")
    return conn


def _connect(path: Path, settings: FileSettings) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=settings.busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        factory=ThreadConnection,
        cached_statements=_CACHED_STATEMENTS,
    )


def begin_immediate(conn: sqlite3.Connection, left_s: float) -> None:
    """BEGIN IMMEDIATE, waiting *left_s* for other processes, or as long as *conn* was opened with."""
    cursor = sqlite3.Cursor(conn)
    (usual_ms,) = cursor.execute("PRAGMA busy_timeout").fetchone()
    cursor.execute(f"PRAGMA busy_timeout={max(0, min(int(left_s * 1000), usual_ms))}").fetchone()
    try:
        cursor.execute("BEGIN IMMEDIATE")
    finally:
        cursor.execute(f"PRAGMA busy_timeout={usual_ms}").fetchone()


def file_key(path: Path) -> tuple[int, int]:
    """What makes *path* one file, under whichever name it is opened."""
    status = os.stat(path)  # noqa: PTH116 - the same call as Path.stat, without the object
    return status.st_dev, status.st_ino


def key_at(path: Path) -> tuple[int, int] | None:
    """As `file_key`; None where there is nothing at *path*."""
    try:
        return file_key(path)
    except FileNotFoundError:
        return None


def require_same_name(path: Path, opened: Path) -> None:
    """Return where *path* is the name that the file was opened by, also through symbolic links.

    Raises:
        UsageError: It is another name of the same file, a hard link.
    """
    if path == opened:
        return
    one, other = path.resolve(), opened.resolve()
    if one.name != other.name or not one.parent.samefile(other.parent):
        raise UsageError(
            f"{path} and {opened} are two names of one file, by a hard link",
            hint="Nothing was opened. SQLite keeps the newest rows beside each name, so using both would "
            "destroy the file. Use one name everywhere; a symbolic link is fine.",
        )


def moved_error(path: Path, *, gone: bool) -> DatabaseMovedError:
    """The error for a file that is not where it was opened."""
    what = "moved or deleted" if gone else "replaced"
    return DatabaseMovedError(
        f"{path} is not the file that was opened: it was {what} meanwhile",
        hint="Nothing was written: it would have gone to a file that nobody can open any more. Close the "
        "database and open it again, and stop the application before its file is moved.",
    )


def file_of(conn: sqlite3.Connection) -> Path | None:
    """The file behind a connection's main database; None for one in memory."""
    cursor = conn.cursor()
    cursor.row_factory = None
    name = next((row[2] for row in cursor.execute("PRAGMA database_list") if row[1] == "main"), "")
    return Path(os.fsdecode(name)) if name else None


def is_busy(error: BaseException) -> bool:
    """Whether *error* says that somebody else holds a lock."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def lock_held_error(path: Path | None, timeout_s: float, place: str | None = None) -> WriteLockHeldError:
    """The error for a writer that waited in vain.

    Args:
        path: The file.
        timeout_s: How long was waited.
        place: Where in this process the lock is held, when that is known.
    """
    holder = f"it is held in this process, since {place}" if place else "another connection holds it"
    return WriteLockHeldError(
        f"database is locked: waited {timeout_s:g} s for {path or 'the database'}; {holder}",
        hint="Nothing was written. Commit before running a graph, or use `UnifiedDatabase.transaction()`, "
        "which writes at its end and holds no lock while a graph runs.",
    )
