"""One transaction for a SQLAlchemy session and everything that savers and stores are given in it.

What is added to the session and what a graph run saves is kept until the end of the block and
goes to the file in one short write transaction, inside the writer's thread: no event loop and no
model call takes place while the write lock is held.

Where the application makes its session write early (`flush()`, `execute(insert(...))`), that
session's own connection holds the lock from there on and the rest is committed through it.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from unified_db.errors import RuntimeUseError
from unified_db.runtime.connections import is_busy, lock_held_error
from unified_db.runtime.engines import UnifiedConnection, raw_connection_of
from unified_db.runtime.holds import holder_of, running_loop
from unified_db.runtime.units import Unit, current_unit, entered, require_same_context
from unified_db.runtime.waiters import LoopWaiter, ThreadWaiter
from unified_db.runtime.work import Work, execute_all
from unified_db.runtime.writer import Job

if TYPE_CHECKING:
    from unified_db.runtime.database import UnifiedDatabase


class UnitSession(Session):
    """A session whose commit can be made on a connection that it is handed for that moment."""

    commit_on: Connection | None = None

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        """The connection of the commit while there is one, else the engine."""
        return self.commit_on if self.commit_on is not None else super().get_bind(*args, **kwargs)


class SessionConnection:
    """The connection that a session reads and, early, writes with; implements `units.Early`."""

    def __init__(self, session: Session) -> None:
        self._found: list[Connection] = []
        self._lock = threading.Lock()
        event.listen(session, "after_begin", self._after_begin)

    def _after_begin(self, _session: Session, _transaction: Any, connection: Connection) -> None:
        self._found.append(connection)

    def open(self) -> Connection | None:
        """The session's connection, where it has one."""
        return next((c for c in self._found if not c.closed and not c.invalidated), None)

    def connection(self) -> UnifiedConnection | None:
        """Its SQLite connection, while that is in a write transaction."""
        found = self.open()
        raw = raw_connection_of(found) if found is not None else None
        return raw if raw is not None and raw.in_transaction else None

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run *function* in the thread of an asyncio connection."""
        return await self._driver()._execute(function)  # noqa: SLF001 - see lent.py

    def run_sync(self, function: Callable[[], Any]) -> Any:
        """Run *function* between two statements of the session, from whichever thread asks."""
        driver = self._driver()
        if hasattr(driver, "_execute") and running_loop() is None:
            # The connection belongs to a thread that takes one thing after the other.
            return asyncio.run(driver._execute(function))  # noqa: SLF001 - see lent.py
        with self._lock:
            return function()

    def _driver(self) -> Any:
        found = self.open()
        assert found is not None
        return found.connection.driver_connection


def follow(session: Session, unit: Unit) -> None:
    """Make *unit* lose what is rolled back in *session*, and refuse a commit before the block's end.

    A savepoint that is rolled back takes with it what savers and stores were given since.
    """
    given: dict[SessionTransaction, int] = {}

    def begun(_session: Session, transaction: SessionTransaction) -> None:
        if transaction.nested:
            given[transaction] = unit.given

    def rolled_back(_session: Session, transaction: SessionTransaction) -> None:
        if transaction.nested or transaction.parent is None:
            unit.forget(given.pop(transaction, 0))

    def refuse_commit(session: Session) -> None:
        if unit.is_open and not session.in_nested_transaction():
            raise RuntimeUseError(
                "`commit()` was called on the session of a `transaction()` block, which commits at its end",
                hint="Nothing was written yet and the block is still open. Leave it to commit, or use a "
                "session of your own under `outside_transaction()`.",
            )

    event.listen(session, "after_transaction_create", begun)
    event.listen(session, "after_soft_rollback", rolled_back)
    event.listen(session, "before_commit", refuse_commit)


# --- On an event loop ----------------------------------------------------------------------------


@asynccontextmanager
async def transaction(db: UnifiedDatabase, session_options: dict[str, Any]) -> AsyncIterator[AsyncSession]:
    """The block behind `UnifiedDatabase.transaction`."""
    outer = current_unit(db.key)
    if outer is not None:
        with _joined(outer, AsyncSession) as session:
            yield session
        return
    await db.prepare()
    options = {"autoflush": False, "expire_on_commit": False, **session_options}
    async with AsyncSession(db.async_engine, sync_session_class=UnitSession, **options) as session:
        unit = Unit(db.key, session, SessionConnection(session.sync_session))
        follow(session.sync_session, unit)
        try:
            with entered(unit):
                yield session
                require_same_context(unit)
                unit.require_whole()
            await _commit(db, unit, session)
        except BaseException:
            unit.end("was rolled back")
            await _uninterrupted(session.rollback())
            raise


async def _commit(db: UnifiedDatabase, unit: Unit, session: AsyncSession) -> None:
    works = unit.seal("was committed")
    early = unit.early.connection()
    if early is not None:
        await session.flush()
        await unit.early.run(lambda: execute_all(early, works))
        await session.commit()
        return
    sync = session.sync_session
    assert isinstance(sync, UnitSession)
    if works or sync.new or sync.dirty or sync.deleted:
        await _uninterrupted(_commit_apart(db, session, sync, works))
    else:
        await session.commit()


async def _commit_apart(
    db: UnifiedDatabase, session: AsyncSession, sync: UnitSession, works: list[Work]
) -> None:
    """Commit *session* and *works* on a sync connection in the writer's thread."""
    with ExitStack() as stack:
        waiter = LoopWaiter()
        context = contextvars.copy_context()
        own = Job(waiter, own=lambda: context.run(_flush_and_commit, db, sync, works, stack))
        db.lane.require_in_place()
        db.lane.writer.submit(own)
        try:
            await waiter.future
        except BaseException:
            # Here, while the connection is open: the session ends its part in it.
            await session.rollback()
            raise
        await session.commit()


