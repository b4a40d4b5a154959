"""One transaction for rows and checkpoints: both or neither, and no lock while a graph runs."""

# ruff: noqa: PT012, TRY301 -- what raises here is a whole transaction block

from __future__ import annotations

import asyncio
import logging
import operator
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import String, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.runtime.support import checkpoint, config, lock_is_free, metadata, table
from unified_db import (
    UnifiedAsyncSqliteSaver,
    UnifiedAsyncSqliteStore,
    UnifiedDatabase,
    UnifiedSqliteSaver,
)
from unified_db.errors import (
    ForeignCommitError,
    RuntimeUseError,
    TransactionEndedError,
    TransactionFailedError,
    UsageError,
    WriteLockHeldError,
)

pytestmark = pytest.mark.filterwarnings("error::sqlalchemy.exc.SAWarning")


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(100), unique=True)


class State(TypedDict):
    said: Annotated[list[str], operator.add]


@pytest.fixture
async def db(path: Path) -> AsyncIterator[UnifiedDatabase]:
    async with UnifiedDatabase(path, busy_timeout_s=0.5, warn_held_s=0.2) as database:
        Base.metadata.create_all(database.engine)
        await database.prepare()
        yield database


@pytest.fixture
def sync_db(path: Path) -> Iterator[UnifiedDatabase]:
    with UnifiedDatabase(path, busy_timeout_s=0.5, warn_held_s=0.2) as database:
        Base.metadata.create_all(database.engine)
        database.prepare_sync()
        yield database


def rows(path: Path) -> Any:
    """How many notes, checkpoints and pending writes are in the file."""
    counts = (f"(SELECT count(*) FROM {name})" for name in ("notes", "checkpoints", "writes"))
    (found,) = closing_query(path, f"SELECT {', '.join(counts)}")
    return found


def build(saver: Any, *, seen: Any = None, fail: bool = False, wait: float = 0.0, ask: bool = False) -> Any:
    """start -> (a, b, c in parallel) -> subgraph -> last, each adding a word."""

    def word(name: str) -> Any:
        def node(state: State) -> dict[str, Any]:
            if seen is not None:
                seen()
            if wait:
                time.sleep(wait)
            return {"said": [name]}

        return node

    def last(state: State) -> dict[str, Any]:
        if fail:
            raise ZeroDivisionError("in the last node")
        answer = interrupt("go on?") if ask else "last"
        return {"said": [answer]}

    inner = StateGraph(State)
    inner.add_node("one", word("one"))
    inner.add_node("two", word("two"))
    inner.add_edge(START, "one")
    inner.add_edge("one", "two")
    outer = StateGraph(State)
    for name in "abc":
        outer.add_node(name, word(name))
        outer.add_edge(START, name)
    outer.add_node("sub", inner.compile())
    outer.add_node("last", last)
    outer.add_edge(list("abc"), "sub")
    outer.add_edge("sub", "last")
    outer.add_edge("last", END)
    return outer.compile(checkpointer=saver)


async def durably(graph: Any, thread_id: str, durability: str, given: Any = None) -> Any:
    return await graph.ainvoke(given or {"said": ["go"]}, config(thread_id), durability=durability)


DURABILITIES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])


# --- Both or neither -----------------------------------------------------------------------------


@DURABILITIES
async def test_rows_and_checkpoints_come_at_the_end_together(
    db: UnifiedDatabase, path: Path, durability: str
) -> None:
    seen: list[tuple[int, int, int]] = []
    graph = build(UnifiedAsyncSqliteSaver(db), seen=lambda: seen.append(rows(path)))
    async with db.transaction() as session:
        session.add(Note(body="hello"))
        await durably(graph, "t", durability)
        assert lock_is_free(path)
        assert rows(path) == (0, 0, 0)
    assert set(seen) == {(0, 0, 0)}
    notes, checkpoints, _ = rows(path)
    assert notes == 1
    assert checkpoints > 0
    state = await graph.aget_state(config("t"))
    assert sorted(state.values["said"][1:4]) == ["a", "b", "c"]


