"""Work that must not be left half way: an interruption waits until it has ended."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def bring_to_its_end(what: str, do: Callable[[], _T]) -> _T:
    """What *do* returns or raises, whatever interrupts the waiting for it: Ctrl-C, SIGTERM, a cancellation.

    It is done by a thread of its own: what a signal handler or Prefect raises meets the caller's alone.
    """
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="unify-db-end") as pool:
        future: Future[_T] = pool.submit(context.run, do)
        while True:
            try:
                return future.result()
            except BaseException as error:
                if future.done() and error is future.exception():
                    raise
                log.warning("%s is brought to its end first (%s)", what, type(error).__name__)
