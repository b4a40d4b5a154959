"""Changing the import is all: the same rows in both directions, and none of the known defects."""

from __future__ import annotations

import asyncio
import inspect
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from tests.runtime.support import checkpoint, config, lock_is_free, metadata, table
from unified_db import (
    UnifiedAsyncSqliteSaver,
    UnifiedAsyncSqliteStore,
    UnifiedDatabase,
    UnifiedSqliteSaver,
    UnifiedSqliteStore,
)
from unified_db.errors import OpenTransactionError, WriteLockHeldError

OLD_TABLES = """
CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL,
    type TEXT, value BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
"""


async def talk(saver: Any, thread_id: str = "t", steps: int = 3, ns: str = "") -> list[str]:
    """Save a chain of checkpoints with pending writes of two tasks each; their ids."""
    ids: list[str] = []
    for step in range(steps):
        made = checkpoint({"messages": ["ä" * step], "n": step}, step=step)
        at = config(thread_id, ns, ids[-1] if ids else None)
        saved = await saver.aput(at, made, metadata(step, run_id=f"run-{step}"), {})
        await saver.aput_writes(saved, [("messages", "x"), ("n", 1)], "task-b", "~a")
        await saver.aput_writes(saved, [("messages", "y")], "task-a", "~b")
        await saver.aput_writes(saved, [("__interrupt__", "stop")], "task-a", "~b")
        ids.append(made["id"])
    return ids


def in_one_order(found: Any) -> Any:
    """A checkpoint whose pending writes are sorted: releases before 3.1.2 order them by task, not by path."""
    return found and found._replace(pending_writes=sorted(found.pending_writes))


async def test_the_stock_saver_reads_what_we_write(saver: UnifiedAsyncSqliteSaver, path: Path) -> None:
    ids = await talk(saver)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as stock:
        for checkpoint_id in (None, *ids):
            at = config(checkpoint_id=checkpoint_id)
            assert in_one_order(await stock.aget_tuple(at)) == in_one_order(await saver.aget_tuple(at))
        theirs = [in_one_order(c) async for c in stock.alist(config())]
        assert theirs == [in_one_order(c) async for c in saver.alist(config())]


async def test_we_read_what_the_stock_saver_writes(saver: UnifiedAsyncSqliteSaver, path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as stock:
        ids = await talk(stock)
        for checkpoint_id in (None, *ids):
            at = config(checkpoint_id=checkpoint_id)
            assert in_one_order(await saver.aget_tuple(at)) == in_one_order(await stock.aget_tuple(at))
        found = [c async for c in saver.alist(config(), limit=2)]
        assert [c.config["configurable"]["checkpoint_id"] for c in found] == ids[:0:-1]


async def test_both_leave_the_same_rows(tmp_path: Path) -> None:
    async def write(saver: Any) -> None:
        for step, made in enumerate(chain):
            saved = await saver.aput(config(), made, metadata(step), {})
            await saver.aput_writes(saved, [("messages", "x"), ("n", 1)], "task", "~path")

    chain = [checkpoint(step=step) for step in range(3)]
    ours, theirs = tmp_path / "ours.sqlite", tmp_path / "theirs.sqlite"
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(ours)) as saver:
        await write(saver)
    async with AsyncSqliteSaver.from_conn_string(str(theirs)) as stock:
        await write(stock)
    assert table(ours, "checkpoints") == table(theirs, "checkpoints")
    columns = {row[1] for row in closing_query(theirs, "PRAGMA table_info(writes)")}
    if "task_path" in columns:
        assert table(ours, "writes") == table(theirs, "writes")
    assert len(table(ours, "writes")) == len(table(theirs, "writes")) == 6


