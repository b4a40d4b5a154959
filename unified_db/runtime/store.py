"""Drop-in stores: LangGraph's long-term memory, on the same writer as everything else in the file.

The stock `AsyncSqliteStore` holds the write lock across trips through the event loop, and through
an embedding model, in each of its batches.
"""

from __future__ import annotations

import asyncio
import sqlite3
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosqlite
from langgraph.store.base import Op, Result, TTLConfig
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from unified_db.runtime.connections import BUSY_TIMEOUT_S
from unified_db.runtime.lanes import AsyncLane, SyncLane, close_file, is_file, open_file
from unified_db.runtime.lent import LentAsyncLane, LentLane
from unified_db.runtime.store_batch import Batch, make_store_tables, store_is_current, sweep
from unified_db.runtime.units import any_unit, nowhere, unit_of
from unified_db.runtime.work import Call

if TYPE_CHECKING:
    from langgraph.store.sqlite.base import SqliteIndexConfig

    from unified_db.runtime.database import UnifiedDatabase

__all__ = ["UnifiedAsyncSqliteStore", "UnifiedSqliteStore"]

Loader = Callable[[Any], dict[str, Any]]


class UnifiedAsyncSqliteStore(AsyncSqliteStore):
    """`AsyncSqliteStore` that never holds the write lock across a trip through the event loop.

    Same constructor, same tables. Inside a `UnifiedDatabase.transaction()` what is put is committed
    with the rest, and reads see it.
    """

    def __init__(
        self,
        conn: aiosqlite.Connection | UnifiedDatabase,
        *,
        deserializer: Loader | None = None,
        index: SqliteIndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        """Use *conn*, a connection or a `UnifiedDatabase`; the rest is as in the stock store."""
        lent = conn if isinstance(conn, aiosqlite.Connection) else conn.aiosqlite_connection()
        super().__init__(lent, deserializer=deserializer, index=index, ttl=ttl)
        if self._task is not None:
            self._task.cancel()
        self._task, self._aqueue = None, _Queue(self)
        self._ensure_task()
        self._lane: AsyncLane = (
            LentAsyncLane(conn, self.lock) if isinstance(conn, aiosqlite.Connection) else conn.lane
        )

    @classmethod
    @asynccontextmanager
    async def from_conn_string(
        cls, conn_string: str, *, index: SqliteIndexConfig | None = None, ttl: TTLConfig | None = None
    ) -> AsyncIterator[UnifiedAsyncSqliteStore]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        async with aiosqlite.connect(conn_string, isolation_level=None, timeout=BUSY_TIMEOUT_S) as conn:
            store = cls(conn, index=index, ttl=ttl)
            if not is_file(conn_string):
                yield store
                return
            lane = await asyncio.to_thread(open_file, Path(conn_string))
            store._lane = lane
            try:
                yield store
            finally:
                await asyncio.to_thread(close_file, lane)

    def _ensure_task(self) -> None:
        # The stock store's own task lives as long as the store: it must not inherit a transaction.
        with nowhere():
            super()._ensure_task()

    async def setup(self) -> None:
        """Make the store's tables, or bring them up to date, in one transaction."""
        if not self.is_setup:
            await self._lane.connect()
            await self._lane.use_wal()
            if not await self._lane.read(lambda conn: store_is_current(conn, self)):
                await self._lane.write(Call(lambda conn: make_store_tables(conn, self)))
            self.is_setup = True

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute *ops*: reads first, then puts, in one transaction and one trip."""
        await self.setup()
        batch = Batch(self, ops)
        texts = batch.texts()
        vectors = await self.embeddings.aembed_documents(texts) if texts and self.embeddings else []
        made = dict(zip(texts, vectors, strict=True))

        def run(conn: sqlite3.Connection) -> list[Any]:
            return batch.run(conn, made)

        unit = unit_of(self._lane.key, None)
        if unit is None:
            results: list[Any] = await (self._lane.write(Call(run)) if batch.writes else self._lane.read(run))
            return results
        results = await unit.look(self._lane, run) if batch.returns else batch.nothing()
        if batch.writes:
            unit.add(Call(run))
        return results

    async def sweep_ttl(self) -> int:
        """Delete items that have outlived their time; how many."""
        await self.setup()
        return int(await self._lane.write(Call(sweep)))


class _Queue(asyncio.Queue[Any]):
    """The stock store's queue, which collects what several tasks want into one batch.

    Its worker runs in no transaction, so what comes from inside one goes by a task of its own.
    """

    def __init__(self, store: UnifiedAsyncSqliteStore) -> None:
        super().__init__()
        # The store's worker holds this queue, and must not keep the store alive.
        self._store = weakref.ref(store)
        self._tasks: set[asyncio.Task[None]] = set()

    def put_nowait(self, item: Any) -> None:
        """Queue a future and its operation."""
        store = self._store()
        if store is None or not _may_be_inside(store):
            super().put_nowait(item)
            return
        task = asyncio.get_running_loop().create_task(_do(store, *item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_be_inside(store: UnifiedAsyncSqliteStore) -> bool:
    # A lent connection tells which file it is once it is open.
    if not store.is_setup:
        return any_unit()
    return unit_of(store._lane.key, None) is not None  # noqa: SLF001 - its own store


async def _do(store: UnifiedAsyncSqliteStore, future: asyncio.Future[Any], op: Op) -> None:
    try:
        (result,) = await store.abatch([op])
    except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)


class UnifiedSqliteStore(SqliteStore):
    """`SqliteStore` on the file's one writer.

    Same constructor, same tables. Inside a `UnifiedDatabase.transaction_sync()` what is put is
    committed with the rest, and reads see it.
    """

    def __init__(
        self,
        conn: sqlite3.Connection | UnifiedDatabase,
        *,
        deserializer: Loader | None = None,
        index: SqliteIndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        """Use *conn*, a connection or a `UnifiedDatabase`; the rest is as in the stock store."""
        lent = conn if isinstance(conn, sqlite3.Connection) else conn.sqlite3_connection()
        super().__init__(lent, deserializer=deserializer, index=index, ttl=ttl)
        self._lane: SyncLane = (
            LentLane(conn, self.lock) if isinstance(conn, sqlite3.Connection) else conn.lane
        )

    @classmethod
    @contextmanager
    def from_conn_string(
        cls, conn_string: str, *, index: SqliteIndexConfig | None = None, ttl: TTLConfig | None = None
    ) -> Iterator[UnifiedSqliteStore]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        conn = sqlite3.connect(
            conn_string, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S
        )
        with closing(conn):
            store = cls(conn, index=index, ttl=ttl)
            if not is_file(conn_string):
                yield store
                return
            lane = open_file(Path(conn_string))
            store._lane = lane
            try:
                yield store
            finally:
                close_file(lane)

    def setup(self) -> None:
        """Make the store's tables, or bring them up to date, in one transaction."""
        if not self.is_setup:
            self._lane.use_wal_sync()
            if not self._lane.read_sync(lambda conn: store_is_current(conn, self)):
                self._lane.write_sync(Call(lambda conn: make_store_tables(conn, self)))
            self.is_setup = True

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute *ops*: reads first, then puts, in one transaction."""
        self.setup()
        batch = Batch(self, ops)
        texts = batch.texts()
        vectors = self.embeddings.embed_documents(texts) if texts and self.embeddings else []
        made = dict(zip(texts, vectors, strict=True))

        def run(conn: sqlite3.Connection) -> list[Any]:
            return batch.run(conn, made)

        unit = unit_of(self._lane.key, None)
        if unit is None:
            found = self._lane.write_sync(Call(run)) if batch.writes else self._lane.read_sync(run)
            return list(found)
        results = unit.look_sync(self._lane, run) if batch.returns else batch.nothing()
        if batch.writes:
            unit.add(Call(run))
        return results

    def sweep_ttl(self) -> int:
        """Delete items that have outlived their time; how many."""
        self.setup()
        return int(self._lane.write_sync(Call(sweep)))
