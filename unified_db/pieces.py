"""Independent pieces of one phase on all cores, given up together, and how far they are.

SQLite and hashing release Python's lock, so threads are enough. The caller's thread only waits:
a signal, or an exception that Prefect throws into it, is met within a moment, whatever SQLite is
doing in the others. Observers are told how far the work is; what they make of it is theirs.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# How soon an exception thrown into a waiting thread is met; a signal does not wait for it.
_LOOK_S = 0.2
# A look at the halt flag costs about a microsecond; this many steps of SQLite take about a millisecond.
_STEPS_BETWEEN_LOOKS = 100_000
# As `nice` counts: one thread beside two of these has a core of two for itself. More would starve them where
# other programs want the cores too.
_BEHIND = 4
_TELL_EVERY_S = 0.1
_WORTH_TELLING_S = 2.0

Counts = Literal["bytes", "steps", "milliseconds"]
Observer = Callable[["Progress"], None]


class Halt:
    """Whether the pieces of a crew are to be given up: their own crew's word, or that of one around it."""

    def __init__(self, around: Halt | None) -> None:
        self._around = around
        self._said = threading.Event()

    def say(self) -> None:
        """Have them given up."""
        self._said.set()

    def is_said(self) -> bool:
        """True once they are."""
        return self._said.is_set() or (self._around is not None and self._around.is_said())


_halt: contextvars.ContextVar[Halt | None] = contextvars.ContextVar("unify_db_halt", default=None)
_observers: contextvars.ContextVar[tuple[Observer, ...]] = contextvars.ContextVar(
    "unify_db_observers", default=()
)


@dataclass(frozen=True)
class Progress:
    """How far a phase is.

    Attributes:
        done_bytes: Bytes read or written so far, small rows counted for more than their size; of a phase that
            is counted otherwise so many of its units.
        total_bytes: What *done_bytes* ends at.
        counts: What is counted: bytes; steps, each about as long as the others; or the milliseconds of a time
            after which the phase ends, if not before.
    """

    phase: str
    done_bytes: int
    total_bytes: int
    counts: Counts = "bytes"


class Pace:
    """How fast a phase goes and when it will have ended, from what was done since it began."""

    def __init__(self) -> None:
        self.began = self._noted = time.monotonic()
        self.latest: Progress | None = None

    def note(self, progress: Progress) -> None:
        """Take what an observer is told; a phase that starts over is timed anew."""
        if self.latest is not None and progress.done_bytes < self.latest.done_bytes:
            self.began = time.monotonic()
        if self.latest is None or progress.done_bytes != self.latest.done_bytes:
            self._noted = time.monotonic()
        self.latest = progress

    @property
    def share(self) -> float:
        """How much of the phase is done, from 0 to 1."""
        return self.latest.done_bytes / self.latest.total_bytes if self.latest else 0.0

    def sentence(self) -> str:
        """Share, rate and remaining time in words; empty for what has not taken two seconds yet."""
        passed = time.monotonic() - self.began
        if self.latest is None or passed < _WORTH_TELLING_S or not self.share:
            return ""
        if self.latest.counts == "milliseconds":
            due = self._noted + (self.latest.total_bytes - self.latest.done_bytes) / 1000
            left = max(due - time.monotonic(), 0)
            return f"{self.share:.0%}, {left:.0f} s left at most"
        if self.latest.counts == "steps":
            # Judged by the steps that have ended: within one the remaining time must not grow.
            left = (self._noted - self.began) / self.share - passed
            # A step that takes longer than all of those before would be said to end now, again and again.
            return f"{self.share:.0%}" + (f", about {left:.0f} s left" if left > 0 else "")
        rate = self.latest.done_bytes / passed / 1e6
        return f"{self.share:.0%}, {rate:,.0f} MB/s, {passed / self.share - passed:.0f} s left"