@DURABILITIES
async def test_an_exception_after_the_graph_ran_leaves_neither(
    db: UnifiedDatabase, path: Path, durability: str
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db))
    with pytest.raises(ValueError, match="later"):
        async with db.transaction() as session:
            session.add(Note(body="hello"))
            await durably(graph, "t", durability)
            raise ValueError("later")
    assert rows(path) == (0, 0, 0)
    assert lock_is_free(path)
    assert (await graph.aget_state(config("t"))).values == {}


@DURABILITIES
async def test_an_exception_in_a_node_leaves_neither(
    db: UnifiedDatabase, path: Path, durability: str
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db), fail=True)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as session:
            session.add(Note(body="hello"))
            await durably(graph, "t", durability)
    assert rows(path) == (0, 0, 0)


async def test_a_row_that_cannot_be_written_takes_the_checkpoints_with_it(
    db: UnifiedDatabase, path: Path
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db))
    async with db.transaction() as session:
        session.add(Note(body="once"))
    with pytest.raises(Exception, match="UNIQUE"):
        async with db.transaction() as session:
            assert len((await session.scalars(select(Note))).all()) == 1
            session.add(Note(body="once"))
            await graph.ainvoke({"said": []}, config("t"))
    assert rows(path) == (1, 0, 0)
    assert lock_is_free(path)
    async with db.transaction() as session:
        session.add(Note(body="twice"))
    assert rows(path)[0] == 2


@DURABILITIES
def test_in_threads_rows_and_checkpoints_come_together(
    sync_db: UnifiedDatabase, path: Path, durability: str
) -> None:
    """Parallel nodes of the sync API write from threads that no context variable reaches."""
    seen: list[tuple[int, int, int]] = []
    graph = build(UnifiedSqliteSaver(sync_db), seen=lambda: seen.append(rows(path)), wait=0.01)
    for n in range(5):
        before = rows(path)
        seen.clear()
        with sync_db.transaction_sync() as session:
            session.add(Note(body=f"hello {n}"))
            graph.invoke({"said": ["go"]}, config(f"t{n % 2}"), durability=durability)
            assert lock_is_free(path)
            assert rows(path) == before
        assert set(seen) == {before}
        assert rows(path)[0] == n + 1
        assert rows(path)[1] > before[1]
    for _ in range(3):
        graph.invoke({"said": ["go"]}, config("without"), durability=durability)
    assert graph.get_state(config("t0")).values == graph.get_state(config("without")).values


@DURABILITIES
def test_in_threads_nothing_leaks_out_of_a_transaction_that_fails(
    sync_db: UnifiedDatabase, path: Path, durability: str
) -> None:
    graph = build(UnifiedSqliteSaver(sync_db), wait=0.01)
    graph.invoke({"said": ["kept"]}, config("t"), durability=durability)
    before = table(path, "checkpoints"), table(path, "writes")
    for _ in range(5):
        with pytest.raises(ValueError, match="later"), sync_db.transaction_sync() as session:
            session.add(Note(body="hello"))
            graph.invoke({"said": ["gone"]}, config("t"), durability=durability)
            graph.invoke({"said": ["gone"]}, config("fresh"), durability=durability)
            raise ValueError("later")
    assert (table(path, "checkpoints"), table(path, "writes")) == before
    assert rows(path)[0] == 0


def test_in_threads_a_resumed_run_belongs_to_its_transaction(sync_db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedSqliteSaver(sync_db), ask=True)
    graph.invoke({"said": ["go"]}, config("t"))
    before = table(path, "checkpoints"), table(path, "writes")
    with pytest.raises(ValueError, match="later"), sync_db.transaction_sync():
        graph.invoke(Command(resume="yes"), config("t"))
        assert graph.get_state(config("t")).next == ()
        raise ValueError("later")
    assert (table(path, "checkpoints"), table(path, "writes")) == before
    with sync_db.transaction_sync():
        graph.invoke(Command(resume="yes"), config("t"))
    assert graph.get_state(config("t")).values["said"][-1] == "yes"


