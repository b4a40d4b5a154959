"""The stores give what the stock ones give, share the file's writer, and take part in transactions."""

# ruff: noqa: PT012 -- what raises here is a whole transaction block

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from sqlalchemy import create_engine, text

from tests.runtime.support import lock_is_free, table
from unified_db import (
    UnifiedAsyncSqliteSaver,
    UnifiedAsyncSqliteStore,
    UnifiedDatabase,
    UnifiedSqliteStore,
)


def embed(texts: list[str]) -> list[list[float]]:
    """A vector that says how often four letters occur."""
    return [[float(t.count(c)) + 0.01 for c in "abcd"] for t in texts]


# Python may be built without loadable extensions, and the stock store needs one for its vectors too.
VECTORS = hasattr(sqlite3.Connection, "enable_load_extension")
INDEX: Any = {"dims": 4, "embed": embed, "fields": ["text"]} if VECTORS else None
needs_vectors = pytest.mark.skipif(not VECTORS, reason="this Python cannot load SQLite extensions")
TTL: Any = {"default_ttl": 10, "refresh_on_read": True}


@pytest.fixture(params=["own file", "lent connection", "database"])
async def store(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[UnifiedAsyncSqliteStore]:
    async with AsyncExitStack() as stack:
        if request.param == "own file":
            yield await stack.enter_async_context(
                UnifiedAsyncSqliteStore.from_conn_string(str(path), index=INDEX)
            )
        elif request.param == "database":
            db = await stack.enter_async_context(UnifiedDatabase(path))
            yield UnifiedAsyncSqliteStore(db, index=INDEX)
        else:
            conn = await stack.enter_async_context(aiosqlite.connect(path))
            yield UnifiedAsyncSqliteStore(conn, index=INDEX)


async def fill(store: Any) -> None:
    await store.aput(("users", "ann"), "prefs", {"text": "aaaa", "n": 1})
    await store.aput(("users", "bob"), "prefs", {"text": "bbbb", "n": 2})
    await store.aput(("users", "bob"), "other", {"text": "abab", "n": 3})
    await store.aput(("docs",), "gone", {"text": "dddd"})
    await store.adelete(("docs",), "gone")


async def look(store: Any) -> Any:
    """What all kinds of reads give, without times."""
    found = await store.abatch(
        [
            GetOp(("users", "bob"), "prefs"),
            GetOp(("users", "bob"), "nothing"),
            SearchOp(("users",), filter={"n": {"$gt": 1}}),
            # Without vectors it is a search like the other one, in which a limit would be chance too.
            SearchOp(("users",), query="a", limit=2 if VECTORS else 10),
            ListNamespacesOp(match_conditions=(MatchCondition("prefix", ("users", "*")),)),
        ]
    )

    def plain(item: Any) -> Any:
        if isinstance(item, list):
            return [plain(i) for i in item]
        return (item.namespace, item.key, item.value) if hasattr(item, "key") else item

    got, nothing, filtered, nearest, namespaces = (plain(f) for f in found)
    # Newest first, by the second: whether two rows share one is chance.
    by_time = [filtered] if VECTORS else [filtered, nearest]
    in_order = [sorted(rows, key=lambda row: row[:2]) for rows in by_time]
    return got, nothing, in_order, nearest if VECTORS else None, namespaces


async def test_it_gives_what_the_stock_store_gives(store: UnifiedAsyncSqliteStore, tmp_path: Path) -> None:
    await store.setup()
    await fill(store)
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "stock.sqlite"), index=INDEX) as stock:
        await stock.setup()
        await fill(stock)
        assert await look(store) == await look(stock)


async def test_the_stock_store_reads_what_we_write_and_the_reverse(
    store: UnifiedAsyncSqliteStore, path: Path
) -> None:
    await fill(store)
    async with AsyncSqliteStore.from_conn_string(str(path), index=INDEX) as stock:
        await stock.setup()
        assert await look(stock) == await look(store)
        await stock.aput(("users", "cy"), "prefs", {"text": "cccc", "n": 9})
    assert (await store.aget(("users", "cy"), "prefs")).value["n"] == 9  # type: ignore[union-attr]


async def test_sync_methods_work_from_other_threads_only(store: UnifiedAsyncSqliteStore) -> None:
    await store.setup()
    await asyncio.to_thread(store.put, ("a",), "k", {"text": "x"})
    assert (await asyncio.to_thread(store.get, ("a",), "k")).value == {"text": "x"}  # type: ignore[union-attr]
    with pytest.raises(asyncio.InvalidStateError):
        store.get(("a",), "k")


async def test_times_to_live_are_renewed_and_swept(path: Path) -> None:
    async with UnifiedAsyncSqliteStore.from_conn_string(str(path), ttl=TTL) as store:
        await store.aput(("a",), "short", {"n": 1}, ttl=5)
        await store.aput(("a",), "long", {"n": 2})
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("UPDATE store SET expires_at = datetime('now', '+1 second')")
            conn.commit()
        assert await store.aget(("a",), "long") is not None
        with closing(sqlite3.connect(path)) as conn:
            renewed = "SELECT key FROM store WHERE expires_at > datetime('now', '+1 minute')"
            assert conn.execute(renewed).fetchall() == [("long",)]
            conn.execute("UPDATE store SET expires_at = datetime('now', '-1 day') WHERE key = 'short'")
            conn.commit()
        assert await store.sweep_ttl() == 1
        assert [i.key for i in await store.asearch(("a",))] == ["long"]


