"""Lanes for a connection that an application lends: used as it is, in one trip and one transaction.

Everything goes through that one connection: its settings, its functions, its in-memory or
read-only database. So what goes through it goes one after the other, a read behind a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiosqlite

from unified_db.errors import OpenTransactionError
from unified_db.runtime.connections import file_key, file_of, is_busy, lock_held_error
from unified_db.runtime.lanes import FileKey
from unified_db.runtime.readers import Read
from unified_db.runtime.tables import set_wal
from unified_db.runtime.waiters import LoopWaiter, Outcome
from unified_db.runtime.work import Work, execute, execute_all
from unified_db.runtime.writer import Ending

Result = TypeVar("Result")
Waiting = tuple[LoopWaiter, tuple[Work, ...], Ending]

# How long one attempt for the write lock blocks a lent connection, whose reads wait behind it.
_ATTEMPT_S = 0.05
_PAUSE_S = 0.005


# --- An aiosqlite connection of the application --------------------------------------------------


class LentAsyncLane:
    """An `aiosqlite.Connection`: what waits is done in one transaction in its thread.

    Every write holds `lock` meanwhile, as the stock saver does, so an application that takes it
    keeps the saver out of a transaction of its own.
    """

    def __init__(self, conn: aiosqlite.Connection, lock: asyncio.Lock) -> None:
        self.conn = conn
        self.lock = lock
        self._key: FileKey | None = None
        self._key_known = False
        self._timeout_s = 0.0
        self._waiting: deque[Waiting] = deque()
        self._pump: asyncio.Task[None] | None = None

    @property
    def key(self) -> FileKey | None:
        """What makes the connection's file one file; None for one in memory, or before `connect`."""
        return self._key

    async def connect(self) -> None:
        """Open the connection where the caller only made it, and learn which file it is."""
        if self.conn._connection is None:  # noqa: SLF001 - there is no public way to ask
            await self.conn
        if not self._key_known:
            path = await self._in_thread(file_of)
            self._timeout_s = await self._in_thread(busy_timeout_s)
            with contextlib.suppress(OSError):
                self._key = file_key(path) if path is not None else None
            self._key_known = True

    async def use_wal(self) -> None:
        """Switch the database to WAL, where it can be written at all."""
        await self._in_thread(set_wal)

    async def read(self, read: Read[Result]) -> Result:
        """The result of *read*, in the connection's thread, behind what it does already."""
        return await self._in_thread(read)

    async def write(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in the connection's thread, together with whatever else waits.

        Raises:
            OpenTransactionError: The application has a transaction open on this connection, and
                kept it open for the busy timeout.
            WriteLockHeldError: Another connection held the write lock for that long.
        """
        waiter = LoopWaiter()
        if not self._key_known:
            await self.connect()
        self._waiting.append((waiter, works, ending))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._empty())
        return await waiter.future

    async def _empty(self) -> None:
        while self._waiting:
            async with self.lock:
                batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
                batch = [entry for entry in batch if not entry[0].gone()]
                try:
                    outcomes = await self._do(batch)
                except Exception as error:  # noqa: BLE001 - those who wait must hear of it
                    outcomes = [(waiter, None, error) for waiter, _, _ in batch]
            for waiter, result, failure in outcomes:
                waiter.settle(result, failure)

    async def _do(self, batch: list[Waiting]) -> list[Outcome]:
        commits = [entry for entry in batch if entry[2] == "COMMIT"]
        groups = [[entry] for entry in batch if entry[2] != "COMMIT"]
        outcomes: list[Outcome] = []
        if len(commits) > 1:
            works = [work for _, some, _ in commits for work in some]
            try:
                results = await self._transact(works, "COMMIT", execute_all)
            except Exception as error:  # noqa: BLE001 - which one it was shows when they run one by one
                if isinstance(error, OpenTransactionError) or is_busy(error):
                    return [(waiter, None, error) for waiter, _, _ in batch]
                groups += [[entry] for entry in commits]
            else:
                outcomes += _spread(commits, results)
        else:
            groups += [[entry] for entry in commits]
        for ((waiter, some, ending),) in groups:
            try:
                results = await self._transact(list(some), ending, _one_by_one)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                outcomes.append((waiter, None, error))
            else:
                outcomes.append((waiter, results[-1] if results else None, None))
        return outcomes

    async def _transact(self, works: list[Work], ending: Ending, body: Callable[..., list[Any]]) -> list[Any]:
        waited = Patience(self._timeout_s)
        while True:
            try:
                return await self._in_thread(lambda raw: transact(raw, works, ending, body))
            except (sqlite3.OperationalError, OpenTransactionError) as error:
                # The thread is free meanwhile: for reads, and for the application's own COMMIT.
                waited.again_or_raise(error)
            await asyncio.sleep(_PAUSE_S)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        # aiosqlite offers no public way to run several calls as one in its thread.
        return await self.conn._execute(lambda: work(self.conn._conn))  # type: ignore[no-any-return,no-untyped-call]  # noqa: SLF001


def _spread(batch: list[Waiting], results: list[Any]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    place = -1
    for waiter, works, _ in batch:
        place += len(works)
        outcomes.append((waiter, results[place] if works else None, None))
    return outcomes


# --- A sqlite3 connection of the application ---------------------------------------------------


class LentLane:
    """A `sqlite3.Connection`, used by one thread at a time under `lock`."""

    def __init__(self, conn: sqlite3.Connection, lock: threading.Lock) -> None:
        self.conn = conn
        self.lock = lock
        path = file_of(conn)
        self._timeout_s = busy_timeout_s(conn)
        self.key: FileKey | None = None
        with contextlib.suppress(OSError):
            self.key = file_key(path) if path is not None else None

    def use_wal_sync(self) -> None:
        """Switch the database to WAL, where it can be written at all."""
        self.read_sync(set_wal)

    def read_sync(self, read: Read[Result]) -> Result:
        """The result of *read*, in the calling thread."""
        with self.lock:
            return read(self.conn)

    def write_sync(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in one transaction in the calling thread.

        Raises:
            OpenTransactionError: The application has a transaction open on this connection, and
                kept it open for the busy timeout.
            WriteLockHeldError: Another connection held the write lock for that long.
        """
        waited = Patience(self._timeout_s)
        while True:
            with self.lock:
                try:
                    results = transact(self.conn, works, ending, _one_by_one)
                except (sqlite3.OperationalError, OpenTransactionError) as error:
                    waited.again_or_raise(error)
                else:
                    return results[-1] if results else None
            time.sleep(_PAUSE_S)


# --- One transaction on a lent connection -------------------------------------------------------


class Patience:
    """Waiting for a lock, or for the end of a transaction, no longer than a connection allows."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def again_or_raise(self, error: Exception) -> None:
        """Return where trying again makes sense, else raise the error that names what is wrong."""
        open_already = isinstance(error, OpenTransactionError)
        if not open_already and not is_busy(error):
            raise error
        if time.monotonic() < self._end:
            return
        if open_already:
            raise error
        raise lock_held_error(None, self._timeout_s) from error


def busy_timeout_s(conn: sqlite3.Connection) -> float:
    """The busy timeout that *conn* was opened with."""
    cursor = conn.cursor()
    cursor.row_factory = None
    return float(cursor.execute("PRAGMA busy_timeout").fetchone()[0]) / 1000


def transact(
    conn: sqlite3.Connection, works: Any, ending: Ending, body: Callable[..., list[Any]]
) -> list[Any]:
    """Do *works* in one transaction on a lent connection, or nothing of them.

    Raises:
        OpenTransactionError: There is a transaction already. The stock savers commit it.
        sqlite3.OperationalError: Busy after a moment; the caller tries again.
    """
    if conn.in_transaction:
        raise open_transaction_error(conn)
    with _short_busy_timeout(conn):
        conn.execute("BEGIN IMMEDIATE")
    try:
        results = body(conn, works)
        conn.execute(ending)
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    return results


def _one_by_one(conn: sqlite3.Connection, works: Any) -> list[Any]:
    return [execute(conn, work) for work in works]


@contextmanager
def _short_busy_timeout(conn: sqlite3.Connection) -> Iterator[None]:
    cursor = conn.cursor()
    cursor.row_factory = None
    (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
    short = int(_ATTEMPT_S * 1000)
    if before <= short:
        yield
        return
    cursor.execute(f"PRAGMA busy_timeout={short}")
    try:
        yield
    finally:
        cursor.execute(f"PRAGMA busy_timeout={before}")


def open_transaction_error(conn: sqlite3.Connection) -> OpenTransactionError:
    """The error for a saver that finds a transaction of the application on its connection."""
    where = file_of(conn) or "an in-memory database"
    return OpenTransactionError(
        f"the connection to {where} that was lent to LangGraph has a transaction of the application open",
        hint="Nothing was written, and that transaction is as it was; the stock saver would have committed "
        "it half-finished. Commit it before running the graph, lend a connection of its own, or put both "
        "into `UnifiedDatabase.transaction()`.",
    )