def closing_query(path: Path, sql: str, *params: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(sql, params).fetchall()


@pytest.mark.parametrize("kind", ["msgpack", "json"])
async def test_a_database_from_before_task_path_is_read_and_gains_the_column(
    saver: UnifiedAsyncSqliteSaver, path: Path, kind: str
) -> None:
    made = checkpoint()
    blob = saver.serde.dumps_typed(made) if kind == "msgpack" else ("json", json.dumps(made).encode())
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(OLD_TABLES)
        row = ("t", "", made["id"], None, *blob, json.dumps(metadata()))
        conn.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        value = saver.serde.dumps_typed("x")
        conn.execute(
            "INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ("t", "", made["id"], "k", 0, "c", *value)
        )
        conn.commit()
    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == made["channel_values"]
    assert found.pending_writes == [("k", "c", "x")]
    await saver.aput_writes(found.config, [("c", "z")], "later", "~1")
    assert (await saver.aget_tuple(config())).pending_writes[-1] == ("later", "c", "z")  # type: ignore[index,union-attr]


async def test_a_frozen_read_only_connection_can_be_read(path: Path) -> None:
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await talk(saver)
    async with aiosqlite.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as conn:
        frozen = UnifiedAsyncSqliteSaver(conn)
        assert len([c async for c in frozen.alist(config())]) == 3
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await frozen.aput(config(), checkpoint(), metadata(), {})


async def test_a_read_only_database_from_before_task_path_can_be_read(path: Path) -> None:
    made = checkpoint()
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(OLD_TABLES)
        blob = json.dumps(made).encode()
        conn.execute("INSERT INTO checkpoints VALUES ('t', '', ?, NULL, 'json', ?, '{}')", (made["id"], blob))
        conn.commit()
    async with aiosqlite.connect(f"file:{path}?mode=ro", uri=True) as conn:
        found = await UnifiedAsyncSqliteSaver(conn).aget_tuple(config())
    assert found is not None
    assert found.pending_writes == []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        assert UnifiedSqliteSaver(raw).get_tuple(config()) is not None


async def test_deleting_on_a_fresh_database_is_no_error(saver: UnifiedAsyncSqliteSaver) -> None:
    await saver.adelete_thread("nobody")


@pytest.mark.parametrize(
    "key", ['a "quoted" key', "it's", "$.x", "a b", "[0]", "'; DROP TABLE checkpoints; --"]
)
async def test_any_metadata_key_can_be_filtered_by(saver: UnifiedAsyncSqliteSaver, key: str) -> None:
    for step in range(3):
        await saver.aput(config(), checkpoint(step=step), metadata(step, **{key: step}), {})
    found = [c async for c in saver.alist(config(), filter={key: 1})]
    assert [c.metadata["step"] for c in found] == [1]
    assert [c async for c in saver.alist(config(), filter={key + "?": 1})] == []


@pytest.mark.parametrize(
    "wanted",
    [{"a": {"b": [1, "ü"]}}, {"a.b": [1, "ü"]}, {"flag": True}, {"none": None, "step": 1}, {"f": 1.5}],
)
async def test_metadata_is_compared_as_values(saver: UnifiedAsyncSqliteSaver, wanted: dict[str, Any]) -> None:
    more = {"a": {"b": [1, "ü"]}, "flag": True, "none": None, "f": 1.5}
    for step in range(3):
        await saver.aput(
            config(), checkpoint(step=step), metadata(step, **(more if step == 1 else {"none": 1})), {}
        )
    assert [c.metadata["step"] async for c in saver.alist(config(), filter=wanted)] == [1]


async def test_a_number_that_json_has_no_word_for_stops_no_upkeep(saver: UnifiedAsyncSqliteSaver) -> None:
    """As json.dumps writes NaN, and SQLite before 3.42 cannot read it."""
    await saver.aput(config("other"), checkpoint(), metadata(score=float("nan")), {})
    await saver.aput(config(), checkpoint(), metadata(score=float("nan"), run_id="kept"), {})
    await saver.aput(config(), checkpoint(step=1), metadata(run_id="gone"), {})
    await saver.adelete_for_runs(["gone"])
    await saver.aprune(["t", "other"])
    assert len([c async for c in saver.alist(None)]) == 2


def test_a_path_that_says_memory_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with UnifiedSqliteSaver.from_conn_string(Path(":memory:")) as saver:  # type: ignore[arg-type]
        saver.put(config(), checkpoint(), metadata(), {})
    assert list(tmp_path.iterdir()) == []


async def test_a_paused_listing_blocks_nobody(saver: UnifiedAsyncSqliteSaver, path: Path) -> None:
    await talk(saver, steps=40)
    listing = saver.alist(config())
    first = await anext(listing)
    await asyncio.wait_for(saver.aput(config("other"), checkpoint(), metadata(), {}), 5)
    assert lock_is_free(path)
    with closing(sqlite3.connect(path)) as conn:
        # A reader that held a snapshot would keep the WAL from being emptied.
        assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    rest = [c async for c in listing]
    assert len({c.config["configurable"]["checkpoint_id"] for c in (first, *rest)}) == 40


async def test_a_listing_of_copies_with_equal_ids_is_complete(saver: UnifiedAsyncSqliteSaver) -> None:
    await talk(saver, "source", steps=3)
    for n in range(20):
        await saver.acopy_thread("source", f"copy-{n}")
    found = [c.config["configurable"] async for c in saver.alist(None)]
    assert len({(c["thread_id"], c["checkpoint_id"]) for c in found}) == len(found) == 63
    ids = [c["checkpoint_id"] for c in found]
    assert ids == sorted(ids, reverse=True)


async def test_large_states_are_listed_in_small_pages(saver: UnifiedAsyncSqliteSaver) -> None:
    for step in range(12):
        await saver.aput(config(), checkpoint({"blob": "x" * 1_000_000}, step=step), metadata(step), {})
    assert [c.metadata["step"] async for c in saver.alist(config(), limit=11)] == list(range(11, 0, -1))


def test_a_listing_reads_pending_writes_with_its_page(sync_saver: UnifiedSqliteSaver) -> None:
    for step in range(10):
        saved = sync_saver.put(config(), checkpoint(step=step), metadata(step), {})
        sync_saver.put_writes(saved, [("c", step)], "task")
    statements: list[str] = []
    if isinstance(sync_saver._lane, type(None)) or not hasattr(sync_saver._lane, "readers"):
        sync_saver.conn.set_trace_callback(statements.append)
        assert [c.pending_writes for c in sync_saver.list(config())] == [
            [("task", "c", n)] for n in range(9, -1, -1)
        ]
        assert len([s for s in statements if "SELECT" in s]) == 2
    else:
        assert len(list(sync_saver.list(config()))) == 10


async def test_a_sync_call_on_the_loops_own_thread_is_an_error_not_a_deadlock(
    saver: UnifiedAsyncSqliteSaver,
) -> None:
    saved = await saver.aput(config(), checkpoint(), metadata(), {})
    for call in (
        lambda: saver.put(config(), checkpoint(), metadata(), {}),
        lambda: saver.put_writes(saved, [("c", 1)], "task"),
        lambda: saver.get_tuple(config()),
        lambda: next(saver.list(config())),
        lambda: saver.delete_thread("t"),
        lambda: saver.prune(["t"]),
        lambda: saver.get_delta_channel_history(config=saved, channels=["c"]),
    ):
        with pytest.raises(asyncio.InvalidStateError, match="await saver"):
            call()


async def test_sync_methods_work_from_other_threads(saver: UnifiedAsyncSqliteSaver) -> None:
    def use() -> tuple[Any, ...]:
        saved = saver.put(config(), checkpoint(), metadata(), {})
        saver.put_writes(saved, [("c", 1)], "task")
        saver.copy_thread("t", "u")
        saver.delete_for_runs(["nothing"])
        saver.prune(["u"])
        found = saver.get_tuple(config("u")), list(saver.list(config()))
        saver.delete_thread("t")
        return *found, list(saver.list(None))

    copied, listed, left = await asyncio.to_thread(use)
    assert copied.pending_writes == [("task", "c", 1)]
    assert len(listed) == len(left) == 1


async def test_encrypted_serializers_work(path: Path) -> None:
    class Reversing:
        def encrypt(self, plain: bytes) -> tuple[str, bytes]:
            return "rot", plain[::-1]

        def decrypt(self, _name: str, cipher: bytes) -> bytes:
            return cipher[::-1]

    serde = EncryptedSerializer(Reversing())
    async with aiosqlite.connect(path) as conn:
        saver = UnifiedAsyncSqliteSaver(conn, serde=serde)
        saved = await saver.aput(config(), checkpoint({"secret": "open sesame"}), metadata(), {})
        await saver.aput_writes(saved, [("secret", "open sesame")], "task")
        found = await saver.aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"secret": "open sesame"}
    assert found.pending_writes == [("task", "secret", "open sesame")]
    stored = [bytes(v) for v in (*(r[0] for r in closing_query(path, "SELECT checkpoint FROM checkpoints")),)]
    assert not any(b"open sesame" in blob for blob in stored)
    assert {r[0] for r in closing_query(path, "SELECT type FROM writes")} == {"msgpack+rot"}


