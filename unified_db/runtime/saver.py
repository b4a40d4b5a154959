"""Drop-in savers for one shared file: LangGraph's own, with every write transaction in one trip.

The stock `AsyncSqliteSaver` awaits `execute` and `commit` one after the other, so it holds
SQLite's write lock while the event loop does something else. When that something is a sync
SQLAlchemy write to the same file, the loop waits for a lock that only the loop can release.
Here begin, statements and commit run in one call inside the connection's own thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

BUSY_TIMEOUT_S = 30.0

_PUT = (
    "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, "
    "parent_checkpoint_id, type, checkpoint, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PUT_WRITES = (
    "INSERT OR {conflict} INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, "
    "task_path, idx, channel, type, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

# As langgraph-checkpoint-sqlite 3.1.2 creates them. Older releases have no `task_path`, and name
# their columns when they write, so they work on these tables too.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS checkpoints (
                    thread_id TEXT NOT NULL,
                    checkpoint_ns TEXT NOT NULL DEFAULT '',
                    checkpoint_id TEXT NOT NULL,
                    parent_checkpoint_id TEXT,
                    type TEXT,
                    checkpoint BLOB,
                    metadata BLOB,
                    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
                )""",
    """CREATE TABLE IF NOT EXISTS writes (
                    thread_id TEXT NOT NULL,
                    checkpoint_ns TEXT NOT NULL DEFAULT '',
                    checkpoint_id TEXT NOT NULL,
                    task_id TEXT NOT NULL,
                    task_path TEXT NOT NULL DEFAULT '',
                    idx INTEGER NOT NULL,
                    channel TEXT NOT NULL,
                    type TEXT,
                    value BLOB,
                    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
                )""",
)

Statement = tuple[str, Sequence[Sequence[Any]]]


class UnifiedAsyncSqliteSaver(AsyncSqliteSaver):
    """`AsyncSqliteSaver` that never holds the write lock across a trip through the event loop.

    Same constructor, same rows on disk. A write is one `BEGIN IMMEDIATE ... COMMIT` inside the
    connection's thread, so other writers wait for milliseconds and never for the loop.
    """

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        async with aiosqlite.connect(conn_string, timeout=BUSY_TIMEOUT_S) as conn:
            yield cls(conn)

    async def setup(self) -> None:
        """Make LangGraph's tables where they are missing, with `writes.task_path`, in one trip."""
        async with self.lock:
            if not self.is_setup:
                # Connects where the caller only made the connection; else it does nothing.
                if self.conn._connection is None:  # noqa: SLF001 - there is no public way to ask
                    await self.conn
                await _in_thread_of(self.conn, make_tables)
                self.is_setup = True

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - the stock signature
    ) -> RunnableConfig:
        """Save a checkpoint; see the stock saver. *new_versions* is not stored, as there."""
        await self.setup()
        configurable = config["configurable"]
        type_, blob = self.serde.dumps_typed(checkpoint)
        stored = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False)
        row = (
            str(configurable["thread_id"]),
            configurable["checkpoint_ns"],
            checkpoint["id"],
            configurable.get("checkpoint_id"),
            type_,
            blob,
            stored.encode("utf-8", "ignore"),
        )
        await self._write([(_PUT, [row])])
        return {
            "configurable": {
                "thread_id": configurable["thread_id"],
                "checkpoint_ns": configurable["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save a task's pending writes; see the stock saver."""
        await self.setup()
        key = tuple(str(config["configurable"][k]) for k in ("thread_id", "checkpoint_ns", "checkpoint_id"))
        # Special channels have fixed places that a later write replaces; an ordinary
        # write that is there already came from an earlier attempt of the same task.
        conflict = "REPLACE" if all(channel in WRITES_IDX_MAP for channel, _ in writes) else "IGNORE"
        rows = [
            (
                *key,
                task_id,
                task_path,
                WRITES_IDX_MAP.get(channel, place),
                channel,
                *self.serde.dumps_typed(value),
            )
            for place, (channel, value) in enumerate(writes)
        ]
        await self._write([(_PUT_WRITES.format(conflict=conflict), rows)])

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread, also on a file that has no tables yet."""
        await self.setup()
        rows = [(str(thread_id),)]
        await self._write(
            [
                ("DELETE FROM checkpoints WHERE thread_id = ?", rows),
                ("DELETE FROM writes WHERE thread_id = ?", rows),
            ]
        )

    async def _write(self, statements: Sequence[Statement]) -> None:
        async with self.lock:
            await _in_thread_of(self.conn, lambda raw: write_at_once(raw, statements))


class UnifiedSqliteSaver(SqliteSaver):
    """`SqliteSaver` whose cursor rolls back when its block raises, and that waits for other writers.

    The stock cursor commits in a `finally`, so half of what a failing block wrote stays.
    """

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str) -> Iterator[UnifiedSqliteSaver]:
        """Open *conn_string* with a busy timeout of 30 s and close it after the block."""
        with closing(sqlite3.connect(conn_string, check_same_thread=False, timeout=BUSY_TIMEOUT_S)) as conn:
            yield cls(conn)

    def setup(self) -> None:
        """Make LangGraph's tables where they are missing, with `writes.task_path`."""
        if not self.is_setup:
            make_tables(self.conn)
            self.is_setup = True

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """A cursor under the saver's lock; commits at the end, rolls back on an exception."""
        with self.lock:
            self.setup()
            with closing(self.conn.cursor()) as cursor:
                try:
                    yield cursor
                except BaseException:
                    if transaction:
                        self.conn.rollback()
                    raise
                if transaction:
                    self.conn.commit()


def make_tables(conn: sqlite3.Connection) -> None:
    """Set WAL mode, make LangGraph's tables where they are missing, add `task_path` to older ones.

    Nothing is written where all is there already, so a database on a read-only disk can be read.
    """
    conn.execute("PRAGMA journal_mode=WAL").fetchone()
    for sql in _TABLES:
        conn.execute(sql)
    columns = {row[1] for row in conn.execute("PRAGMA table_info(writes)")}
    if "task_path" not in columns:
        try:
            conn.execute("ALTER TABLE writes ADD COLUMN task_path TEXT NOT NULL DEFAULT ''")
        except sqlite3.OperationalError as error:
            # Another process that starts at the same moment was faster.
            if "duplicate column name" not in str(error):
                raise


def write_at_once(conn: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    """Execute *statements* in one write transaction: all of them or none.

    The lock is asked for at the start (`BEGIN IMMEDIATE`), so a busy database is waited for
    with the connection's busy timeout instead of failing half way.
    """
    conn.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in statements:
            conn.executemany(sql, rows)
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


async def _in_thread_of(conn: aiosqlite.Connection, work: Callable[[sqlite3.Connection], None]) -> None:
    # aiosqlite offers no public way to run several calls as one in its thread.
    await conn._execute(lambda: work(conn._conn))  # type: ignore[no-untyped-call]  # noqa: SLF001