def test_in_threads_what_runs_beside_a_transaction_is_not_drawn_into_it(
    sync_db: UnifiedDatabase, path: Path
) -> None:
    graph = build(UnifiedSqliteSaver(sync_db), wait=0.005)
    errors: list[BaseException] = []

    def beside(n: int) -> None:
        try:
            graph.invoke({"said": ["beside"]}, config(f"beside-{n}"))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    with pytest.raises(ValueError, match="later"), sync_db.transaction_sync():
        threads = [threading.Thread(target=beside, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        graph.invoke({"said": ["inside"]}, config("inside"))
        for thread in threads:
            thread.join()
        raise ValueError("later")
    assert errors == []
    found = {row[0] for row in closing_query(path, "SELECT DISTINCT thread_id FROM checkpoints")}
    assert found == {f"beside-{n}" for n in range(4)}
    assert {row[0] for row in closing_query(path, "SELECT DISTINCT thread_id FROM writes")} == found


def closing_query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(sql).fetchall()


# --- What is seen inside -------------------------------------------------------------------------


async def test_the_saver_inside_sees_what_it_was_given(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    outside = await saver.aput(config("t"), checkpoint({"n": 0}), metadata(0), {})
    async with db.transaction():
        inside = await saver.aput(outside, checkpoint({"n": 1}), metadata(1, topic="x"), {})
        await saver.aput_writes(inside, [("n", 2)], "task")
        found = await saver.aget_tuple(config("t"))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"n": 1}
        assert found.pending_writes == [("task", "n", 2)]
        assert found.parent_config == outside
        assert len([c async for c in saver.alist(config("t"))]) == 2
        assert len([c async for c in saver.alist(None, filter={"topic": "x"})]) == 1
        await saver.acopy_thread("t", "copy")
        await saver.adelete_thread("t")
        assert await saver.aget_tuple(config("t")) is None
        assert (await saver.aget_tuple(config("copy"))).pending_writes == [("task", "n", 2)]  # type: ignore[union-attr]
        assert [row[1] for row in table(path, "checkpoints")] == [outside["configurable"]["checkpoint_id"]]
    assert {row[-2] for row in table(path, "checkpoints")} == {"copy"}


async def test_others_do_not_see_it_before_the_commit(db: UnifiedDatabase) -> None:
    saver = UnifiedAsyncSqliteSaver(db)

    async def look() -> Any:
        return await saver.aget_tuple(config("t"))

    with_nothing = asyncio.get_running_loop().create_task(look())
    async with db.transaction():
        await saver.aput(config("t"), checkpoint(), metadata(), {})
        with db.outside_transaction():
            assert await look() is None
        assert await look() is not None
    assert await with_nothing is None


async def test_queries_of_the_session_read_the_file(db: UnifiedDatabase) -> None:
    async with db.transaction() as session:
        session.add(Note(body="hello"))
        assert (await session.scalars(select(Note))).all() == []
    async with db.transaction() as session:
        assert [n.body for n in (await session.scalars(select(Note))).all()] == ["hello"]


async def test_rows_that_were_read_can_be_changed_and_deleted(db: UnifiedDatabase, path: Path) -> None:
    async with db.transaction() as session:
        session.add_all([Note(body="a"), Note(body="b")])
    async with db.transaction() as session:
        a, b = (await session.scalars(select(Note).order_by(Note.body))).all()
        a.body = "changed"
        await session.delete(b)
        await UnifiedAsyncSqliteSaver(db).aput(config("t"), checkpoint(), metadata(), {})
    assert rows(path) == (1, 1, 0)
    assert a.body == "changed"


async def test_a_session_that_read_and_then_writes_meets_no_stale_snapshot(
    db: UnifiedDatabase, path: Path
) -> None:
    async with db.transaction() as session:
        assert (await session.scalars(select(Note))).all() == []
        with db.outside_transaction(), closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO notes (body) VALUES ('another process')")
            other.commit()
        session.add(Note(body="mine"))
    assert rows(path)[0] == 2


# --- Interrupts, nesting, others at the same time -------------------------------------------------


async def test_an_interrupt_is_committed_and_resumed_in_a_later_transaction(db: UnifiedDatabase) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db), ask=True)
    async with db.transaction() as session:
        session.add(Note(body="asked"))
        await graph.ainvoke({"said": ["go"]}, config("t"))
    assert (await graph.aget_state(config("t"))).next == ("last",)
    async with db.transaction() as session:
        session.add(Note(body="answered"))
        await graph.ainvoke(Command(resume="yes"), config("t"))
    state = await graph.aget_state(config("t"))
    assert state.next == ()
    assert state.values["said"][-1] == "yes"


