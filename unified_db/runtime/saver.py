"""Drop-in savers for one shared file: LangGraph's own, with every write transaction in one trip.

The stock `AsyncSqliteSaver` awaits `execute` and `commit` one after the other, so it holds
SQLite's write lock while the event loop does something else. When that something is a sync
SQLAlchemy write to the same file, the loop waits for a lock that only the loop can release.
Here begin, statements and commit run in one call of one thread, for all that waits together.

Not here: where that thread comes from (`lanes.py`), what the rows look like (`rows.py`), and the
sync saver (`sync_saver.py`), which this module offers too.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from unified_db.runtime import upkeep
from unified_db.runtime.connections import BUSY_TIMEOUT_S
from unified_db.runtime.delta import read_history
from unified_db.runtime.lanes import AsyncLane, close_file, is_file, open_file
from unified_db.runtime.lent import LentAsyncLane
from unified_db.runtime.listing import Listing, Page
from unified_db.runtime.readers import Read
from unified_db.runtime.rows import (
    checkpoint_exists,
    checkpoint_row,
    checkpoint_tuple,
    find_checkpoint,
    place_of,
    saved_config,
    search_where,
    write_rows,
)
from unified_db.runtime.sync_saver import UnifiedSqliteSaver
from unified_db.runtime.tables import inspect_tables, is_read_only_error, make_tables
from unified_db.runtime.units import Unit, marked, thread_of, unit_of, unit_of_writes_async
from unified_db.runtime.work import Call, Work

if TYPE_CHECKING:
    from unified_db.runtime.database import UnifiedDatabase

__all__ = ["UnifiedAsyncSqliteSaver", "UnifiedSqliteSaver"]

Result = TypeVar("Result")


class UnifiedAsyncSqliteSaver(AsyncSqliteSaver):
    """`AsyncSqliteSaver` that never holds the write lock across a trip through the event loop.

    Same constructor, same rows on disk. A connection that is lent to it is used as it is. A saver
    that opened its file itself, through `from_conn_string`, shares this process's one writer of
    that file, and its reads wait for no writer.
    """

    # False for a read-only database from before the column. Releases before 3.1.2 do not set it.
    _has_task_path: bool = True

    def __init__(
        self,
        conn: aiosqlite.Connection | UnifiedDatabase,
        *,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Use *conn*.

        Args:
            conn: A connection, opened or not; or a `UnifiedDatabase`, whose transactions it then takes
                part in. Of a database the attribute `conn` is a connection that is not opened yet, for
                statements of the application: `async with saver.conn as conn`.
            serde: What checkpoints are serialized with.
        """
        lent = conn if isinstance(conn, aiosqlite.Connection) else conn.aiosqlite_connection()
        super().__init__(lent, serde=serde)
        self._lane: AsyncLane = (
            LentAsyncLane(conn, self.lock) if isinstance(conn, aiosqlite.Connection) else conn.lane
        )

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        async with aiosqlite.connect(conn_string, timeout=BUSY_TIMEOUT_S) as conn:
            if not is_file(conn_string):
                yield cls(conn)
                return
            lane = await asyncio.to_thread(open_file, Path(conn_string))
            saver = cls(conn)
            saver._lane = lane
            try:
                yield saver
            finally:
                await asyncio.to_thread(close_file, lane)

    async def setup(self) -> None:
        """Make LangGraph's tables where they are missing, with `writes.task_path`.

        A read-only database is left as it is and can be read.
        """
        if self.is_setup:
            return
        await self._lane.connect()
        state = await self._lane.read(inspect_tables)
        if not state.wal:
            await self._lane.use_wal()
        if not state.current:
            try:
                await self._lane.write(Call(make_tables))
            except sqlite3.OperationalError as error:
                if not (state.exist and is_read_only_error(error)):
                    raise
                self._has_task_path = False
        self.is_setup = True

    # --- Reading -----------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that *config* names, or the newest of its thread; see the stock saver."""
        place = place_of(config)
        found = await self._read(
            lambda conn: find_checkpoint(conn, place, has_task_path=self._has_task_path), config, place[:2]
        )
        if found is None:
            return None
        return checkpoint_tuple(*found, self.serde, config=config if place.checkpoint_id else None)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the stock signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first; see the stock saver. Between two pages nothing is held."""
        rest = await self._listing(config, filter, before, limit)
        while rest is not None:
            page = await self._read(rest.read, config, thread_of(config))
            for checkpoint in self._decode(page):
                yield checkpoint
            rest = page.rest

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """The writes of delta channels back to their last stored value; see the stock saver."""
        if not channels:
            return {}
        place, serde = place_of(config), self.serde
        return await self._read(
            lambda conn: read_history(conn, place, channels, serde, has_task_path=self._has_task_path),
            config,
            place[:2],
        )

    async def _listing(
        self,
        config: RunnableConfig | None,
        filter_: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing | None:
        await self.setup()
        return Listing(search_where(config, filter_, before), limit, has_task_path=self._has_task_path)

    def _decode(self, page: Page) -> Iterator[CheckpointTuple]:
        for stored, writes in page.found:
            yield checkpoint_tuple(stored, writes, self.serde)

    # --- Writing -----------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - the stock signature
    ) -> RunnableConfig:
        """Save a checkpoint; see the stock saver. *new_versions* is not stored, as there."""
        unit = await self._unit(config)
        if unit is not None:
            unit.note(place_of(config)._replace(checkpoint_id=checkpoint["id"]))
        await self._write(checkpoint_row(config, checkpoint, metadata, self.serde), unit)
        return saved_config(config, checkpoint)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save a task's pending writes; see the stock saver."""
        await self._unit()
        unit = await unit_of_writes_async(self._lane.key, config, lambda: self._exists(config))
        await self._write(write_rows(config, writes, (task_id, task_path), self.serde), unit)

    async def _exists(self, config: RunnableConfig) -> bool:
        place = place_of(config)
        return await self._lane.read(lambda conn: checkpoint_exists(conn, place))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread, also on a file that has no tables yet."""
        await self._write(upkeep.delete_thread(str(thread_id)), await self._unit())

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete what these runs wrote, save for what delta channels of later checkpoints need."""
        await self._write(upkeep.delete_for_runs(run_ids, self.serde), await self._unit())

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and pending writes of a thread to another one."""
        await self._write(
            upkeep.copy_thread(str(source_thread_id), str(target_thread_id)), await self._unit()
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, and what its delta channels need."""
        await self._write(upkeep.prune(thread_ids, strategy, self.serde), await self._unit())

    # --- Where all of it goes through --------------------------------------------------------

    async def _read(
        self, read: Read[Result], config: RunnableConfig | None, namespace: tuple[str, str | None] | None
    ) -> Result:
        unit = await self._unit(config)
        return await (self._lane.read(read) if unit is None else unit.read(self._lane, read, namespace))

    async def _write(self, work: Work, unit: Unit | None) -> None:
        if unit is not None:
            unit.add(work)
        else:
            await self._lane.write(work)

    async def _unit(self, config: RunnableConfig | None = None) -> Unit | None:
        # A lent connection tells which file it is once it is open, and a transaction is of a file.
        if not self.is_setup:
            await self.setup()
        return unit_of(self._lane.key, config)

    # --- From other threads ------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`aget_tuple`, from another thread than the event loop's."""
        found = self._from_thread(self.aget_tuple(config), "aget_tuple")
        return marked(found, unit_of(self._lane.key, None))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the stock signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist`, from another thread than the event loop's."""
        rest = self._from_thread(self._listing(config, filter, before, limit), "alist")
        while rest is not None:
            page = self._from_thread(self._read(rest.read, config, thread_of(config)), "alist")
            yield from self._decode(page)
            rest = page.rest

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput`, from another thread than the event loop's."""
        return self._from_thread(self.aput(config, checkpoint, metadata, new_versions), "aput")

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """`aput_writes`, from another thread than the event loop's."""
        self._from_thread(self.aput_writes(config, writes, task_id, task_path), "aput_writes")

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread`, from another thread than the event loop's."""
        self._from_thread(self.adelete_thread(thread_id), "adelete_thread")

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`adelete_for_runs`, from another thread than the event loop's."""
        self._from_thread(self.adelete_for_runs(run_ids), "adelete_for_runs")

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`acopy_thread`, from another thread than the event loop's."""
        self._from_thread(self.acopy_thread(source_thread_id, target_thread_id), "acopy_thread")

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`aprune`, from another thread than the event loop's."""
        self._from_thread(self.aprune(thread_ids, strategy=strategy), "aprune")

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """`aget_delta_channel_history`, from another thread than the event loop's."""
        history = self.aget_delta_channel_history(config=config, channels=channels)
        return self._from_thread(history, "aget_delta_channel_history")

    def _from_thread(self, work: Coroutine[Any, Any, Result], method: str) -> Result:
        """Run *work* on the saver's loop and wait for it.

        Raises:
            asyncio.InvalidStateError: Called on that loop's own thread, which would wait for itself.
        """
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            work.close()
            raise asyncio.InvalidStateError(
                f"a sync method of {type(self).__name__} was called on its event loop's own thread, which "
                f"would wait for itself. Use `await saver.{method}(...)` or `graph.ainvoke` there: "
                "sync methods are for other threads."
            )
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()
