"""Ways to a database, and the one of our own: the threads of a file.

A lane runs reads in one trip and writes in one transaction in one trip. A saver or store asks
its lane and knows nothing of threads; a lane knows nothing of checkpoints.

| lane | for | writes | reads |
|---|---|---|---|
| `FileLane` | `UnifiedDatabase`, `from_conn_string` | one writer per process and file | reader threads |
| `LentAsyncLane` | an `aiosqlite.Connection` | in that connection's thread | there too |
| `LentLane` | a `sqlite3.Connection` | in the calling thread | there too |

The last two are in `lent.py`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, Protocol, TypeVar

from unified_db.runtime.connections import FileSettings, file_key, key_at, moved_error, require_same_name
from unified_db.runtime.readers import Read, ReaderPool
from unified_db.runtime.work import Work
from unified_db.runtime.writer import Ending, Writer

Result = TypeVar("Result")
FileKey = tuple[int, int]


class AsyncLane(Protocol):
    """What `UnifiedAsyncSqliteSaver` and `UnifiedAsyncSqliteStore` need."""

    @property
    def key(self) -> FileKey | None:
        """What makes the file one file; None for a database in memory."""
        ...

    async def connect(self) -> None:
        """Open what is not open yet."""
        ...

    async def use_wal(self) -> None:
        """Switch the database to WAL, as the stock savers do."""
        ...

    async def read(self, read: Read[Result]) -> Result:
        """The result of *read*, in one trip."""
        ...

    async def write(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in one transaction; the result of the last."""
        ...


class SyncLane(Protocol):
    """What `UnifiedSqliteSaver` and `UnifiedSqliteStore` need."""

    @property
    def key(self) -> FileKey | None:
        """What makes the file one file; None for a database in memory."""
        ...

    def use_wal_sync(self) -> None:
        """Switch the database to WAL, as the stock savers do."""
        ...

    def read_sync(self, read: Read[Result]) -> Result:
        """The result of *read*."""
        ...

    def write_sync(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in one transaction; the result of the last."""
        ...


class FileLane:
    """The threads of one file, shared by everything in this process that has it open."""

    def __init__(self, path: Path, settings: FileSettings, key: FileKey) -> None:
        self.path = path
        self.settings = settings
        self.key = key
        self.writer = Writer(path, settings)
        self.readers = ReaderPool(path, settings)
        self.users = 0

    def require_in_place(self) -> None:
        """Return where the path still leads to the file that was opened.

        Raises:
            DatabaseMovedError: It was deleted, moved or replaced. SQLite would go on in the file that
                nobody can open any more, and a new connection would find another one.
        """
        found = key_at(self.path)
        if found != self.key:
            raise moved_error(self.path, gone=found is None)

    async def connect(self) -> None:
        """Nothing: the threads connect when there is work."""

    async def use_wal(self) -> None:
        """Switch the database to WAL, which the writer does when it connects."""
        await self.writer.run()

    def use_wal_sync(self) -> None:
        """Switch the database to WAL, which the writer does when it connects."""
        self.writer.run_sync()

    async def read(self, read: Read[Result]) -> Result:
        """The result of *read*, in a reader thread; waits for no writer."""
        self.require_in_place()
        return await self.readers.run(read)

    def read_sync(self, read: Read[Result]) -> Result:
        """The result of *read*, in a reader thread; waits for no writer."""
        self.require_in_place()
        return self.readers.run_sync(read)

    async def write(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in the writer's next transaction; see `Writer.run`."""
        self.require_in_place()
        return await self.writer.run(*works, ending=ending)

    def write_sync(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in the writer's next transaction; see `Writer.run_sync`."""
        self.require_in_place()
        return self.writer.run_sync(*works, ending=ending)


_OPEN: dict[FileKey, FileLane] = {}
_OPEN_LOCK = threading.Lock()


def open_file(path: Path, settings: FileSettings | None = None) -> FileLane:
    """The lane of *path*; made with the first user, the same for all others in this process.

    Where users ask for different settings, the first one's hold. The file is made where it is
    missing. Every call needs a `close_file`.
    """
    settings = settings or FileSettings()
    path = path.absolute()
    with _OPEN_LOCK:
        if not path.exists():
            # Connecting makes the file, and looks at nothing of one that is there.
            sqlite3.connect(path).close()
        key = file_key(path)
        lane = _OPEN.get(key)
        if lane is not None and key_at(lane.path) != key:
            # That one was deleted, and its number given to this file.
            lane = None
        if lane is None:
            lane = _OPEN[key] = FileLane(path, settings, key)
        require_same_name(path, lane.path)
        lane.users += 1
        return lane


def close_file(lane: FileLane) -> None:
    """Give *lane* back; the last user's call finishes its work and ends its threads."""
    with _OPEN_LOCK:
        lane.users -= 1
        if lane.users:
            return
        if _OPEN.get(lane.key) is lane:
            del _OPEN[lane.key]
    lane.readers.close()
    # Last, so that its connection is the last of this process: closing it brings the WAL into the file.
    lane.writer.close()


def _renew_after_fork() -> None:
    """Give the child threads and connections of its own, while it has one thread only."""
    global _OPEN_LOCK  # noqa: PLW0603 - another thread of the parent may have held it
    _OPEN_LOCK = threading.Lock()
    for lane in _OPEN.values():
        lane.writer.renew_after_fork()
        lane.readers.renew_after_fork()


os.register_at_fork(after_in_child=_renew_after_fork)


def is_file(conn_string: str) -> bool:
    """Whether `sqlite3.connect(conn_string)` opens a file, and not a database of that connection."""
    return str(conn_string) not in ("", ":memory:")
