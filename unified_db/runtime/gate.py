"""Whose turn it is to write, among all of this process.

SQLite lets a connection that finds the file locked sleep and try again, for longer each time, so
whoever comes at a bad moment waits many commits long. Within a process there is a better way:
the one who leaves hands over to the one who has waited longest.
"""

from __future__ import annotations

import threading
from collections import deque


class Gate:
    """A lock that is handed over in order of arrival."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, timeout_s: float) -> bool:
        """Take the gate; False when it did not come free in time."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            if turn.acquire(timeout=timeout_s):
                return True
        except BaseException:
            # Ctrl-C while waiting.
            if not self._give_up(turn):
                self.leave()
            raise
        return not self._give_up(turn)

    def _give_up(self, turn: threading.Lock) -> bool:
        """Whether *turn* had not come; else it is ours after all."""
        with self._mutex:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
            return True

    def leave(self) -> None:
        """Hand the gate to whoever has waited longest; on any thread."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