async def test_two_transactions_at_once_do_not_mix(db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db), wait=0.005)

    async def talk(n: int) -> None:
        async with db.transaction() as session:
            session.add(Note(body=f"note {n}"))
            await graph.ainvoke({"said": ["go"]}, config(f"t{n}"))
            if n % 2:
                raise ValueError("odd")

    found = await asyncio.gather(*(talk(n) for n in range(8)), return_exceptions=True)
    assert [type(f) for f in found] == [type(None), ValueError] * 4
    kept = {f"t{n}" for n in range(0, 8, 2)}
    assert {row[0] for row in closing_query(path, "SELECT DISTINCT thread_id FROM checkpoints")} == kept
    assert {row[0] for row in closing_query(path, "SELECT DISTINCT thread_id FROM writes")} == kept
    assert rows(path)[0] == 4


async def test_a_nested_block_joins_the_outer_one(db: UnifiedDatabase, path: Path) -> None:
    async with db.transaction() as outer:
        outer.add(Note(body="outer"))
        async with db.transaction() as inner:
            assert inner is outer
            inner.add(Note(body="inner"))
        assert rows(path) == (0, 0, 0)
    assert rows(path)[0] == 2


async def test_a_nested_block_that_fails_takes_the_outer_one_with_it(db: UnifiedDatabase, path: Path) -> None:
    with pytest.raises(TransactionFailedError, match="inner"):
        async with db.transaction() as outer:
            outer.add(Note(body="outer"))
            try:
                async with db.transaction():
                    raise ValueError("inner")
            except ValueError:
                pass
    assert rows(path) == (0, 0, 0)


