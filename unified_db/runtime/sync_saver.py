"""`UnifiedSqliteSaver`: LangGraph's `SqliteSaver` on one shared file, for threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite import SqliteSaver

from unified_db.runtime import upkeep
from unified_db.runtime.connections import BUSY_TIMEOUT_S
from unified_db.runtime.delta import read_history
from unified_db.runtime.lanes import SyncLane, close_file, is_file, open_file
from unified_db.runtime.lent import LentLane, open_transaction_error
from unified_db.runtime.listing import Listing
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
from unified_db.runtime.tables import inspect_tables, is_read_only_error, make_tables
from unified_db.runtime.units import Unit, marked, thread_of, unit_of, unit_of_writes
from unified_db.runtime.work import Call, Work

if TYPE_CHECKING:
    from unified_db.runtime.database import UnifiedDatabase

Result = TypeVar("Result")


class UnifiedSqliteSaver(SqliteSaver):
    """`SqliteSaver` whose writes share commits, and whose listings hold nothing between two pages.

    Same constructor, same rows on disk. A connection that is lent to it is used as it is. A saver
    that opened its file itself, through `from_conn_string`, shares this process's one writer of
    that file, and its reads wait for no writer.
    """

    # False for a read-only database from before the column. Releases before 3.1.2 do not set it.
    _has_task_path: bool = True

    def __init__(
        self,
        conn: sqlite3.Connection | UnifiedDatabase,
        *,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Use *conn*.

        Args:
            conn: A connection, made with `check_same_thread=False` where graphs use several threads; or a
                `UnifiedDatabase`, whose transactions it then takes part in.
            serde: What checkpoints are serialized with.
        """
        lent = conn if isinstance(conn, sqlite3.Connection) else conn.sqlite3_connection()
        super().__init__(lent, serde=serde)
        self._lane: SyncLane = (
            LentLane(conn, self.lock) if isinstance(conn, sqlite3.Connection) else conn.lane
        )

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str) -> Iterator[UnifiedSqliteSaver]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        with closing(sqlite3.connect(conn_string, check_same_thread=False, timeout=BUSY_TIMEOUT_S)) as conn:
            if not is_file(conn_string):
                yield cls(conn)
                return
            lane = open_file(Path(conn_string))
            saver = cls(conn)
            saver._lane = lane
            try:
                yield saver
            finally:
                close_file(lane)

    def setup(self) -> None:
        """Make LangGraph's tables where they are missing, with `writes.task_path`.

        A read-only database is left as it is and can be read.
        """
        if self.is_setup:
            return
        state = self._lane.read_sync(inspect_tables)
        if not state.wal:
            self._lane.use_wal_sync()
        if not state.current:
            try:
                self._lane.write_sync(Call(make_tables))
            except sqlite3.OperationalError as error:
                if not (state.exist and is_read_only_error(error)):
                    raise
                self._has_task_path = False
        self.is_setup = True

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """A cursor on `conn` under the saver's lock; commits at the end, rolls back on an exception.

        For an application's own statements. The stock cursor commits in a `finally`, so half of
        what a failing block wrote stays.

        Raises:
            OpenTransactionError: `conn` has a transaction open already, which is not ours to commit.
        """
        self.setup()
        with self.lock:
            if transaction and self.conn.in_transaction:
                raise open_transaction_error(self.conn)
            with closing(self.conn.cursor()) as cursor:
                try:
                    yield cursor
                except BaseException:
                    if transaction:
                        self.conn.rollback()
                    raise
                if transaction:
                    self.conn.commit()

    # --- Reading -----------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that *config* names, or the newest of its thread; see the stock saver."""
        place = place_of(config)
        found = self._read(
            lambda conn: find_checkpoint(conn, place, has_task_path=self._has_task_path), config, place[:2]
        )
        if found is None:
            return None
        found_tuple = checkpoint_tuple(*found, self.serde, config=config if place.checkpoint_id else None)
        return marked(found_tuple, self._unit())

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the stock signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first; see the stock saver. Between two pages nothing is held."""
        self.setup()
        rest: Listing | None = Listing(
            search_where(config, filter, before), limit, has_task_path=self._has_task_path
        )
        while rest is not None:
            page = self._read(rest.read, config, thread_of(config))
            for stored, writes in page.found:
                yield checkpoint_tuple(stored, writes, self.serde)
            rest = page.rest

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """The writes of delta channels back to their last stored value; see the stock saver."""
        if not channels:
            return {}
        place, serde = place_of(config), self.serde
        return self._read(
            lambda conn: read_history(conn, place, channels, serde, has_task_path=self._has_task_path),
            config,
            place[:2],
        )

    # --- Writing -----------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - the stock signature
    ) -> RunnableConfig:
        """Save a checkpoint; see the stock saver. *new_versions* is not stored, as there."""
        unit = unit_of(self._lane.key, config)
        if unit is not None:
            unit.note(place_of(config)._replace(checkpoint_id=checkpoint["id"]))
        self._write(checkpoint_row(config, checkpoint, metadata, self.serde), unit)
        return saved_config(config, checkpoint)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save a task's pending writes; see the stock saver."""
        unit = unit_of_writes(self._lane.key, config, lambda: self._exists(config))
        self._write(write_rows(config, writes, (task_id, task_path), self.serde), unit)

    def _exists(self, config: RunnableConfig) -> bool:
        place = place_of(config)
        return self._lane.read_sync(lambda conn: checkpoint_exists(conn, place))

    def delete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        self._write(upkeep.delete_thread(str(thread_id)), self._unit())

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete what these runs wrote, save for what delta channels of later checkpoints need."""
        self._write(upkeep.delete_for_runs(run_ids, self.serde), self._unit())

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and pending writes of a thread to another one."""
        self._write(upkeep.copy_thread(str(source_thread_id), str(target_thread_id)), self._unit())

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, and what its delta channels need."""
        self._write(upkeep.prune(thread_ids, strategy, self.serde), self._unit())

    # --- Where all of it goes through --------------------------------------------------------

    def _read(
        self, read: Read[Result], config: RunnableConfig | None, namespace: tuple[str, str | None] | None
    ) -> Result:
        self.setup()
        unit = unit_of(self._lane.key, config)
        if unit is not None:
            return unit.read_sync(self._lane, read, namespace)
        return self._lane.read_sync(read)

    def _write(self, work: Work, unit: Unit | None) -> None:
        self.setup()
        if unit is not None:
            unit.add(work)
        else:
            self._lane.write_sync(work)

    def _unit(self) -> Unit | None:
        return unit_of(self._lane.key, None)