async def test_langgraph_s_own_cipher_works_in_and_out_of_transactions(path: Path) -> None:
    pytest.importorskip("Crypto")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with UnifiedDatabase(path) as db:
        saver = UnifiedAsyncSqliteSaver(db, serde=serde)
        async with db.transaction():
            saved = await saver.aput(config(), checkpoint({"secret": "open sesame"}), metadata(), {})
            await saver.aput_writes(saved, [("secret", "open sesame")], "task")
            assert (await saver.aget_tuple(config())).pending_writes  # type: ignore[union-attr]
        await saver.acopy_thread("t", "copy")
        await saver.aprune(["t"])
    async with aiosqlite.connect(path) as conn:
        found = await AsyncSqliteSaver(conn, serde=serde).aget_tuple(config("copy"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"secret": "open sesame"}
    assert found.pending_writes == [("task", "secret", "open sesame")]
    stored = closing_query(path, "SELECT checkpoint FROM checkpoints UNION ALL SELECT value FROM writes")
    assert not any(b"open sesame" in blob for (blob,) in stored)


async def test_a_pickle_is_never_loaded(saver: UnifiedAsyncSqliteSaver, path: Path) -> None:
    await talk(saver)
    bomb = b"cbuiltins\nexec\n(S'raise SystemExit(\"unpickled\")'\ntR."
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("UPDATE checkpoints SET type = 'pickle', checkpoint = ?", (bomb,))
        conn.commit()
    with pytest.raises(NotImplementedError):
        await saver.aget_tuple(config())


def test_the_sync_saver_and_the_stock_one_read_each_other(sync_saver: UnifiedSqliteSaver, path: Path) -> None:
    saved = sync_saver.put(config(), checkpoint(), metadata(), {})
    sync_saver.put_writes(saved, [("c", 1), ("d", 2)], "task", "~p")
    with SqliteSaver.from_conn_string(str(path)) as stock:
        assert stock.get_tuple(config()) == sync_saver.get_tuple(config())
        stock.put(config("u"), checkpoint(), metadata(), {})
        assert list(stock.list(None)) == list(sync_saver.list(None))


def test_many_threads_share_a_sync_saver(sync_saver: UnifiedSqliteSaver) -> None:
    def use(n: int) -> None:
        for step in range(5):
            saved = sync_saver.put(config(f"t{n}"), checkpoint(step=step), metadata(step), {})
            sync_saver.put_writes(saved, [("c", step)], "task")

    threads = [threading.Thread(target=use, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(sync_saver.list(None))) == 80


def test_the_cursor_of_a_failing_block_leaves_nothing(sync_saver: UnifiedSqliteSaver, path: Path) -> None:
    with sync_saver.cursor() as cursor:
        cursor.execute("CREATE TABLE notes (text)")
    with pytest.raises(sqlite3.OperationalError), sync_saver.cursor() as cursor:
        cursor.executescript("BEGIN; INSERT INTO notes VALUES ('half'); INSERT INTO nowhere VALUES (1)")
    with sync_saver.cursor() as cursor:
        cursor.execute("INSERT INTO notes VALUES ('whole')")
    assert table(path, "notes") == [("whole",)]


# --- Connections that an application lends -------------------------------------------------------


async def test_an_open_transaction_of_the_application_is_named_and_not_committed(path: Path) -> None:
    async with aiosqlite.connect(path, timeout=0.2) as conn:
        saver = UnifiedAsyncSqliteSaver(conn)
        await saver.setup()
        await conn.execute("CREATE TABLE notes (text)")
        await conn.execute("INSERT INTO notes VALUES ('half')")
        with pytest.raises(OpenTransactionError, match="transaction of the application open") as caught:
            await saver.aput(config(), checkpoint(), metadata(), {})
        assert "Commit it before running the graph" in caught.value.hint
        await conn.rollback()
        await saver.aput(config(), checkpoint(), metadata(), {})
    assert table(path, "notes") == []
    assert len(table(path, "checkpoints")) == 1


async def test_a_short_transaction_of_the_application_is_waited_for(path: Path) -> None:
    async with aiosqlite.connect(path) as conn:
        saver = UnifiedAsyncSqliteSaver(conn)
        await saver.setup()
        await conn.execute("CREATE TABLE notes (text)")
        await conn.execute("INSERT INTO notes VALUES ('mine')")
        putting = asyncio.create_task(saver.aput(config(), checkpoint(), metadata(), {}))
        await asyncio.sleep(0.05)
        assert conn.in_transaction
        await conn.rollback()
        await putting
    assert table(path, "notes") == []
    assert len(table(path, "checkpoints")) == 1


def test_an_open_transaction_on_a_lent_sync_connection_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=0.1, check_same_thread=False)) as conn:
        saver = UnifiedSqliteSaver(conn)
        saver.setup()
        conn.execute("CREATE TABLE notes (text)")
        conn.execute("INSERT INTO notes VALUES ('half')")
        with pytest.raises(OpenTransactionError):
            saver.put(config(), checkpoint(), metadata(), {})
        with pytest.raises(OpenTransactionError), saver.cursor():
            pass
        conn.rollback()
    assert table(path, "notes") == []