async def test_a_block_outside_commits_by_itself(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    with pytest.raises(ValueError, match="later"):
        async with db.transaction() as outer:
            outer.add(Note(body="outer"))
            with db.outside_transaction():
                async with db.transaction() as audit:
                    audit.add(Note(body="audit"))
                await saver.aput(config("audit"), checkpoint(), metadata(), {})
            raise ValueError("later")
    assert rows(path) == (1, 1, 0)


async def test_the_two_forms_cannot_be_nested(db: UnifiedDatabase) -> None:
    async with db.transaction():
        with pytest.raises(RuntimeUseError, match="nested"), db.transaction_sync():
            pass


async def test_a_task_that_outlives_its_transaction_is_refused(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    ended = asyncio.Event()

    async def late() -> Any:
        await ended.wait()
        assert await saver.aget_tuple(config("t")) is not None
        await saver.aput(config("late"), checkpoint(), metadata(), {})

    async with db.transaction():
        task = asyncio.create_task(late())
        await saver.aput(config("t"), checkpoint(), metadata(), {})
    ended.set()
    with pytest.raises(TransactionEndedError, match="was committed"):
        await task
    assert rows(path) == (0, 1, 0)


async def test_other_savers_of_the_same_file_take_part(db: UnifiedDatabase, path: Path) -> None:
    import aiosqlite

    async with (
        UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as own,
        aiosqlite.connect(path) as conn,
    ):
        lent = UnifiedAsyncSqliteSaver(conn)
        await lent.setup()
        with pytest.raises(ValueError, match="later"):
            async with db.transaction():
                await own.aput(config("own"), checkpoint(), metadata(), {})
                await lent.aput(config("lent"), checkpoint(), metadata(), {})
                assert await lent.aget_tuple(config("own")) is not None
                raise ValueError("later")
        assert rows(path) == (0, 0, 0)


@pytest.mark.parametrize("first", ["aput", "aput_writes", "acopy_thread", "aput of the store"])
async def test_a_lent_connection_takes_part_from_its_first_call_on(
    db: UnifiedDatabase, path: Path, first: str
) -> None:
    """Which file it belongs to is only known once it has been opened."""
    import aiosqlite

    theirs = UnifiedAsyncSqliteSaver(db)
    saved = await theirs.aput(config("source"), checkpoint(), metadata(), {})
    await UnifiedAsyncSqliteStore(db).setup()
    before = [table(path, name) for name in ("checkpoints", "writes", "store")]
    async with aiosqlite.connect(path) as conn:
        lent, store = UnifiedAsyncSqliteSaver(conn), UnifiedAsyncSqliteStore(conn)
        calls = {
            "aput": lambda: lent.aput(config("t"), checkpoint(), metadata(), {}),
            "aput_writes": lambda: lent.aput_writes(saved, [("c", 1)], "task"),
            "acopy_thread": lambda: lent.acopy_thread("source", "copy"),
            "aput of the store": lambda: store.aput(("a",), "b", {"c": 1}),
        }
        with pytest.raises(ValueError, match="later"):
            async with db.transaction():
                await calls[first]()
                raise ValueError("later")
        assert [table(path, name) for name in ("checkpoints", "writes", "store")] == before
        async with db.transaction():
            await calls[first]()
        assert [table(path, name) for name in ("checkpoints", "writes", "store")] != before


# --- Cancelling ------------------------------------------------------------------------------------


async def test_cancelling_leaves_neither(db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db), wait=0.02)

    async def talk() -> None:
        async with db.transaction() as session:
            session.add(Note(body="hello"))
            await graph.ainvoke({"said": ["go"]}, config("t"))
            await asyncio.sleep(10)

    for delay in (0.0, 0.03, 0.2):
        task = asyncio.create_task(talk())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rows(path) == (0, 0, 0)
        assert lock_is_free(path)


async def test_cancelling_during_the_commit_leaves_both_or_neither(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)

    async def talk(n: int) -> None:
        async with db.transaction() as session:
            session.add(Note(body=f"note {n}"))
            await saver.aput(config(f"t{n}"), checkpoint(), metadata(), {})

    for n in range(40):
        task = asyncio.create_task(talk(n))
        await asyncio.sleep(n * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        notes, checkpoints, _ = rows(path)
        assert notes == checkpoints
    assert lock_is_free(path)


# --- The lock ----------------------------------------------------------------------------------------


async def test_no_lock_is_held_while_a_model_is_called(db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db), wait=0.1)
    free: list[bool] = []

    async def watch() -> None:
        while True:
            free.append(lock_is_free(path))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    async with db.transaction() as session:
        session.add(Note(body="hello"))
        await graph.ainvoke({"said": ["go"]}, config("t"))
        watching.cancel()
    assert len(free) > 10
    assert all(free)


async def test_what_is_flushed_early_commits_with_the_rest(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    async with db.transaction() as session:
        note = Note(body="early")
        session.add(note)
        await session.flush()
        assert note.id == 1
        assert not lock_is_free(path)
        await session.execute(insert(Note).values(body="earlier still"))
        saved = await saver.aput(config("t"), checkpoint(), metadata(), {})
        await saver.aput_writes(saved, [("c", 1)], "task")
        assert (await saver.aget_tuple(config("t"))).pending_writes == [("task", "c", 1)]  # type: ignore[union-attr]
        session.add(Note(body="late"))
        assert rows(path) == (0, 0, 0)
    assert rows(path) == (3, 1, 1)


async def test_what_is_flushed_early_is_rolled_back_with_the_rest(db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    with pytest.raises(ValueError, match="later"):
        async with db.transaction() as session:
            await session.execute(insert(Note).values(body="early"))
            await saver.aput(config("t"), checkpoint(), metadata(), {})
            await saver.aget_tuple(config("t"))
            raise ValueError("later")
    assert rows(path) == (0, 0, 0)
    assert lock_is_free(path)


def test_in_threads_what_is_flushed_early_commits_with_the_rest(sync_db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedSqliteSaver(sync_db))
    with sync_db.transaction_sync() as session:
        session.add(Note(body="early"))
        session.flush()
        graph.invoke({"said": ["go"]}, config("t"))
        assert graph.get_state(config("t")).values["said"][-1] == "last"
        assert rows(path) == (0, 0, 0)
    assert rows(path)[0] == 1
    assert rows(path)[1] > 0


async def test_a_lock_that_is_held_long_is_warned_about_with_its_place(
    db: UnifiedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with db.transaction() as session:
            await session.execute(insert(Note).values(body="early"))
            await asyncio.sleep(0.5)
    (warning,) = [r.getMessage() for r in caplog.records if "has been locked" in r.getMessage()]
    assert "test_transactions.py:" in warning
    assert "in test_a_lock_that_is_held_long_is_warned_about_with_its_place" in warning
    assert "add rows without flush" in warning


async def test_a_writer_that_waits_in_vain_is_told_who_holds_the_lock(db: UnifiedDatabase) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    await saver.setup()
    async with AsyncSession(db.async_engine) as session:
        await session.execute(insert(Note).values(body="held"))
        with pytest.raises(WriteLockHeldError, match=r"test_transactions\.py") as caught:
            await saver.aput(config("t"), checkpoint(), metadata(), {})
        assert "transaction()" in str(caught.value)
        await session.rollback()
    await saver.aput(config("t"), checkpoint(), metadata(), {})


async def test_a_sync_write_does_not_wait_for_the_loop_it_blocks(db: UnifiedDatabase, path: Path) -> None:
    async with (
        UnifiedDatabase(path, busy_timeout_s=60) as patient,
        AsyncSession(patient.async_engine) as session,
    ):
        await session.execute(insert(Note).values(body="held"))
        start = time.monotonic()
        with (
            pytest.raises(Exception, match="would stop the loop") as caught,
            Session(patient.engine) as other,
        ):
            other.execute(insert(Note).values(body="other"))
        assert isinstance(getattr(caught.value, "orig", None), WriteLockHeldError)
        assert time.monotonic() - start < 30
        await session.commit()


# --- Engines -------------------------------------------------------------------------------------------


def test_a_session_that_only_reads_takes_no_lock_and_pins_no_snapshot(
    sync_db: UnifiedDatabase, path: Path
) -> None:
    with Session(sync_db.engine) as session:
        assert session.scalars(select(Note)).all() == []
        assert lock_is_free(path)
        with closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO notes (body) VALUES ('new')")
            other.commit()
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert len(session.scalars(select(Note)).all()) == 1
        session.add(Note(body="read, then written"))
        session.commit()
    assert rows(path)[0] == 2


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO notes (body) VALUES ('x')",
        "/* a comment */ -- and one more\n insert into notes (body) values ('x')",
        "WITH new(b) AS (SELECT 'x') INSERT INTO notes (body) SELECT b FROM new",
        "CREATE TABLE made (a)",
        "UPDATE notes SET body = 'y'",
    ],
)
def test_the_first_write_takes_the_lock(sync_db: UnifiedDatabase, path: Path, sql: str) -> None:
    with sync_db.engine.connect() as conn:
        conn.execute(text(sql))
        assert not lock_is_free(path)
        conn.rollback()
        assert lock_is_free(path)
    assert rows(path)[0] == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'insert into notes'",
        "WITH a AS (SELECT 1), b AS (SELECT ')') SELECT * FROM a, b",
        "PRAGMA user_version",
        "EXPLAIN DELETE FROM notes",
        "VALUES (1)",
    ],
)
def test_reads_take_no_lock(sync_db: UnifiedDatabase, path: Path, sql: str) -> None:
    with sync_db.engine.connect() as conn:
        conn.execute(text(sql))
        assert lock_is_free(path)
        assert not conn.connection.dbapi_connection.in_transaction  # type: ignore[union-attr]


