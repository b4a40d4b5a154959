"""How a thread of ours hands results back: to coroutines of any event loop, and to threads.

One wake-up per loop and batch, not one per result; a caller who has gone (cancelled, loop
closed) hurts nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Waiter(Protocol):
    """Somebody who waits for a result."""

    def gone(self) -> bool:
        """True where nobody waits any more."""
        ...

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Hand over a result or an error, on the thread that `deliver` chose."""
        ...


class LoopWaiter:
    """A coroutine that awaits `future`."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def gone(self) -> bool:
        """True once the future is done, which before its time means cancelled."""
        return self.future.done()

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Must run on the loop's thread."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class ThreadWaiter:
    """A thread that blocks in `wait`."""

    __slots__ = ("_error", "_lock", "_result", "_settled")

    def __init__(self) -> None:
        # A bare lock is the cheapest thing in Python that one thread can wait on for another.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._result: Any = None
        self._error: BaseException | None = None
        self._settled = False

    def gone(self) -> bool:
        """Never: a blocked thread cannot leave."""
        return False

    def settle(self, result: Any, error: BaseException | None) -> None:
        """May run on any thread."""
        self._result, self._error = result, error
        self._settled = True
        self._lock.release()

    def wait(self) -> Any:
        """The result, once there is one.

        Raises:
            BaseException: What the work raised.
        """
        self._lock.acquire()
        if self._error is not None:
            raise self._error
        return self._result

    def wait_settled(self) -> None:
        """Return once there is an outcome, whatever is raised meanwhile."""
        while not self._settled:
            with contextlib.suppress(BaseException):
                self._lock.acquire()

    def wait_uninterrupted(self) -> Any:
        """As `wait`, but an interrupt (Ctrl-C) is raised only after the outcome is there."""
        interrupt: BaseException | None = None
        while True:
            try:
                # An interrupt may come just after the lock was taken, which happens once only.
                while not self._settled:
                    self._lock.acquire()
                break
            except BaseException as error:  # noqa: BLE001 - raised below
                interrupt = error
        if interrupt is not None:
            raise interrupt
        if self._error is not None:
            raise self._error
        return self._result


Outcome = tuple[Waiter, Any, BaseException | None]


def deliver(outcomes: Iterable[Outcome]) -> None:
    """Hand *outcomes* to those who wait, with one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        waiter = outcome[0]
        if isinstance(waiter, LoopWaiter):
            by_loop[waiter.loop].append(outcome)
        else:
            waiter.settle(*outcome[1:])
    for loop, theirs in by_loop.items():
        _call(loop, _settle_all, theirs)


def _settle_all(outcomes: list[Outcome]) -> None:
    for waiter, result, error in outcomes:
        waiter.settle(result, error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        # The loop is closed: whoever waited on it is gone as well.
        return