async def test_a_lent_connection_waits_as_long_as_it_was_told_to(path: Path) -> None:
    async with aiosqlite.connect(path, timeout=0.2) as conn:
        saver = UnifiedAsyncSqliteSaver(conn)
        await saver.aput(config(), checkpoint(), metadata(), {})
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(WriteLockHeldError, match=r"waited 0\.2 s"):
                await saver.aput(config(), checkpoint(), metadata(), {})
            # Meanwhile reads go on.
            assert await asyncio.wait_for(saver.aget_tuple(config()), 5) is not None
        await saver.aput(config(), checkpoint(), metadata(), {})


async def test_whoever_takes_the_lock_keeps_the_saver_out(path: Path) -> None:
    async with aiosqlite.connect(path) as conn:
        saver = UnifiedAsyncSqliteSaver(conn)
        await saver.setup()
        async with saver.lock:
            await conn.execute("CREATE TABLE notes (text)")
            await conn.execute("INSERT INTO notes VALUES ('mine')")
            putting = asyncio.create_task(saver.aput(config(), checkpoint(), metadata(), {}))
            await asyncio.sleep(0.02)
            await conn.commit()
        await putting
    assert table(path, "notes") == [("mine",)]


async def test_a_connection_that_was_only_made_is_opened(path: Path) -> None:
    conn = aiosqlite.connect(path)
    saver = UnifiedAsyncSqliteSaver(conn)
    await saver.aput(config(), checkpoint(), metadata(), {})
    await conn.close()
    assert len(table(path, "checkpoints")) == 1