def test_savepoints_are_sent_with_the_first_write(sync_db: UnifiedDatabase, path: Path) -> None:
    with Session(sync_db.engine) as session:
        with session.begin_nested():
            assert session.scalars(select(Note)).all() == []
            assert lock_is_free(path)
        with pytest.raises(ValueError, match="inner"), session.begin_nested():
            session.add(Note(body="gone"))
            session.flush()
            raise ValueError("inner")
        with session.begin_nested():
            session.add(Note(body="kept"))
        with pytest.raises(ValueError, match="empty"), session.begin_nested():
            raise ValueError("empty")
        session.commit()
    assert [row[0] for row in table(path, "notes")] == ["kept"]


def test_autocommit_is_left_alone(sync_db: UnifiedDatabase, path: Path) -> None:
    with sync_db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("INSERT INTO notes (body) VALUES ('x')"))
        assert lock_is_free(path)
        assert rows(path)[0] == 1
    with sync_db.engine.begin() as conn:
        conn.execute(text("INSERT INTO notes (body) VALUES ('y')"))
        assert not lock_is_free(path)


def test_a_result_that_is_still_being_read_is_named(sync_db: UnifiedDatabase, path: Path) -> None:
    with sync_db.engine.begin() as conn:
        conn.execute(text("INSERT INTO notes (body) VALUES ('a'), ('b'), ('c')"))
    with sync_db.engine.connect() as conn:
        reading = conn.connection.cursor()
        reading.execute("SELECT * FROM notes")
        reading.fetchone()
        with closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO notes (body) VALUES ('d')")
            other.commit()
        with pytest.raises(Exception, match="still being read"):
            conn.execute(text("INSERT INTO notes (body) VALUES ('e')"))
        reading.close()


