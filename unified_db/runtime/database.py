"""`UnifiedDatabase`: one file for an application's rows and its LangGraph state.

Not here: what a transaction does (`transactions.py`), and how its engines begin one
(`engines.py`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import aiosqlite
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from unified_db.errors import UsageError
from unified_db.runtime import transactions
from unified_db.runtime.connections import BUSY_TIMEOUT_S, FileSettings, Synchronous
from unified_db.runtime.engines import EngineSettings, make_async_engine, make_engine
from unified_db.runtime.holds import holder_of
from unified_db.runtime.lanes import FileKey, close_file, open_file
from unified_db.runtime.tables import inspect_tables, make_tables
from unified_db.runtime.threads import ThreadSummary, list_threads
from unified_db.runtime.units import outside
from unified_db.runtime.work import Call

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

# Long for a write to one file, short for a person who wonders why the application is slow.
WARN_HELD_S = 1.0


class UnifiedDatabase:
    """One SQLite file, its writer, its readers and its SQLAlchemy engines.

    ```python
    db = UnifiedDatabase("app.sqlite")
    graph = builder.compile(checkpointer=UnifiedAsyncSqliteSaver(db))
    async with db.transaction() as session:
        session.add(Message(...))
        await graph.ainvoke(state, config)   # both are committed at the end, or neither
    await db.aclose()
    ```

    Opening the same file twice is cheap: its threads are shared within a process.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        foreign_keys: bool = True,
        warn_held_s: float = WARN_HELD_S,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Open *path*; the file is made where it is missing.

        Args:
            path: A path, or a SQLAlchemy URL of SQLite.
            synchronous: "FULL" as SQLite and the stock savers have it, or "NORMAL": faster, and after a
                power cut the last commits may be missing, though the file is whole.
            busy_timeout_s: Seconds to wait for other processes' write transactions.
            foreign_keys: Whether SQLite enforces foreign keys on the engines' connections.
            warn_held_s: Log a warning when an engine's write transaction lasts longer than this.
            engine_options: For `create_engine` and `create_async_engine`: `echo`, `json_serializer`, ...

        Raises:
            UsageError: *path* names no file, or one in a folder that does not exist.
        """
        self.path = _path_of(path).absolute()
        self.settings = FileSettings(synchronous, busy_timeout_s)
        self.lane = open_file(self.path, self.settings)
        self.key: FileKey = self.lane.key
        self.lane.writer.holder = self._holder
        self._engine_settings = EngineSettings(
            self.path, self.key, self.settings, foreign_keys, warn_held_s, self.lane.writer.gate
        )
        self._engine_options = dict(engine_options or {})
        self._lent: list[sqlite3.Connection] = []
        self._prepared = False
        self._closed = False

    def _holder(self) -> str | None:
        hold = holder_of(self.key)
        return hold.place if hold else None

    # --- SQLAlchemy ------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """A sync SQLAlchemy engine; a transaction takes the write lock at its first write."""
        return make_engine(self._engine_settings, self._engine_options)

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """An asyncio SQLAlchemy engine; a transaction takes the write lock at its first write."""
        return make_async_engine(self._engine_settings, self._engine_options)

    def transaction(self, **session_options: Any) -> AbstractAsyncContextManager[AsyncSession]:
        """A session that commits with everything that graphs and stores are given inside the block.

        Rows that are added to the session and what savers and stores of this file are given go to the
        file at the end of the block, in one short write transaction; an exception or a cancellation
        leaves nothing. Inside, savers and stores see what they were given; the session's queries see
        the file. A nested block joins the outer one.

        Args:
            **session_options: For `AsyncSession`; `autoflush` and `expire_on_commit` are off unless given.

        Raises:
            WriteLockHeldError: At the end, when somebody held the write lock for the busy timeout.
            TransactionFailedError: At the end, when an inner block had failed.
        """
        return transactions.transaction(self, session_options)

    def transaction_sync(self, **session_options: Any) -> AbstractContextManager[Session]:
        """As `transaction`, for threads, with a sync session."""
        return transactions.transaction_sync(self, session_options)

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        """A block in which graphs, stores and `transaction` are not part of an open transaction.

        For what must be kept whatever becomes of it, such as an audit trail, and for starting tasks
        that live longer than it.
        """
        with outside(self.key):
            yield

    # --- Tables ----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make LangGraph's checkpoint tables where they are missing. Costs nothing the second time."""
        if not self._prepared:
            if not (await self.lane.read(inspect_tables)).current:
                await self.lane.write(Call(make_tables))
            self._prepared = True

    def prepare_sync(self) -> None:
        """As `prepare`, for threads."""
        if not self._prepared:
            if not self.lane.read_sync(inspect_tables).current:
                self.lane.write_sync(Call(make_tables))
            self._prepared = True

    def threads(self, *, limit: int | None = None, offset: int = 0) -> list[ThreadSummary]:
        """The LangGraph threads in the file, the most recently used first; no state is read."""
        self.prepare_sync()
        return self.lane.read_sync(lambda conn: list_threads(conn, limit=limit, offset=offset))

    async def athreads(self, *, limit: int | None = None, offset: int = 0) -> list[ThreadSummary]:
        """As `threads`, on an event loop."""
        await self.prepare()
        return await self.lane.read(lambda conn: list_threads(conn, limit=limit, offset=offset))

    # --- Plain connections -------------------------------------------------------------------------

    def sqlite3_connection(self) -> sqlite3.Connection:
        """A plain connection of its own, as the `conn` of a sync saver; closed with the database."""
        conn = sqlite3.connect(self.path, timeout=self.settings.busy_timeout_s, check_same_thread=False)
        self._lent.append(conn)
        return conn

    def aiosqlite_connection(self) -> aiosqlite.Connection:
        """A plain connection that is not opened yet, as the `conn` of an async saver."""
        return aiosqlite.connect(self.path, timeout=self.settings.busy_timeout_s)

    # --- The end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what waits and close the file.

        The asyncio engine's connections can only be closed on an event loop: use `aclose` where it
        was used.
        """
        if not self._closed:
            self._closed = True
            if "engine" in self.__dict__:
                self.engine.dispose()
            if "async_engine" in self.__dict__:
                self.async_engine.sync_engine.dispose(close=False)
            for conn in self._lent:
                conn.close()
            close_file(self.lane)

    async def aclose(self) -> None:
        """Finish what waits and close the file, with both engines."""
        if not self._closed:
            if "async_engine" in self.__dict__:
                await self.async_engine.dispose()
            await asyncio.to_thread(self.close)

    def __enter__(self) -> UnifiedDatabase:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> UnifiedDatabase:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"UnifiedDatabase({str(self.path)!r})"


def _path_of(path: str | Path) -> Path:
    name = str(path)
    if name.startswith("sqlite"):
        url = make_url(name) if ":" in name.split("/", 1)[0] else None
        name = (url.database or "") if url is not None else name
    if name in ("", ":memory:") or name.startswith("file:"):
        raise UsageError(
            f"{str(path)!r} names no file",
            hint="A database in memory belongs to one connection, so nothing can share it. Give the path of "
            "a file; it is made where it is missing.",
        )
    if "://" in name:
        raise UsageError(
            f"the URL begins with {name.split(':')[0]!r}; expected a path, or a URL of SQLite",
            hint="The unified database is one SQLite file. Give its path.",
        )
    _require_place(Path(name))
    return Path(name)


def _require_place(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="Give the path of a file in it.")
    if not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be made: {path.parent} is not a folder that exists",
            hint="Nothing was made. Create the folder, or correct the path; a relative one counts from "
            f"{Path.cwd()}.",
        )
