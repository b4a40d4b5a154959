"""The one writer of a file: a thread that puts what waits into one commit.

Whoever writes gives a job and waits for its outcome. With one caller at a time a job is
committed at once; what arrives while a commit is under way goes into the next one, so the
number of commits follows from the load and nobody waits for a window to fill. No event loop
takes part between BEGIN and COMMIT.

A batch in which a job fails is rolled back and its jobs are done again one by one, so only
the caller who caused an error sees it.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from unified_db.errors import DatabaseClosedError, RuntimeUseError
from unified_db.runtime.connections import FileSettings, connect_writer, is_busy, lock_held_error
from unified_db.runtime.gate import Gate
from unified_db.runtime.waiters import LoopWaiter, Outcome, ThreadWaiter, Waiter, deliver
from unified_db.runtime.work import Work, execute, execute_all

# Enough to share a commit among all that one loop has in flight, small enough that the lock is
# free again within milliseconds for other processes.
MAX_BATCH = 256

Ending = Literal["COMMIT", "ROLLBACK"]


class Job:
    """Some work, who waits for it, and how its transaction ends.

    Attributes:
        works: What is done, in order, in one transaction.
        alone: True where it must not share a transaction with other jobs.
        ending: ROLLBACK for a job that only looks at what the file would hold.
        own: A function that manages a transaction on a connection of its own; runs in the writer's
            thread so that it never waits for another writer of this process.
    """

    __slots__ = ("alone", "ending", "own", "waiter", "works")

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
        self._closed = False
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._gate = threading.Lock()
        # Entered for each transaction, also by those of our engines.
        self.turn = Gate()
        # None ends the thread.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._held_back: list[Job] = []
        self._thread: threading.Thread | None = None
        self._conn: sqlite3.Connection | None = None

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
        if self._pid != os.getpid():
            forget(self._conn)
            self._renew()
        if threading.current_thread() is self._thread:
            raise RuntimeUseError(
                "something that runs in the writer's thread, such as an ORM event of a commit, wrote again",
                hint="Nothing of it was written: it would have waited for itself. Write before the commit.",
            )
        with self._gate:
            if self._closed:
                raise closed_error(self.path)
            if self._thread is None:
                self._start()
            self._jobs.put(job)

    def close(self) -> None:
        """Finish what waits, then close the connection. Blocks until both are done."""
        if self._pid != os.getpid():
            forget(self._conn)
            self._renew()
        with self._gate:
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
        while (batch := self._take()) is not None:
            if batch:
                self._do(batch)
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _take(self) -> list[Job] | None:
        """Jobs for one transaction, in order; a job that must be alone is alone. None at the end."""
        job = self._held_back.pop() if self._held_back else self._jobs.get()
        batch: list[Job] = []
        while job is not None:
            if job.alone and batch:
                self._held_back.append(job)
                return batch
            # Somebody cancelled it while it waited: it never began.
            if not job.waiter.gone():
                batch.append(job)
            if job.alone or len(batch) == MAX_BATCH or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if not batch:
            return None
        self._jobs.put(None)
        return batch

    def _do(self, batch: list[Job]) -> None:
        try:
            outcomes = self._outcomes(batch)
        except BaseException as error:  # noqa: BLE001 - the callers must hear of it, whatever it is
            outcomes = [(job.waiter, None, error) for job in batch]
        deliver(outcomes)

    def _outcomes(self, batch: list[Job]) -> list[Outcome]:
        if batch[0].own is not None:
            return [self._run_own(batch[0])]
        if not self.turn.enter(self.settings.busy_timeout_s):
            return [(job.waiter, None, self._busy_error()) for job in batch]
        try:
            return self._outcomes_in_turn(batch)
        finally:
            self.turn.leave()

    def _outcomes_in_turn(self, batch: list[Job]) -> list[Outcome]:
        if len(batch) > 1:
            try:
                return self._commit_together(batch)
            except Exception as error:  # noqa: BLE001 - which job it was shows when they run one by one
                if is_busy(error):
                    return [(job.waiter, None, self._busy_error()) for job in batch]
        return [self._commit_one(job) for job in batch]

    def _commit_together(self, batch: list[Job]) -> list[Outcome]:
        conn = self._begin()
        works = list(itertools.chain.from_iterable(job.works for job in batch))
        results = self._finish(conn, "COMMIT", lambda: execute_all(conn, works))
        outcomes: list[Outcome] = []
        place = -1
        for job in batch:
            place += len(job.works)
            outcomes.append((job.waiter, results[place] if job.works else None, None))
        return outcomes

    def _commit_one(self, job: Job) -> Outcome:
        try:
            conn = self._begin()
            results = self._finish(conn, job.ending, lambda: [execute(conn, work) for work in job.works])
        except Exception as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return job.waiter, None, self._busy_error() if is_busy(error) else error
        return job.waiter, results[-1] if results else None, None

    def _run_own(self, job: Job) -> Outcome:
        assert job.own is not None
        try:
            return job.waiter, job.own(), None
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return job.waiter, None, error

    def _begin(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = connect_writer(self.path, self.settings)
        # IMMEDIATE: waits for other processes here, where nothing has been done yet. A transaction
        # that turns from reading to writing may have to be given up instead (SQLITE_BUSY_SNAPSHOT).
        self._conn.execute("BEGIN IMMEDIATE")
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