def test_the_sync_store_gives_what_the_stock_one_gives(tmp_path: Path, path: Path) -> None:
    with (
        UnifiedSqliteStore.from_conn_string(str(path), index=INDEX) as ours,
        SqliteStore.from_conn_string(str(tmp_path / "stock.sqlite"), index=INDEX) as stock,
    ):
        for store in (ours, stock):
            store.setup()
            store.batch([PutOp(("u", str(n)), f"k{n}", {"text": "abcd"[n], "n": n}) for n in range(4)])
            store.delete(("u", "3"), "k3")
        for query in (None, "c"):
            found = [[i.key for i in s.search(("u",), query=query)] for s in (ours, stock)]
            assert found[0] == found[1]
        assert ours.list_namespaces() == stock.list_namespaces()
        assert ours.sweep_ttl() == 0


def test_a_lent_connection_is_used(path: Path) -> None:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as conn:
        store = UnifiedSqliteStore(conn)
        store.put(("a",), "k", {"n": 1})
        assert conn.execute("SELECT count(*) FROM store").fetchone() == (1,)
    assert not path.exists()


def test_many_threads_share_a_sync_store(path: Path) -> None:
    with UnifiedSqliteStore.from_conn_string(str(path)) as store:
        store.setup()

        def use(n: int) -> None:
            for k in range(10):
                store.put((f"n{n}",), f"k{k}", {"n": k})

        threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(table(path, "store")) == 80


async def test_sync_writers_on_the_loop_meet_no_lock_error(path: Path) -> None:
    """Eight stock store writers beside four sync writers: 32 lock errors, 160 s."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 5})
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE notes (text)"))

    async def application(n: int) -> None:
        for step in range(10):
            with engine.begin() as conn:
                conn.execute(text("INSERT INTO notes VALUES (:t)"), {"t": f"{n}-{step}"})
            await asyncio.sleep(0)

    async def agent(n: int) -> None:
        for step in range(10):
            await store.aput((f"agent{n}",), f"k{step}", {"n": step})

    async with UnifiedAsyncSqliteStore.from_conn_string(str(path)) as store:
        await store.setup()
        await asyncio.gather(*(agent(n) for n in range(8)), *(application(n) for n in range(4)))
    engine.dispose()
    assert len(table(path, "notes")) == 40
    assert len(table(path, "store")) == 80


@needs_vectors
async def test_no_lock_is_held_while_an_embedding_model_is_called(path: Path) -> None:
    free: list[bool] = []

    async def slow(texts: list[str]) -> list[list[float]]:
        free.append(lock_is_free(path))
        await asyncio.sleep(0.01)
        return embed(texts)

    index: Any = {**INDEX, "embed": slow}
    async with UnifiedAsyncSqliteStore.from_conn_string(str(path), index=index) as store:
        await store.aput(("a",), "k", {"text": "abc"})
        assert [i.key for i in await store.asearch(("a",), query="b")] == ["k"]
    assert free == [True, True]


async def test_a_transaction_takes_the_store_with_it(path: Path) -> None:
    async with UnifiedDatabase(path) as db:
        store = UnifiedAsyncSqliteStore(db, index=INDEX, ttl=TTL)
        await store.setup()
        await store.aput(("a",), "before", {"text": "a"})
        with pytest.raises(ValueError, match="later"):
            async with db.transaction():
                await store.aput(("a",), "inside", {"text": "aaa"})
                assert (await store.aget(("a",), "inside")).value == {"text": "aaa"}  # type: ignore[union-attr]
                assert sorted(i.key for i in await store.asearch(("a",), query="a")) == ["before", "inside"]
                assert lock_is_free(path)
                with closing(sqlite3.connect(path)) as conn:
                    assert conn.execute("SELECT count(*) FROM store").fetchone() == (1,)
                raise ValueError("later")
        assert [i.key for i in await store.asearch(("a",))] == ["before"]
        async with db.transaction():
            await store.aput(("a",), "inside", {"text": "aaa"})
            await store.adelete(("a",), "before")
        assert [i.key for i in await store.asearch(("a",))] == ["inside"]


async def test_a_store_made_inside_a_transaction_works_after_it(path: Path) -> None:
    async with UnifiedDatabase(path) as db:
        async with db.transaction():
            store = UnifiedAsyncSqliteStore(db)
            with db.outside_transaction():
                await store.setup()
            await store.aput(("a",), "inside", {"n": 1})
        await store.aput(("a",), "after", {"n": 2})
        assert sorted(i.key for i in await store.asearch(("a",))) == ["after", "inside"]


def test_in_threads_a_transaction_takes_the_store_with_it(path: Path) -> None:
    with UnifiedDatabase(path) as db:
        store = UnifiedSqliteStore(db)
        store.setup()
        with pytest.raises(ValueError, match="later"), db.transaction_sync():
            store.put(("a",), "k", {"n": 1})
            assert store.get(("a",), "k") is not None
            raise ValueError("later")
        assert store.get(("a",), "k") is None
        with db.transaction_sync():
            store.put(("a",), "k", {"n": 1})
        assert store.get(("a",), "k") is not None


async def test_saver_and_store_share_one_writer(path: Path) -> None:
    async with (
        UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver,
        UnifiedAsyncSqliteStore.from_conn_string(str(path)) as store,
    ):
        assert saver._lane is store._lane