def test_foreign_keys_are_enforced_by_default(path: Path) -> None:
    with UnifiedDatabase(path) as db, db.engine.connect() as conn:
        assert conn.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert conn.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert conn.execute(text("PRAGMA synchronous")).scalar() == 2
    with UnifiedDatabase(path, foreign_keys=False) as db, db.engine.connect() as conn:
        assert conn.execute(text("PRAGMA foreign_keys")).scalar() == 0


async def test_a_stock_saver_on_our_connection_cannot_commit_our_transaction(
    db: UnifiedDatabase, path: Path
) -> None:
    await db.prepare()
    async with AsyncSession(db.async_engine) as session:
        await session.execute(insert(Note).values(body="half"))
        driver = (await (await session.connection()).get_raw_connection()).driver_connection
        stock = AsyncSqliteSaver(driver)  # type: ignore[arg-type]
        with pytest.raises(ForeignCommitError, match="something else tried to commit"):
            await stock.aput(config("t"), checkpoint(), metadata(), {})
        assert rows(path) == (0, 0, 0)
        await session.rollback()
    assert rows(path) == (0, 0, 0)


@pytest.mark.parametrize("name", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "file:x?mode=memory"])
def test_a_database_in_memory_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names no file"):
        UnifiedDatabase(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("postgresql://ada:secret@host/app", "begins with 'postgresql'", id="another-database"),
        pytest.param("{folder}", "is a folder", id="a-folder"),
        pytest.param("{folder}/missing/app.sqlite", "missing is not a folder", id="a-folder-that-is-missing"),
    ],
)
def test_a_path_that_cannot_be_a_database_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        UnifiedDatabase(name.format(folder=tmp_path))
    assert "secret" not in str(caught.value) + caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_url_names_the_file_too(path: Path) -> None:
    with UnifiedDatabase(f"sqlite+aiosqlite:///{path}") as db:
        assert db.path == path
