"""What may go wrong inside a transaction block: rollbacks, savepoints, contexts, cancellation, crowds."""

# ruff: noqa: PT012 -- what raises here is a whole transaction block

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests.runtime.support import checkpoint, config, lock_is_free, metadata
from tests.runtime.test_transactions import DURABILITIES, Base, Note, build, closing_query, rows
from unified_db import (
    UnifiedAsyncSqliteSaver,
    UnifiedAsyncSqliteStore,
    UnifiedDatabase,
    UnifiedSqliteSaver,
    UnifiedSqliteStore,
)
from unified_db.errors import RuntimeUseError, TransactionEndedError, WriteLockHeldError


@pytest.fixture
async def db(path: Path) -> AsyncIterator[UnifiedDatabase]:
    async with UnifiedDatabase(path, busy_timeout_s=2) as database:
        Base.metadata.create_all(database.engine)
        await database.prepare()
        yield database


@pytest.fixture
def sync_db(path: Path) -> Iterator[UnifiedDatabase]:
    with UnifiedDatabase(path, busy_timeout_s=2) as database:
        Base.metadata.create_all(database.engine)
        database.prepare_sync()
        yield database


async def put(db: UnifiedDatabase, thread_id: str = "t") -> None:
    await UnifiedAsyncSqliteSaver(db).aput(config(thread_id), checkpoint(), metadata(), {})


# --- The session's own rollback and commit ---------------------------------------------------------


async def test_what_the_session_rolls_back_takes_the_checkpoints_with_it(
    db: UnifiedDatabase, path: Path
) -> None:
    async with db.transaction() as session:
        session.add(Note(body="gone"))
        await put(db, "gone")
        await session.rollback()
        session.add(Note(body="kept"))
        await put(db, "kept")
    assert closing_query(path, "SELECT body FROM notes") == [("kept",)]
    assert closing_query(path, "SELECT thread_id FROM checkpoints") == [("kept",)]


async def test_a_flush_that_failed_and_was_rolled_back_takes_the_checkpoints_with_it(
    db: UnifiedDatabase, path: Path
) -> None:
    async with db.transaction() as session:
        session.add(Note(body="twice"))
    async with db.transaction() as session:
        session.add(Note(body="with it"))
        await put(db)
        session.add(Note(body="twice"))
        with pytest.raises(IntegrityError):
            await session.flush()
        await put(db)
        await session.rollback()
    assert rows(path) == (1, 0, 0)
    assert lock_is_free(path)


async def test_a_savepoint_that_is_rolled_back_takes_its_checkpoints_with_it(
    db: UnifiedDatabase, path: Path
) -> None:
    async with db.transaction() as session:
        await put(db, "before")
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                session.add(Note(body="gone"))
                await put(db, "gone")
                async with session.begin_nested():
                    await put(db, "gone as well")
                raise ZeroDivisionError
        async with session.begin_nested():
            session.add(Note(body="kept"))
            await put(db, "kept")
    assert closing_query(path, "SELECT body FROM notes") == [("kept",)]
    assert closing_query(path, "SELECT thread_id FROM checkpoints") == [("before",), ("kept",)]


def test_in_threads_a_savepoint_takes_its_checkpoints_with_it(sync_db: UnifiedDatabase, path: Path) -> None:
    graph = build(UnifiedSqliteSaver(sync_db))
    with sync_db.transaction_sync() as session:
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(Note(body="gone"))
            graph.invoke({"said": ["go"]}, config("gone"))
            raise ZeroDivisionError
        graph.invoke({"said": ["go"]}, config("kept"))
    assert rows(path)[0] == 0
    assert closing_query(path, "SELECT DISTINCT thread_id FROM checkpoints") == [("kept",)]


async def test_a_commit_inside_the_block_is_refused_and_the_block_goes_on(
    db: UnifiedDatabase, path: Path
) -> None:
    async with db.transaction() as session:
        session.add(Note(body="first"))
        await put(db)
        with pytest.raises(RuntimeUseError, match="commits at its end"):
            await session.commit()
        assert rows(path) == (0, 0, 0)
        session.add(Note(body="second"))
    assert rows(path) == (2, 1, 0)


def test_in_threads_a_commit_inside_the_block_is_refused(sync_db: UnifiedDatabase, path: Path) -> None:
    with sync_db.transaction_sync() as session:
        session.add(Note(body="first"))
        with pytest.raises(RuntimeUseError, match="commits at its end"):
            session.commit()
    assert rows(path) == (1, 0, 0)


