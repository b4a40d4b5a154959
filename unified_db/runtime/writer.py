"""The one writer of a file: a thread that puts what waits into one commit.

Whoever writes gives a job and waits for its outcome. With one caller at a time a job is
committed at once; what arrives while a commit is under way goes into the next one, so the
number of commits follows from the load and nobody waits for a window to fill. No event loop
takes part between BEGIN and COMMIT. Between two transactions everybody else in this process who
writes gets a turn (`gate.py`).

A batch in which a job fails is rolled back and its jobs are done again one by one, so only
the caller who caused an error sees it.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from unified_db.errors import DatabaseClosedError, RuntimeUseError
from unified_db.runtime.connections import (
    FileSettings,
    begin_immediate,
    connect_writer,
    is_busy,
    lock_held_error,
)
from unified_db.runtime.gate import Gate, Turn
from unified_db.runtime.waiters import LoopWaiter, Outcome, ThreadWaiter, Waiter, deliver
from unified_db.runtime.work import Work, execute, execute_all

# Enough to share a commit among all that one loop has in flight, small enough that the lock is
# free again within milliseconds for other processes.
MAX_BATCH = 256
# Of the busy timeout: who has more than this left need not have it cut, which takes three statements.
HARDLY_WAITED = 0.9

Ending = Literal["COMMIT", "ROLLBACK"]


class Job:
    """Some work, who waits for it, and how its transaction ends.

    Attributes:
        works: What is done, in order, in one transaction.
        alone: True where it must not share a transaction with other jobs.
        ending: ROLLBACK for a job that only looks at what the file would hold.
        own: A function that manages a transaction on a connection of its own; runs in the writer's
            thread so that it never waits for another writer of this process.
        since: When it was given, on the monotonic clock.
    """

    __slots__ = ("alone", "ending", "own", "since", "waiter", "works")

    def __init__(
        self,
        waiter: Waiter,
        works: Sequence[Work] = (),
        *,
        ending: Ending = "COMMIT",
        own: Callable[[], Any] | None = None,
    ) -> None:
        self.waiter = waiter
        self.works = works
        self.ending = ending
        self.own = own
        self.alone = own is not None or ending == "ROLLBACK"
        self.since = time.monotonic()


class Writer:
    """Commits jobs to one file from one thread.

    The thread and its connection start with the first job, and again after a fork: the child
    must not touch the connection of its parent, not even to close it.
    """

    def __init__(self, path: Path, settings: FileSettings) -> None:
        self.path = path
        self.settings = settings
        # Where the write lock is held by somebody else in this process; see `holds.py`.
        self.holder: Callable[[], str | None] = lambda: None
        # Entered for each transaction, also by those of our engines.
        self.gate = Gate()
        self._closed = False
        self._conn: sqlite3.Connection | None = None
        self._start_over()

    def renew_after_fork(self) -> None:
        """Begin anew in the child, where no thread of the parent goes on and nobody left a lock."""
        forget(self._conn)
        self._conn = None
        self.gate.renew()
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        # None ends the thread.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._held_back: list[Job] = []
        self._thread: threading.Thread | None = None

    # --- For callers -------------------------------------------------------------------------

    async def run(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """Do *works* in one transaction; the result of the last one.

        Cancelling drops them where they have not begun; afterwards they are committed all the same.

        Raises:
            WriteLockHeldError: Another process held the write lock for the busy timeout.
            DatabaseClosedError: The database was closed.
            Exception: What the work raised; nothing of it was written.
        """
        waiter = LoopWaiter()
        self.submit(Job(waiter, works, ending=ending))
        return await waiter.future

    def run_sync(self, *works: Work, ending: Ending = "COMMIT") -> Any:
        """As `run`, for threads. On an event loop's thread it blocks the loop until the commit."""
        waiter = ThreadWaiter()
        self.submit(Job(waiter, works, ending=ending))
        return waiter.wait()

    def submit(self, job: Job) -> None:
        """Queue *job*; its waiter gets the outcome."""
        if threading.current_thread() is self._thread:
            raise RuntimeUseError(
                "something that runs in the writer's thread, such as an ORM event of a commit, wrote again",
                hint="Nothing of it was written: it would have waited for itself. Write before the commit.",
            )
        with self._lock:
            if self._closed:
                raise closed_error(self.path)
            if self._thread is None:
                self._start()
            self._jobs.put(job)

    def close(self) -> None:
        """Finish what waits, then close the connection. Blocks until both are done."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def _start(self) -> None:
        # A daemon: everyone who waits for a commit keeps the process alive by waiting.
        self._thread = threading.Thread(target=self._work, name=f"writer of {self.path.name}", daemon=True)
        self._thread.start()

    # --- The thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._held_back.pop() if self._held_back else self._jobs.get()) is not None:
            try:
                outcomes = [self._run_own(job)] if job.own is not None else self._in_turn(job)
            except BaseException as error:  # noqa: BLE001 - the caller must hear of it, whatever it is
                outcomes = [(job.waiter, None, error)]
            deliver(outcomes)
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _in_turn(self, first: Job) -> list[Outcome]:
        turn = Turn()
        if not self.gate.enter(turn, self._left_s(first)):
            return [(first.waiter, None, self._busy_error())]
        try:
            return self._transact(first)
        finally:
            self.gate.leave(turn)

    def _transact(self, first: Job) -> list[Outcome]:
        if first.waiter.gone():
            return []
        try:
            conn = self._begin(first)
        except sqlite3.OperationalError as error:
            return [(first.waiter, None, self._busy_error() if is_busy(error) else error)]
        # Only now, so that whoever came while the lock was waited for is taken along.
        batch = self._take(first)
        if len(batch) == 1:
            return [self._finish_one(conn, batch[0])]
        try:
            return self._finish_together(conn, batch)
        except Exception:  # noqa: BLE001 - which job it was shows when they run one by one
            return [self._do_one(job) for job in batch]

    def _left_s(self, job: Job) -> float:
        return job.since + self.settings.busy_timeout_s - time.monotonic()

    def _take(self, first: Job) -> list[Job]:
        """Jobs for one transaction, in order; a job that must be alone is alone."""
        batch = [first]
        while not first.alone and len(batch) < MAX_BATCH and not self._jobs.empty():
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)
                break
            if job.alone:
                self._held_back.append(job)
                break
            # Somebody cancelled it while it waited: it never began.
            if not job.waiter.gone():
                batch.append(job)
        return batch

    def _finish_together(self, conn: sqlite3.Connection, batch: list[Job]) -> list[Outcome]:
        works = list(itertools.chain.from_iterable(job.works for job in batch))
        results = self._finish(conn, "COMMIT", lambda: execute_all(conn, works))
        outcomes: list[Outcome] = []
        place = -1
        for job in batch:
            place += len(job.works)
            outcomes.append((job.waiter, results[place] if job.works else None, None))
        return outcomes

    def _do_one(self, job: Job) -> Outcome:
        try:
            return self._finish_one(self._begin(job), job)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return job.waiter, None, self._busy_error() if is_busy(error) else error

    def _finish_one(self, conn: sqlite3.Connection, job: Job) -> Outcome:
        try:
            results = self._finish(conn, job.ending, lambda: [execute(conn, work) for work in job.works])
        except Exception as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return job.waiter, None, error
        return job.waiter, results[-1] if results else None, None

    def _run_own(self, job: Job) -> Outcome:
        assert job.own is not None
        try:
            return job.waiter, job.own(), None
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return job.waiter, None, error

    def _begin(self, job: Job) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = connect_writer(self.path, self.settings)
        # IMMEDIATE: waits for other processes here, where nothing has been done yet. A transaction
        # that turns from reading to writing may have to be given up instead (SQLITE_BUSY_SNAPSHOT).
        left_s = self._left_s(job)
        if left_s > self.settings.busy_timeout_s * HARDLY_WAITED:
            self._conn.execute("BEGIN IMMEDIATE")
        else:
            begin_immediate(self._conn, left_s)
        return self._conn

    @staticmethod
    def _finish(conn: sqlite3.Connection, ending: Ending, body: Callable[[], list[Any]]) -> list[Any]:
        try:
            results = body()
            conn.execute(ending)
        except BaseException:
            # A full disk or an I/O error has rolled back already.
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        return results

    def _busy_error(self) -> Exception:
        return lock_held_error(self.path, self.settings.busy_timeout_s, self.holder())


def closed_error(path: Path) -> DatabaseClosedError:
    """The error for using a database after it was closed."""
    return DatabaseClosedError(
        f"{path} was closed",
        hint="Nothing was written. Keep the database open for as long as graphs run on it.",
    )


# Connections that a parent process opened. SQLite forbids a child to use or close them, so they
# are kept here, where nothing closes them.
_FORGOTTEN: list[sqlite3.Connection] = []


def forget(conn: sqlite3.Connection | None) -> None:
    """Keep a connection of the parent process open for good, in the child."""
    if conn is not None:
        _FORGOTTEN.append(conn)
