"""Threads that read a file, each with a connection of its own. Under WAL none waits for a writer.

A read is one trip: the function that is given runs from its first query to its last row in one
thread, so nothing is open while an event loop, or a paused caller, does something else.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from unified_db.runtime.connections import FileSettings, connect_reader
from unified_db.runtime.waiters import LoopWaiter, Outcome, ThreadWaiter, Waiter, deliver
from unified_db.runtime.writer import closed_error, forget

Result = TypeVar("Result")
Read = Callable[[sqlite3.Connection], Result]

# One long listing must not hold up the others; beyond a few, Python's lock is what they wait for.
THREADS = 3
# Results that are ready go out together, but nobody's answer waits for many others.
_MAX_TOGETHER = 32


class ReaderPool:
    """Runs reads in a few threads; they start with the first read, and again after a fork."""

    def __init__(self, path: Path, settings: FileSettings) -> None:
        self.path = path
        self._settings = settings
        self._closed = False
        self._connections: list[sqlite3.Connection] = []
        self._start_over()

    def renew_after_fork(self) -> None:
        """Begin anew in the child, where no thread of the parent goes on."""
        for conn in self._connections:
            forget(conn)
        self._connections = []
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._reads: SimpleQueue[tuple[Read[Any], Waiter] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # An entry for each thread that waits; a list, since adding to it needs no lock.
        self._idle: list[None] = []

    async def run(self, read: Read[Result]) -> Result:
        """The result of *read*, run in one of the threads."""
        waiter = LoopWaiter()
        self._submit(read, waiter)
        result: Result = await waiter.future
        return result

    def run_sync(self, read: Read[Result]) -> Result:
        """The result of *read*, run in one of the threads."""
        waiter = ThreadWaiter()
        self._submit(read, waiter)
        result: Result = waiter.wait()
        return result

    def close(self) -> None:
        """Finish what waits, then close the connections."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._reads.put(None)
        for thread in threads:
            thread.join()

    def _submit(self, read: Read[Any], waiter: Waiter) -> None:
        with self._lock:
            if self._closed:
                raise closed_error(self.path)
            if not self._threads or (len(self._threads) < THREADS and not self._idle):
                thread = threading.Thread(target=self._work, name=f"reader of {self.path.name}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._reads.put((read, waiter))

    def _work(self) -> None:
        conns: list[sqlite3.Connection] = []
        while (item := self._next()) is not None:
            outcomes: list[Outcome] = []
            while item is not None:
                read, waiter = item
                if not waiter.gone():
                    outcomes.append(self._do(read, waiter, conns))
                if len(outcomes) == _MAX_TOGETHER:
                    break
                try:
                    item = self._reads.get_nowait()
                except Empty:
                    break
            deliver(outcomes)
            if item is None:
                break
        for conn in conns:
            conn.close()

    def _next(self) -> tuple[Read[Any], Waiter] | None:
        self._idle.append(None)
        try:
            return self._reads.get()
        finally:
            self._idle.pop()

    def _do(self, read: Read[Any], waiter: Waiter, conns: list[sqlite3.Connection]) -> Outcome:
        try:
            if not conns:
                conns.append(connect_reader(self.path, self._settings))
                self._connections.append(conns[0])
            return waiter, read(conns[0]), None
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, not to this thread
            return waiter, None, error


@contextmanager
def snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """One state of the file for all queries of the block; no write may happen in it."""
    if conn.in_transaction:
        yield
        return
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("COMMIT")