async def test_related_rows_and_versions_are_written_in_the_writers_thread(db: UnifiedDatabase) -> None:
    class Own(DeclarativeBase):
        pass

    class Parent(Own):
        __tablename__ = "parents"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        name: Mapped[str] = mapped_column(default="new")
        children: Mapped[list[Any]] = relationship("Child", cascade="all, delete-orphan")
        __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own name

    class Child(Own):
        __tablename__ = "children"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))

    Own.metadata.create_all(db.engine)
    async with db.transaction() as session:
        parent = Parent(children=[Child(), Child()])
        session.add(parent)
    assert (parent.id, parent.version, [c.id for c in parent.children]) == (1, 1, [1, 2])
    async with db.transaction() as session:
        (await session.scalars(select(Parent))).one().name = "changed"
    async with db.transaction() as session:
        found = (await session.scalars(select(Parent))).one()
        assert found.version == 2
        # Its children are not loaded: the flush has to read them first.
        await session.delete(found)
    async with db.transaction() as session:
        assert (await session.scalars(select(Child))).all() == []


# --- Many at once ------------------------------------------------------------------------------------


async def test_more_transactions_than_a_pool_has_connections_end_together(
    db: UnifiedDatabase, path: Path
) -> None:
    everybody = asyncio.Barrier(40)

    async def talk(n: int) -> None:
        async with db.transaction() as session:
            assert (await session.scalars(select(Note).where(Note.body == f"{n}"))).all() == []
            await everybody.wait()
            session.add(Note(body=f"{n}"))
            await put(db, f"t{n}")

    await asyncio.wait_for(asyncio.gather(*(talk(n) for n in range(40))), 20)
    assert rows(path) == (40, 40, 0)


async def test_a_pool_that_the_application_used_up_does_not_stop_the_loop(path: Path) -> None:
    options = {"pool_size": 1, "max_overflow": 0}
    async with UnifiedDatabase(path, engine_options=options) as db:
        Base.metadata.create_all(db.engine)
        await db.prepare()
        with db.engine.connect():
            putting = asyncio.create_task(_add(db))
            await asyncio.sleep(0.05)
            assert not putting.done()
        await asyncio.wait_for(putting, 10)
    assert rows(path) == (1, 0, 0)


async def _add(db: UnifiedDatabase) -> None:
    async with db.transaction() as session:
        session.add(Note(body="x"))


async def test_the_second_of_two_that_want_one_key_leaves_nothing(db: UnifiedDatabase, path: Path) -> None:
    both = asyncio.Barrier(2)

    async def talk(n: int) -> None:
        async with db.transaction() as session:
            session.add(Note(body="the same"))
            await put(db, f"t{n}")
            await both.wait()

    found = await asyncio.gather(talk(0), talk(1), return_exceptions=True)
    assert sorted(type(f).__name__ for f in found) == ["IntegrityError", "NoneType"]
    assert rows(path) == (1, 1, 0)
    assert lock_is_free(path)


