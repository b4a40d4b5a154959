"""Who in this process holds a file's write lock, since when and since which line of code.

Only for transactions of our engines: it lets an error name what the lock is held by, and warns
about a transaction that is kept open while something slow happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from unified_db.runtime.lanes import FileKey

log = logging.getLogger(__name__)

_HERE = str(Path(__file__).parent)
# Libraries between an application's line and its SQL.
_PASSED_BY = ("/sqlalchemy/", "/aiosqlite/", "/greenlet/", "/asyncio/", "/contextlib.py", "/threading.py")


@dataclass(eq=False)
class Hold:
    """A write transaction of one of our engines.

    Attributes:
        place: `file.py:12 in function`, where its first write was made.
        loop: The event loop on whose thread that was; it cannot go on while the loop is blocked.
        warn_after_s: How long it may last before a warning.
        since: On the monotonic clock.
        dropped: Its connection was dropped, and with it the lock.
    """

    key: FileKey
    path: Path
    place: str
    loop: asyncio.AbstractEventLoop | None
    warn_after_s: float
    since: float = field(default_factory=time.monotonic)
    warned: bool = False
    dropped: bool = False


_holds: set[Hold] = set()
# Reentrant (an RLock): collecting garbage in here may end a forgotten transaction.
_changed = threading.Condition()
_watching: list[threading.Thread] = []


def _renew_after_fork() -> None:
    global _changed  # noqa: PLW0603 - another thread of the parent may have held it
    _changed = threading.Condition()
    _holds.clear()
    _watching.clear()


os.register_at_fork(after_in_child=_renew_after_fork)


def begin_hold(hold: Hold) -> Hold:
    """Note that a write transaction has begun."""
    with _changed:
        _holds.difference_update([h for h in _holds.copy() if h.dropped])
        _holds.add(hold)
        if not _watching or not _watching[0].is_alive():
            _watching[:] = [threading.Thread(target=_watch, name="unify-db watch", daemon=True)]
            _watching[0].start()
        else:
            _changed.notify()
    return hold


def end_hold(hold: Hold) -> None:
    """Note that it has ended."""
    with _changed:
        _holds.discard(hold)


def holder_of(key: FileKey) -> Hold | None:
    """The transaction of this process that holds the write lock of a file; None if none of ours."""
    with _changed:
        return next((hold for hold in _held() if hold.key == key), None)


def _held() -> list[Hold]:
    # A copy: in the middle of a walk through the set itself, collecting garbage could change it.
    return [hold for hold in _holds.copy() if not hold.dropped]


def _watch() -> None:
    while True:
        with _changed:
            due = [hold.since + hold.warn_after_s for hold in _held() if not hold.warned]
            _changed.wait(max(0.0, min(due) - time.monotonic()) if due else None)
            now = time.monotonic()
            late = [h for h in _held() if not h.warned and now >= h.since + h.warn_after_s]
            # Each is warned about once; the error of whoever waits for it still names it.
            for hold in late:
                hold.warned = True
        for hold in late:
            log.warning(
                "%s has been locked for %.1f s by a write at %s: everybody who writes waits for it. "
                "Commit before something slow, or let `transaction()` write at its end: add rows without "
                "flush, and make their keys yourself.",
                hold.path.name,
                now - hold.since,
                hold.place,
            )


# --- Places in code ------------------------------------------------------------------------------


def calling_place() -> str:
    """The innermost line that is neither ours nor of a library that carries SQL, as `file:line in name`."""
    for frame in _frames():
        name = frame.f_code.co_filename
        if not name.startswith((_HERE, "<")) and not any(part in name for part in _PASSED_BY):
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
    return "an unknown place"


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - what `traceback` uses, without its cost
    while frame is not None:
        yield frame
        frame = frame.f_back
    # SQLAlchemy's asyncio layer runs in a greenlet; the application is in the one that it came from.
    greenlet = sys.modules.get("greenlet")
    parent = greenlet.getcurrent().parent if greenlet is not None else None
    frame = parent.gr_frame if parent is not None else None
    while frame is not None:
        yield frame
        frame = frame.f_back


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs on this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