async def test_rows_of_a_lent_connection_may_be_made_into_something_else(path: Path) -> None:
    async with aiosqlite.connect(path) as conn:
        conn.row_factory = aiosqlite.Row
        saver = UnifiedAsyncSqliteSaver(conn)
        await talk(saver)
        assert len([c async for c in saver.alist(config())]) == 3


async def test_the_attributes_that_applications_reach_for_are_there(saver: UnifiedAsyncSqliteSaver) -> None:
    await saver.setup()
    async with saver.lock, saver.conn.execute("SELECT count(*) FROM checkpoints") as cursor:
        assert await cursor.fetchone() == (0,)
    assert isinstance(saver, AsyncSqliteSaver)
    assert saver.serde.loads_typed(saver.serde.dumps_typed({"a": 1})) == {"a": 1}
    assert saver.is_setup


@pytest.mark.parametrize(
    ("stock", "ours"),
    [
        (SqliteSaver, UnifiedSqliteSaver),
        (AsyncSqliteSaver, UnifiedAsyncSqliteSaver),
        (SqliteStore, UnifiedSqliteStore),
        (AsyncSqliteStore, UnifiedAsyncSqliteStore),
    ],
)
def test_every_public_method_is_called_as_the_stock_one_is(stock: type, ours: type) -> None:
    def called(kind: type, name: str) -> list[Any]:
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    names = [n for n in dir(stock) if callable(getattr(stock, n)) and not n.startswith("_")]
    assert len(names) > 10
    for name in ("__init__", *names):
        assert called(ours, name) == called(stock, name), name


async def test_a_saver_has_what_the_stock_one_has(path: Path, tmp_path: Path) -> None:
    async with (
        UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver,
        AsyncSqliteSaver.from_conn_string(str(tmp_path / "stock.sqlite")) as stock,
    ):
        assert vars(saver).keys() >= vars(stock).keys()
        assert saver.config_specs == stock.config_specs
        assert saver.loop is asyncio.get_running_loop()
        first = saver.get_next_version(None, None)
        assert first[:32] == stock.get_next_version(None, None)[:32]
        assert saver.get_next_version(first, None) > first
