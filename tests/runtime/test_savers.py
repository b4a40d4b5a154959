"""The savers are LangGraph's own to whoever uses them, without holding the lock across the loop."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from unified_db import UnifiedAsyncSqliteSaver, UnifiedSqliteSaver

CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


async def write(saver: AsyncSqliteSaver, count: int = 3) -> list[Any]:
    config, written = CONFIG, []
    for number in range(count):
        checkpoint = empty_checkpoint() | {"channel_values": {"n": number}}
        config = await saver.aput(config, checkpoint, {"step": number, "name": "ä"}, {})
        await saver.aput_writes(config, [("messages", f"m{number}"), ("other", number)], "task")
        written.append(config)
    return written


async def read(saver: AsyncSqliteSaver) -> list[Any]:
    return [item async for item in saver.alist(CONFIG)]


@pytest.mark.parametrize(
    ("writer", "reader"),
    [(UnifiedAsyncSqliteSaver, AsyncSqliteSaver), (AsyncSqliteSaver, UnifiedAsyncSqliteSaver)],
    ids=["stock-reads-what-ours-wrote", "ours-reads-what-stock-wrote"],
)
async def test_each_reads_what_the_other_wrote(writer: Any, reader: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "c.db")
    async with writer.from_conn_string(path) as saver:
        await write(saver)
        wanted = await read(saver)
    async with reader.from_conn_string(path) as saver:
        assert await read(saver) == wanted
        assert len(wanted) == 3
        assert wanted[0].pending_writes == [("task", "messages", "m2"), ("task", "other", 2)]


async def test_a_file_from_before_task_path_gets_the_column(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(
            "CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', "
            "checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, "
            "channel TEXT NOT NULL, type TEXT, value BLOB, "
            "PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx))"
        )
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        config = await saver.aput(CONFIG, empty_checkpoint(), {}, {})
        await saver.aput_writes(config, [("a", 1)], "task", task_path="~path")
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT task_path FROM writes").fetchall() == [("~path",)]


async def test_the_write_lock_is_never_held_while_the_loop_does_something_else(tmp_path: Path) -> None:
    """A sync writer on the loop's own thread is what locks the stock saver up: it must never wait."""
    path = tmp_path / "c.db"
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as sync:
            sync.execute("CREATE TABLE app (n)")
            saves = [asyncio.create_task(write(saver, 20)) for _ in range(4)]
            done = busy = 0
            while not all(t.done() for t in saves):
                # A gap in which the saver's thread gets the lock, which it asks for at intervals.
                await asyncio.sleep(0.005)
                deadline = time.monotonic() + 5
                # The saver's thread may be in the middle of its one trip; it ends without this loop.
                while time.monotonic() < deadline:
                    try:
                        sync.execute("INSERT INTO app VALUES (1)")
                    except sqlite3.OperationalError:
                        busy += 1
                        continue
                    done += 1
                    break
                else:
                    pytest.fail("the lock was held for 5 s while the loop waited for it")
            assert sync.execute("SELECT count(*) FROM app").fetchone() == (done,)
            assert sync.execute("SELECT count(*) FROM checkpoints").fetchone() == (80,)


async def test_a_failed_write_leaves_neither_rows_nor_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        (config,) = await write(saver, 1)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON writes WHEN new.channel = 'bad' "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        with pytest.raises(sqlite3.IntegrityError, match="refused"):
            await saver.aput_writes(config, [("good", 1), ("bad", 2)], "second")
        assert not saver.conn.in_transaction
        assert {w[0] for w in (await read(saver))[0].pending_writes} == {"task"}


async def test_deleting_a_thread_works_on_a_fresh_file(tmp_path: Path) -> None:
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(tmp_path / "c.db")) as saver:
        await saver.adelete_thread("t")
        await write(saver, 1)
        await saver.adelete_thread("t")
        assert await read(saver) == []


def test_the_sync_saver_is_drop_in_and_rolls_back_what_fails(tmp_path: Path) -> None:
    path = str(tmp_path / "c.db")
    with UnifiedSqliteSaver.from_conn_string(path) as saver:
        config = saver.put(CONFIG, empty_checkpoint(), {"step": 0}, {})
        saver.put_writes(config, [("a", 1)], "task")
        with pytest.raises(sqlite3.OperationalError), saver.cursor() as cursor:
            cursor.executescript("BEGIN; DELETE FROM checkpoints; SELECT * FROM nowhere")
    with SqliteSaver.from_conn_string(path) as stock:
        assert len(list(stock.list(CONFIG))) == 1


async def test_sync_methods_work_from_another_thread(tmp_path: Path) -> None:
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(tmp_path / "c.db")) as saver:
        await asyncio.to_thread(saver.put, CONFIG, empty_checkpoint(), {}, {})
        found = await asyncio.to_thread(saver.get_tuple, CONFIG)
        assert found is not None