class Tally:
    """Counts what the pieces of a phase have done, and tells the observers now and then."""

    def __init__(self, phase: str, total_bytes: int, *, counts: Counts = "bytes") -> None:
        self._phase, self._counts = phase, counts
        self._total = max(total_bytes, 1)
        self._done = 0
        self._began = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()
        self._observers = _observers.get()

    def add(self, done_bytes: int) -> None:
        """Count *done_bytes* more; cheap enough to be called for every megabyte."""
        self._reach(done_bytes, since_done=True)

    def reach(self, done_bytes: int) -> None:
        """Count that *done_bytes* are done in all; nothing where that was counted already."""
        self._reach(done_bytes, since_done=False)

    def foretell(self, left_s: float) -> int:
        """Have what is left of the phase be as much as takes *left_s* seconds at its pace so far.

        Returns:
            How much that is.
        """
        with self._lock:
            left = round(self._done * left_s / max(time.monotonic() - self._began, 0.001))
            self._total = max(self._done + left, 1)
            return left

    def _reach(self, done_bytes: int, *, since_done: bool) -> None:
        with self._lock:
            done = self._done + done_bytes if since_done else max(self._done, done_bytes)
            self._done = min(done, self._total)
            now = time.monotonic()
            if now - self._told < _TELL_EVERY_S and self._done < self._total:
                return
            self._told = now
            progress = Progress(self._phase, self._done, self._total, self._counts)
            for observer in self._observers:
                _tell(observer, progress)


def _tell(observer: Observer, progress: Progress) -> None:
    # What only shows the work must not stop it.
    try:
        observer(progress)
    except Exception:
        log.debug("progress could not be shown", exc_info=True)


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell *observer* how far every phase of the block is, ten times a second at the most."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


class HaltedError(Exception):
    """Another piece failed or the work was interrupted; never leaves this module."""


def look() -> None:
    """Raise where the pieces of this thread are to be given up; for loops that are not SQLite's."""
    halt = _halt.get()
    if halt is not None and halt.is_said():
        raise HaltedError


def make_interruptible(conn: sqlite3.Connection, meanwhile: Callable[[], None] | None = None) -> None:
    """Have statements of *conn* end with `interrupted` when this thread's pieces are given up.

    *meanwhile* is called about every millisecond while a statement goes on.
    """
    halt = _halt.get()

    def is_over() -> bool:
        if meanwhile is not None:
            meanwhile()
        return halt is not None and halt.is_said()

    if halt is not None or meanwhile is not None:
        conn.set_progress_handler(is_over, _STEPS_BETWEEN_LOOKS)


def cores() -> int:
    """How many pieces are done at a time: the cores this process may use, four at the most."""
    return max(1, min(len(os.sched_getaffinity(0)), 4))


def behind(piece: Callable[[], _T]) -> Callable[[], _T]:
    """*piece* for a thread of its own crew that gets only what the machine's other threads leave.

    For what goes beside a longer piece that cannot be divided: the whole ends when that one does.
    """
    # That of the thread which asks: one of the crew keeps what it was given, for all pieces that it does.
    priority = min(os.getpriority(os.PRIO_PROCESS, 0) + _BEHIND, 19)

    def run() -> _T:
        # Elsewhere a priority belongs to the process.
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)
        return piece()

    return run


class Crew:
    """Threads for the pieces of one block; leaving the block with an exception gives all of them up."""

    def __init__(self, threads: int) -> None:
        self._halt = Halt(_halt.get())
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="unify-db")

    def start(self, piece: Callable[[], _T]) -> Future[_T]:
        """Have *piece* done as soon as a thread is free."""
        context = contextvars.copy_context()
        context.run(_halt.set, self._halt)
        return self._pool.submit(context.run, piece)

    def finish(self, futures: Sequence[Future[Any]]) -> None:
        """Return when all *futures* have; the first exception among them is raised at once."""
        _wait_for(futures)

    def close(self, *, failed: bool) -> None:
        """End the threads; with *failed* as soon as what they are in can be left."""
        if failed:
            self._halt.say()
        self._pool.shutdown(wait=True, cancel_futures=failed)


def _wait_for(futures: Sequence[Future[Any]]) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK_S, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        look()


def result_of(future: Future[_T]) -> _T:
    """What *future*, which another crew's thread works on, comes to; left when this thread's pieces are."""
    _wait_for([future])
    return future.result()


@contextlib.contextmanager
def crew(threads: int | None = None) -> Iterator[Crew]:
    """A :class:`Crew` for the block; all pieces have ended when the block has, whichever way."""
    hands = Crew(threads or cores())
    try:
        yield hands
    except BaseException:
        hands.close(failed=True)
        raise
    hands.close(failed=False)


def do_together(pieces: Sequence[Callable[[], _T]], *, threads: int | None = None) -> list[_T]:
    """Do all *pieces*, one for each core at a time; what they return, in their order.

    The first exception of a piece is raised here once the others have been given up.

    Args:
        pieces: The costly ones first, so that none is left over at the end.
        threads: How many at a time, where some only wait for the disk.
    """
    with crew(threads) as hands:
        futures = [hands.start(piece) for piece in pieces]
        hands.finish(futures)
        return [future.result() for future in futures]
