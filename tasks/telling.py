"""How anything is told to Prefect's API: in a thread, bounded in time, and never raising.

What is told is for people to look at. A run must not fail, nor wait, because the API is slow or
gone: its evidence lies in the run's folder already.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable

from prefect.context import FlowRunContext, TaskRunContext

log = logging.getLogger("unified_db.artifacts")

TIMEOUT_S = 5.0
# Once something came late, the rest is sent all the same but hardly waited for.
IMPATIENT_S = 0.5
_came_late = threading.Event()
_late: list[threading.Thread] = []


def in_a_prefect_run() -> bool:
    """True where there is a run to tell about; outside of one a call would start a server of its own."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def guarded(tell: Callable[[], None]) -> None:
    """Call *tell*; what it raises is a line in the log."""
    try:
        tell()
    except Exception:
        log.info("something could not be shown in Prefect; the run goes on", exc_info=True)


def bounded(tell: Callable[[], object], *, timeout_s: float | None = None) -> None:
    """Call *tell* in a thread and go on after *timeout_s*, whatever it does."""
    # The copy tells Prefect which run is meant.
    context = contextvars.copy_context()
    # A daemon: a call that still hangs must not keep the process from ending.
    thread = threading.Thread(target=lambda: guarded(lambda: context.run(_drop, tell)), daemon=True)
    thread.start()
    if timeout_s is None:
        timeout_s = IMPATIENT_S if _came_late.is_set() else TIMEOUT_S
    if not join(thread, timeout_s) and not _came_late.is_set():
        _came_late.set()
        log.info(
            "Prefect did not take what it should show in %g s; the run goes on without waiting", timeout_s
        )


def join(thread: threading.Thread, timeout_s: float) -> bool:
    """Wait for *thread* for *timeout_s*; one that is not over by then is given a last moment by `settle`."""
    thread.join(timeout_s)
    if thread.is_alive():
        _late.append(thread)
    return not thread.is_alive()


def settle(timeout_s: float = TIMEOUT_S) -> None:
    """Give what came late a last moment, before the process ends and it is lost."""
    deadline = time.monotonic() + timeout_s
    while _late:
        _late.pop().join(max(deadline - time.monotonic(), 0))


def _drop(tell: Callable[[], object]) -> None:
    tell()
