"""Whose turn it is to write, among all of this process.

SQLite lets a connection that finds the file locked sleep and try again, for longer each time, so
whoever comes at a bad moment waits many commits long. Within a process there is a better way:
the one who leaves hands over to the one who has waited longest.

The gate makes waiting short and fair; that only one writes at a time is SQLite's own lock's doing.
So a turn that got lost may be given to the next one, which then waits for that lock at worst.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import weakref

# How soon a turn is taken from a connection that has no transaction any more. Those who leave hand
# over at once, so it matters only after a Ctrl-C in a bad place, or for a connection that was dropped.
_LOOK_AGAIN_S = 0.1


class Turn:
    """A place in the queue before a gate, good for one transaction.

    Attributes:
        connection: Whose transaction it is; None for one that is sure to leave the gate.
        needs: The event loop that has to go on before the transaction can end.
        blocks: The event loop that stands still while this turn is waited for.
        place: Where in the application's code the write is.
        begun: The connection is in its transaction.
    """

    __slots__ = ("_called", "begun", "blocks", "connection", "needs", "place")

    def __init__(
        self,
        connection: sqlite3.Connection | None = None,
        *,
        needs: asyncio.AbstractEventLoop | None = None,
        blocks: asyncio.AbstractEventLoop | None = None,
        place: str = "",
    ) -> None:
        self.connection = weakref.ref(connection) if connection is not None else None
        self.needs = needs
        self.blocks = blocks
        self.place = place
        self.begun = False
        # A bare lock is the cheapest thing in Python that one thread can wait on for another.
        self._called = threading.Lock()
        self._called.acquire()

    def call(self) -> None:
        """Wake whoever waits for this turn."""
        self._called.release()

    def wait(self, seconds: float) -> bool:
        """Whether it was called within *seconds*."""
        return self._called.acquire(timeout=max(0.0, seconds))

    def lost(self) -> bool:
        """Whether its transaction has ended without anybody leaving the gate."""
        if self.connection is None:
            return False
        conn = self.connection()
        if conn is None:
            return True
        try:
            return self.begun and not conn.in_transaction
        except sqlite3.ProgrammingError:
            # Closed.
            return True


class BlockedHolderError(Exception):
    """Waiting would stop the event loop that the holder of the gate needs to go on.

    Attributes:
        place: Where in the application's code the holder wrote.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class Gate:
    """A lock that is handed over in order of arrival."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget all turns; in the child of a fork, where nobody is left who could leave."""
        # Reentrant: collecting garbage in here may end a forgotten transaction, which leaves the gate.
        self._mutex = threading.RLock()
        self._holder: Turn | None = None
        self._waiting: list[Turn] = []

    def enter(self, turn: Turn, timeout_s: float) -> bool:
        """Take the gate; False when it did not come free in time. Needs a `leave` if True.

        Raises:
            BlockedHolderError: It would never come free while this waits.
        """
        end = time.monotonic() + timeout_s
        try:
            if self._take_or_queue(turn):
                return True
            while True:
                left_s = end - time.monotonic()
                called = turn.wait(min(left_s, _LOOK_AGAIN_S))
                with self._mutex:
                    self._look_for_lost()
                    came = called or self._holder is turn
                    if came or left_s <= 0:
                        self._drop(turn)
                        return came
        except BaseException:
            # Ctrl-C, which may come between any two steps.
            self.leave(turn)
            raise

    def leave(self, turn: Turn) -> None:
        """Hand the gate to whoever has waited longest. On any thread, and as often as one likes."""
        with self._mutex:
            self._drop(turn)
            if self._holder is turn:
                self._hand_over()

    def _take_or_queue(self, turn: Turn) -> bool:
        with self._mutex:
            self._look_for_lost()
            holder = self._holder
            if holder is None:
                self._holder = turn
                return True
            if turn.blocks is not None and holder.needs is turn.blocks:
                raise BlockedHolderError(holder.place)
            self._waiting.insert(self._place_for(turn), turn)
            return False

    def _place_for(self, turn: Turn) -> int:
        """The end of the queue, but before a turn that could not end while this one is waited for."""
        if turn.blocks is not None:
            for place, other in enumerate(self._waiting):
                if other.needs is turn.blocks:
                    return place
        return len(self._waiting)

    def _look_for_lost(self) -> None:
        if self._holder is None or self._holder.lost():
            self._hand_over()

    def _drop(self, turn: Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)

    def _hand_over(self) -> None:
        # In this order: a Ctrl-C in between leaves a holder who finds out by itself.
        self._holder = self._waiting[0] if self._waiting else None
        if self._holder is not None:
            del self._waiting[0]
            self._holder.call()
