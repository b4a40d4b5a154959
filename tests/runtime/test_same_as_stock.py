"""Whatever is asked of a stock saver or store and of ours, in any order: the same rows, the same answers."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from tests.runtime.support import config
from unified_db import (
    UnifiedAsyncSqliteSaver,
    UnifiedAsyncSqliteStore,
    UnifiedDatabase,
    UnifiedSqliteSaver,
    UnifiedSqliteStore,
)

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402 - there is nothing to import without it
from hypothesis import strategies as st  # noqa: E402

Opened = Callable[[Path], AbstractAsyncContextManager[Any]]
Act = tuple[Any, ...]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
examples = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# --- What is done ------------------------------------------------------------------------------------

THREADS = st.sampled_from(["a", "b", 7, "ünï", "a'b"])
NAMESPACES = st.sampled_from(["", "sub:1", "sub:1|two:2"])
CHANNELS = st.sampled_from(
    ["messages", "n", "__error__", "__interrupt__", "__resume__", "__scheduled__", "__pregel_tasks"]
)
TEXT = st.text(max_size=8)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=5
)
KEYS = st.sampled_from(["step", "source", "run_id", "a", "a.b", "a-b", "it's", "", "ü", "__hidden"])
UNUSUAL = st.sampled_from(["\x00nul", "\ud800 half a pair", "\x7f\x1f", b"no JSON", 2**70])
METADATA = st.dictionaries(KEYS, VALUES | UNUSUAL, max_size=4)
PLACES = st.integers(0, 12)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=4)
WANTED = st.one_of(
    PLAIN, st.lists(st.integers(-3, 3) | ASCII, max_size=2), st.dictionaries(ASCII, st.integers(), max_size=2)
)
SAFE_KEYS = st.sampled_from(["step", "source", "run_id", "a", "a.b", "a-b", "missing"])

PUT = st.tuples(
    st.just("put"),
    THREADS,
    NAMESPACES,
    st.none() | PLACES,
    st.dictionaries(TEXT, VALUES, max_size=3),
    METADATA,
)
AGAIN = st.tuples(st.just("put again"), PLACES, VALUES, METADATA)
WRITES = st.tuples(
    st.just("writes"),
    PLACES,
    st.lists(st.tuples(CHANNELS, VALUES), max_size=4),
    st.sampled_from(["task-1", "task-2", "Task-3", ""]),
    st.sampled_from(["", "~a", "~b, 10", "~b, 9"]),
)
DELETE = st.tuples(st.just("delete"), THREADS)
GET = st.tuples(st.just("get"), THREADS, st.none() | NAMESPACES, st.none() | PLACES)
LIST = st.tuples(
    st.just("list"),
    st.none() | st.tuples(THREADS, st.none() | NAMESPACES, st.none() | PLACES),
    st.none() | st.dictionaries(SAFE_KEYS, WANTED, max_size=2),
    st.none() | PLACES,
    st.sampled_from([None, None, 0, 1, 3, 100, -1]),
)
ACTS = st.builds(
    list.__add__,
    st.lists(PUT | WRITES, min_size=4, max_size=12),
    st.lists(st.one_of(PUT, WRITES, AGAIN, DELETE, GET, LIST, LIST), min_size=4, max_size=12),
)


async def do_all(saver: Any, acts: Sequence[Act]) -> list[str]:
    """What each of *acts* gave, or which error; then everything that can be read."""
    made: list[dict[str, Any]] = []
    found = [await _outcome(saver, act, made) for act in acts]
    everything = [("list", None, None, None, None)]
    everything += [("get", at["configurable"]["thread_id"], None, n) for n, at in enumerate(made)]
    return found + [await _outcome(saver, act, made) for act in everything]


async def _outcome(saver: Any, act: Act, made: list[dict[str, Any]]) -> str:
    try:
        return repr(await _do(saver, act, made))
    except Exception as error:  # noqa: BLE001 - which one it is belongs to the answer
        return type(error).__name__


async def _do(saver: Any, act: Act, made: list[dict[str, Any]]) -> Any:
    def place(n: int | None) -> str | None:
        return made[n % len(made)]["configurable"]["checkpoint_id"] if n is not None and made else None

    match act:
        case "put", thread, ns, parent, values, metadata:
            number = f"{len(made):04}"
            made.append(config(thread, ns, number))
            return await saver.aput(
                config(thread, ns, place(parent)), _checkpoint(number, values), metadata, {}
            )
        case "put again", n, value, metadata if made:
            at = made[n % len(made)]
            values = {"again": value}
            return await saver.aput(at, _checkpoint(str(place(n)), values), metadata, {})
        case "writes", n, writes, task_id, task_path if made:
            return await saver.aput_writes(made[n % len(made)], writes, task_id, task_path)
        case "delete", thread:
            return await saver.adelete_thread(str(thread))
        case "get", thread, ns, n:
            return _in_order(await saver.aget_tuple(_asked(thread, ns, place(n))))
        case "list", about, wanted, before, limit:
            asked = None if about is None else _asked(*about[:2], place(about[2]))
            until = None if before is None else config(checkpoint_id=place(before))
            listing = saver.alist(asked, filter=wanted, before=until, limit=limit)
            return [_in_order(c) async for c in listing]
    return None


def _asked(thread: Any, ns: str | None, checkpoint_id: str | None) -> dict[str, Any]:
    more = {"checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread} | {k: v for k, v in more.items() if v is not None}}


def _checkpoint(number: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"v": 4, "id": number, "ts": "2026-01-01", "channel_values": values, "channel_versions": {}}


def _in_order(found: Any) -> Any:
    """Releases before 3.1.2 order pending writes by task and not by path, and have nowhere to keep it."""
    return found and found._replace(pending_writes=sorted(found.pending_writes, key=repr))


_PLACE = "thread_id, checkpoint_ns, checkpoint_id"
COLUMNS = {
    "checkpoints": f"{_PLACE}, parent_checkpoint_id, type, checkpoint, metadata, typeof(metadata)",
    "writes": f"{_PLACE}, task_id, idx, channel, type, value",
}


def rows_of(path: Path) -> dict[str, Any]:
    """All rows as they were inserted, in the columns that every release has."""
    with closing(sqlite3.connect(path)) as conn:
        return {
            name: conn.execute(f"SELECT {columns} FROM {name} ORDER BY rowid").fetchall()
            for name, columns in COLUMNS.items()
        }


# --- By whom ---------------------------------------------------------------------------------------------


class InThreads:
    """A sync saver, whose methods are called under their async names."""

    def __init__(self, saver: Any) -> None:
        self._saver = saver

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            return getattr(self._saver, name.removeprefix("a"))(*args, **more)

        return call

    async def alist(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        for found in self._saver.list(*args, **more):
            yield found


@asynccontextmanager
async def lent(path: Path) -> AsyncIterator[Any]:
    async with aiosqlite.connect(path) as conn:
        yield UnifiedAsyncSqliteSaver(conn)


@asynccontextmanager
async def database(path: Path) -> AsyncIterator[Any]:
    async with UnifiedDatabase(path) as db:
        yield UnifiedAsyncSqliteSaver(db)


@asynccontextmanager
async def transaction(path: Path) -> AsyncIterator[Any]:
    async with UnifiedDatabase(path) as db:
        saver = UnifiedAsyncSqliteSaver(db)
        await saver.setup()
        async with db.transaction():
            yield saver


@asynccontextmanager
async def in_threads(path: Path, kind: Any = UnifiedSqliteSaver) -> AsyncIterator[Any]:
    with kind.from_conn_string(str(path)) as saver:
        yield InThreads(saver)


async def compare(ours: Opened, stock: Opened, acts: Sequence[Act]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "mine.sqlite", Path(folder) / "theirs.sqlite"
        async with ours(mine) as saver, stock(theirs) as other:
            await saver.aget_tuple(config())
            await other.aget_tuple(config())
            assert await do_all(saver, acts) == await do_all(other, acts)
        assert rows_of(mine) == rows_of(theirs)
        # Each reads the other's file as its own.
        async with ours(theirs) as saver, stock(mine) as other:
            assert await do_all(saver, []) == await do_all(other, [])


@pytest.mark.parametrize(
    "ours",
    [lambda path: UnifiedAsyncSqliteSaver.from_conn_string(str(path)), lent, database, transaction],
    ids=["own file", "lent connection", "database", "inside a transaction"],
)
@examples
@given(acts=ACTS)
def test_an_async_saver_does_what_the_stock_one_does(ours: Opened, acts: Sequence[Act]) -> None:
    asyncio.run(compare(ours, lambda path: AsyncSqliteSaver.from_conn_string(str(path)), acts))


@examples
@given(acts=ACTS)
def test_a_sync_saver_does_what_the_stock_one_does(acts: Sequence[Act]) -> None:
    asyncio.run(compare(in_threads, lambda path: in_threads(path, SqliteSaver), acts))


# --- Stores ---------------------------------------------------------------------------------------------

PARTS = st.sampled_from(["users", "ann", "Bob", "x*", "[y]", "ü"])
SPACES = st.lists(PARTS, min_size=1, max_size=3).map(tuple)
ITEM_KEYS = st.sampled_from(["k", "K", "it's", "a.b"])
ITEMS = st.dictionaries(st.sampled_from(["n", "text", "a.b", "deep"]), VALUES, max_size=3)
COMPARED = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
ASKED = st.dictionaries(
    st.sampled_from(["n", "text", "deep"]),
    st.integers(-3, 3) | ASCII | st.dictionaries(COMPARED, st.integers(-3, 3), min_size=1, max_size=1),
    max_size=2,
)
CONDITIONS = st.builds(
    MatchCondition,
    st.sampled_from(["prefix", "suffix"]),
    st.lists(PARTS | st.just("*"), min_size=1, max_size=2).map(tuple),
)
OPS = st.one_of(
    st.builds(PutOp, SPACES, ITEM_KEYS, st.none() | ITEMS, st.none() | st.just(False), st.none()),
    st.builds(PutOp, SPACES, ITEM_KEYS, ITEMS, st.none() | st.just(False), st.none()),
    st.builds(GetOp, SPACES, ITEM_KEYS, st.booleans()),
    st.builds(SearchOp, SPACES, st.none() | ASKED, st.sampled_from([10, 1, 0]), st.sampled_from([0, 1])),
    st.builds(
        ListNamespacesOp,
        st.none() | st.lists(CONDITIONS, max_size=2).map(tuple),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([10, 1]),
        st.sampled_from([0, 1]),
    ),
)
BATCHES = st.lists(st.lists(OPS, min_size=1, max_size=4), min_size=1, max_size=8)


async def do_batches(store: Any, batches: Sequence[Sequence[Any]]) -> list[str]:
    found = []
    for batch in (*batches, [SearchOp((), limit=100)], [ListNamespacesOp(limit=100)]):
        try:
            found.append(repr([_without_times(answer) for answer in await store.abatch(batch)]))
        except Exception as error:  # noqa: BLE001 - which one it is belongs to the answer
            found.append(type(error).__name__)
    return found


def _without_times(answer: Any) -> Any:
    if isinstance(answer, list):
        # Items of one moment come in any order.
        return sorted((_without_times(item) for item in answer), key=repr)
    return (answer.namespace, answer.key, answer.value) if hasattr(answer, "key") else answer


@asynccontextmanager
async def store_database(path: Path) -> AsyncIterator[Any]:
    async with UnifiedDatabase(path) as db:
        yield UnifiedAsyncSqliteStore(db)


@asynccontextmanager
async def store_in_a_transaction(path: Path) -> AsyncIterator[Any]:
    async with UnifiedDatabase(path) as db:
        store = UnifiedAsyncSqliteStore(db)
        await store.setup()
        async with db.transaction():
            yield store


async def compare_stores(ours: Opened, stock: Opened, batches: Sequence[Sequence[Any]]) -> None:
    columns = "prefix, key, value, expires_at, ttl_minutes"
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "mine.sqlite", Path(folder) / "theirs.sqlite"
        async with ours(mine) as store, stock(theirs) as other:
            for each in (store, other):
                await each.setup()
            assert await do_batches(store, batches) == await do_batches(other, batches)
        found = []
        for path in (mine, theirs):
            with closing(sqlite3.connect(path)) as conn:
                found.append(sorted(conn.execute(f"SELECT {columns} FROM store")))
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "ours",
    [
        lambda path: UnifiedAsyncSqliteStore.from_conn_string(str(path)),
        store_database,
        store_in_a_transaction,
        lambda path: in_threads(path, UnifiedSqliteStore),
    ],
    ids=["own file", "database", "inside a transaction", "in threads"],
)
@examples
@given(batches=BATCHES)
def test_a_store_does_what_the_stock_one_does(ours: Opened, batches: Sequence[Sequence[Any]]) -> None:
    def stock(path: Path) -> AbstractAsyncContextManager[Any]:
        return AsyncSqliteStore.from_conn_string(str(path))

    asyncio.run(compare_stores(ours, stock, batches))


@examples
@given(batches=BATCHES)
def test_a_sync_store_does_what_the_stock_one_does(batches: Sequence[Sequence[Any]]) -> None:
    asyncio.run(
        compare_stores(
            lambda path: in_threads(path, UnifiedSqliteStore),
            lambda path: in_threads(path, SqliteStore),
            batches,
        )
    )