def _flush_and_commit(db: UnifiedDatabase, session: UnitSession, works: list[Work], stack: ExitStack) -> None:
    # Here, in the writer's thread: an application may have used up the pool, and waiting for a
    # connection must not stop the loop that would give one back.
    connection = stack.enter_context(db.engine.connect())
    raw = _begin(db, connection)
    session.commit_on = connection
    try:
        session.flush()
        execute_all(raw, works)
        connection.commit()
    except BaseException:
        # Below SQLAlchemy, which is still to be told: no lock is held until then.
        raw.rollback()
        raise
    finally:
        session.commit_on = None


async def _uninterrupted(work: Any) -> Any:
    """The result of *work*; a cancellation is passed on after its end, which decides what is true."""
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001 - raised below, by `result`
            break
    if cancelled is not None:
        if not future.cancelled():
            future.exception()
        raise cancelled
    return future.result()


# --- In a thread ---------------------------------------------------------------------------------


@contextmanager
def transaction_sync(db: UnifiedDatabase, session_options: dict[str, Any]) -> Iterator[Session]:
    """The block behind `UnifiedDatabase.transaction_sync`."""
    outer = current_unit(db.key)
    if outer is not None:
        with _joined(outer, Session) as session:
            yield session
        return
    db.prepare_sync()
    options = {"autoflush": False, "expire_on_commit": False, **session_options}
    with Session(db.engine, **options) as session:
        unit = Unit(db.key, session, SessionConnection(session))
        follow(session, unit)
        try:
            with entered(unit):
                yield session
                require_same_context(unit)
                unit.require_whole()
            _commit_sync(db, unit, session)
        except BaseException:
            unit.end("was rolled back")
            session.rollback()
            raise


def _commit_sync(db: UnifiedDatabase, unit: Unit, session: Session) -> None:
    works = unit.seal("was committed")
    early = unit.early.connection()
    if early is not None:
        session.flush()
        execute_all(early, works)
        session.commit()
        return
    if works or session.new or session.dirty or session.deleted:
        _commit_in_writer(db, session, works)
    else:
        session.commit()


def _commit_in_writer(db: UnifiedDatabase, session: Session, works: list[Work]) -> None:
    waiter, begun = ThreadWaiter(), threading.Lock()
    context = contextvars.copy_context()

    def commit() -> None:
        if begun.acquire(blocking=False):
            context.run(_commit_here, db, session, works)

    try:
        db.lane.require_in_place()
        db.lane.writer.submit(Job(waiter, own=commit))
        waiter.wait_uninterrupted()
    except BaseException:
        # An interrupt may come before the wait: either it never begins, or its end is waited for,
        # since two threads must not use one session.
        if not begun.acquire(blocking=False):
            waiter.wait_settled()
        raise


def _commit_here(db: UnifiedDatabase, session: Session, works: list[Work]) -> None:
    raw = _begin(db, session.connection())
    session.flush()
    execute_all(raw, works)
    session.commit()


# --- Both ------------------------------------------------------------------------------------------


def _begin(db: UnifiedDatabase, connection: Connection) -> UnifiedConnection:
    raw = raw_connection_of(connection)
    if not connection.in_transaction():
        connection.begin()
    try:
        raw.begin()
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        hold = holder_of(db.key)
        place = hold.place if hold else None
        raise lock_held_error(db.path, db.settings.busy_timeout_s, place) from error
    return raw


@contextmanager
def _joined(outer: Unit, kind: type[Any]) -> Iterator[Any]:
    """A block inside another one: the same session, the same commit, and no commit if it fails."""
    if not isinstance(outer.session, kind):
        raise RuntimeUseError(
            "`transaction()` and `transaction_sync()` were nested in each other",
            hint="The outer one is still open. Use the form of the outer block inside it, or run the inner "
            "one under `outside_transaction()`, where it commits by itself.",
        )
    # A task that was started inside may come to its own block after the end.
    outer.require_open()
    try:
        yield outer.session
    except BaseException:
        outer.fail()
        raise
    outer.require_open()