async def test_a_full_disk_at_the_commit_leaves_neither(db: UnifiedDatabase, path: Path) -> None:
    with db.engine.connect() as conn:
        pages = conn.execute(text("PRAGMA page_count")).scalar()
    event.listen(db.engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count={pages + 3}"))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        async with db.transaction() as session:
            session.add(Note(body="x"))
            big = checkpoint({"blob": "x" * 200_000})
            await UnifiedAsyncSqliteSaver(db).aput(config(), big, metadata(), {})
    assert rows(path) == (0, 0, 0)
    assert lock_is_free(path)
    async with db.transaction() as session:
        session.add(Note(body="small"))
    assert rows(path) == (1, 0, 0)


def test_an_interrupt_from_the_keyboard_leaves_all_or_nothing(sync_db: UnifiedDatabase, path: Path) -> None:
    saver = UnifiedSqliteSaver(sync_db)
    saver.setup()

    def interrupted(n: int) -> None:
        timer = threading.Timer(n * 0.0004, os.kill, (os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            timer.start()
            with sync_db.transaction_sync() as session:
                session.add(Note(body=f"{n}"))
                saved = saver.put(config(), checkpoint(), metadata(), {})
                saver.put_writes(saved, [("c", 1)], "task")
            timer.join()
            # Until it comes; one that Python met in a destructor never does.
            time.sleep(0.05)

    for n in range(25):
        before = rows(path)
        # Each in a context of its own, which the next one does not inherit.
        contextvars.copy_context().run(interrupted, n)
        assert rows(path) in (before, tuple(count + 1 for count in before))
        assert lock_is_free(path)


async def test_a_write_that_the_application_left_open_is_what_the_error_names(path: Path) -> None:
    """An application with an engine of its own, that holds a transaction across a graph call."""
    own = create_engine(f"sqlite:///{path}")
    async with UnifiedDatabase(path, busy_timeout_s=0.2) as db:
        Base.metadata.create_all(own)
        graph = build(UnifiedAsyncSqliteSaver(db))
        with Session(own) as session:
            session.add(Note(body="half"))
            session.flush()
            with pytest.raises(WriteLockHeldError, match="Commit before running a graph"):
                await graph.ainvoke({"said": []}, config())
            session.commit()
        await graph.ainvoke({"said": []}, config())
    own.dispose()
    assert rows(path)[0] == 1


# --- Contexts ------------------------------------------------------------------------------------------


def test_a_block_that_was_entered_in_a_context_of_its_own_is_refused(
    sync_db: UnifiedDatabase, path: Path
) -> None:
    """As a generator dependency of FastAPI that is made with `def`: each half runs in a thread."""
    block = sync_db.transaction_sync()
    session = contextvars.copy_context().run(block.__enter__)
    session.add(Note(body="x"))
    with pytest.raises(RuntimeUseError, match="another context"):
        contextvars.copy_context().run(block.__exit__, None, None, None)
    assert rows(path) == (0, 0, 0)


async def test_a_dependency_of_fastapi_holds_the_endpoint_s_graph(db: UnifiedDatabase, path: Path) -> None:
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    graph = build(UnifiedAsyncSqliteSaver(db))

    async def session() -> AsyncIterator[AsyncSession]:
        async with db.transaction() as found:
            yield found

    def session_in_threads() -> Iterator[Any]:
        with db.transaction_sync() as found:
            yield found

    app = fastapi.FastAPI()

    @app.post("/say/{thread_id}")
    async def say(thread_id: str, fail: bool = False, session: Any = fastapi.Depends(session)) -> None:  # noqa: B008
        session.add(Note(body=thread_id))
        await graph.ainvoke({"said": ["go"]}, config(thread_id))
        if fail:
            raise fastapi.HTTPException(409)

    @app.post("/wrong")
    async def wrong(session: Any = fastapi.Depends(session_in_threads)) -> None:  # noqa: B008
        session.add(Note(body="wrong"))

    say.__annotations__["session"] = wrong.__annotations__["session"] = Any
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/say/a")).status_code == 200
        assert (await client.post("/say/b?fail=true")).status_code == 409
        with pytest.raises(RuntimeUseError, match="`def` in threads"):
            transport.raise_app_exceptions = True
            await client.post("/wrong")
    assert closing_query(path, "SELECT body FROM notes") == [("a",)]
    assert closing_query(path, "SELECT DISTINCT thread_id FROM checkpoints") == [("a",)]


@pytest.mark.parametrize("early", [False, True], ids=["added", "flushed"])
@pytest.mark.parametrize("kind", [UnifiedAsyncSqliteSaver, UnifiedSqliteSaver])
@DURABILITIES
async def test_a_graph_in_a_thread_belongs_to_the_transaction_around_it(
    db: UnifiedDatabase, path: Path, kind: Any, durability: str, early: bool
) -> None:
    graph = build(kind(db), wait=0.005)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as session:
            session.add(Note(body="x"))
            if early:
                await session.flush()
            await asyncio.to_thread(graph.invoke, {"said": ["go"]}, config("t"), durability=durability)
            assert (await asyncio.to_thread(graph.get_state, config("t"))).next == ()
            raise ZeroDivisionError
    assert rows(path) == (0, 0, 0)
    assert lock_is_free(path)


async def test_threads_that_look_at_once_keep_out_of_each_other_and_of_the_session(
    db: UnifiedDatabase, path: Path
) -> None:
    """A look is undone by rolling back to a savepoint, which must not undo what the session flushed."""
    store = UnifiedSqliteStore(db)
    store.setup()

    def look(n: int) -> int:
        for k in range(10):
            store.put((f"n{n}",), f"k{k}", {"n": k})
            assert len(store.search((f"n{n}",), limit=20)) == k + 1
        return n

    async with db.transaction() as session:
        await session.execute(insert(Note).values(body="early"))
        looking = [asyncio.create_task(asyncio.to_thread(look, n)) for n in range(4)]
        for n in range(30):
            await session.execute(insert(Note).values(body=f"{n}"))
        assert await asyncio.gather(*looking) == [0, 1, 2, 3]
    assert rows(path)[0] == 31
    assert closing_query(path, "SELECT count(*) FROM store") == [(40,)]


@DURABILITIES
async def test_a_stream_that_is_closed_early_belongs_to_its_transaction(
    db: UnifiedDatabase, path: Path, durability: str
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db))
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            async with aclosing(graph.astream({"said": []}, config("t"), durability=durability)) as stream:
                async for _ in stream:
                    break
            raise ZeroDivisionError
    gc.collect()
    await asyncio.sleep(0.05)
    assert rows(path) == (0, 0, 0)


@DURABILITIES
async def test_a_stream_that_is_left_early_leaks_nothing(
    db: UnifiedDatabase, path: Path, durability: str
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db))
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            async for _ in graph.astream({"said": []}, config("t"), durability=durability):
                break
            raise ZeroDivisionError
    gc.collect()
    await asyncio.sleep(0.05)
    assert rows(path) == (0, 0, 0)


async def test_subtasks_and_graphs_side_by_side_belong_to_the_transaction(
    db: UnifiedDatabase, path: Path
) -> None:
    graph = build(UnifiedAsyncSqliteSaver(db))
    store = UnifiedAsyncSqliteStore(db)
    await store.setup()
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            async with asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(graph.ainvoke({"said": ["go"]}, config(f"t{n}")))
                group.create_task(store.aput(("a",), "k", {"n": 1}))
            assert len(await store.asearch(("a",))) == 1
            raise ZeroDivisionError
    assert rows(path) == (0, 0, 0)
    assert closing_query(path, "SELECT count(*) FROM store") == [(0,)]


# --- Cancelling at every step --------------------------------------------------------------------------


class CancelledAt:
    """Awaits *work* in a task and cancels that at its *step*-th wait: as it begins, or just as it ends."""

    def __init__(self, work: Coroutine[Any, Any, None], step: int, when: str) -> None:
        self._work = work
        self._step = step
        self._when = when

    async def run(self) -> bool:
        """Whether there was no such wait: the work ended before."""
        self._reached = False
        self._task = asyncio.ensure_future(self._await())
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return not self._reached

    async def _await(self) -> None:
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._work.__await__()
        go_on: Callable[[], Any] = partial(inner.send, None)
        for step in itertools.count():
            try:
                waited_for = go_on()
            except StopIteration:
                return
            if step == self._step:
                self._cancel(waited_for)
            try:
                yield waited_for
                go_on = partial(inner.send, None)
            except BaseException as error:  # noqa: BLE001 - what the work would have met
                go_on = partial(inner.throw, error)

    def _cancel(self, waited_for: Any) -> None:
        self._reached = True
        if waited_for is None or self._when == "begins":
            asyncio.get_running_loop().call_soon(self._task.cancel)
        else:
            # Before the task hears of the result, which is there and is lost.
            waited_for.add_done_callback(lambda _: self._task.cancel())


@pytest.mark.parametrize("when", ["begins", "ends"])
@pytest.mark.parametrize("how", ["added", "flushed", "a whole graph"])
async def test_cancelling_at_any_wait_leaves_all_or_nothing(
    db: UnifiedDatabase, path: Path, how: str, when: str
) -> None:
    saver = UnifiedAsyncSqliteSaver(db)
    graph = build(saver)

    async def talk(n: int) -> None:
        async with db.transaction() as session:
            session.add(Note(body=f"{n}"))
            if how == "a whole graph":
                await graph.ainvoke({"said": []}, config(f"t{n}"))
                return
            if how == "flushed":
                await session.flush()
            saved = await saver.aput(config(f"t{n}"), checkpoint(), metadata(), {})
            await saver.aput_writes(saved, [("c", 1)], "task")
            assert await saver.aget_tuple(config(f"t{n}")) is not None

    await talk(-1)
    one = rows(path)
    whole = 1
    for step in range(1000):
        ended = await CancelledAt(talk(step), step, when).run()
        found = rows(path)
        whole = found[0]
        assert found == tuple(n * whole for n in one), f"cancelled at wait {step}"
        assert lock_is_free(path), f"cancelled at wait {step}"
        if ended:
            break
    assert ended
    assert step > 2


async def test_a_block_of_a_task_that_outlived_its_transaction_is_refused(
    db: UnifiedDatabase, path: Path
) -> None:
    """It would join a session that nobody commits any more."""
    ended = asyncio.Event()

    async def begun_late() -> None:
        await ended.wait()
        async with db.transaction() as session:
            session.add(Note(body="lost"))

    async def left_late() -> None:
        async with db.transaction() as session:
            await ended.wait()
            session.add(Note(body="lost"))

    async def apart() -> None:
        await ended.wait()
        with db.outside_transaction():
            async with db.transaction() as session:
                session.add(Note(body="kept"))

    async with db.transaction():
        tasks = [asyncio.create_task(work()) for work in (begun_late, left_late, apart)]
        await asyncio.sleep(0)
    ended.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(f) for f in found] == [TransactionEndedError, TransactionEndedError, type(None)]
    assert closing_query(path, "SELECT body FROM notes") == [("kept",)]


async def test_nothing_is_taken_after_the_end(db: UnifiedDatabase, path: Path) -> None:
    async with db.transaction():
        context = contextvars.copy_context()
    late = asyncio.get_running_loop().create_task(put(db), context=context)
    with pytest.raises(TransactionEndedError):
        await late
    assert rows(path) == (0, 0, 0)
