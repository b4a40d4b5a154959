"""How often each phase is tried, when again, and what may succeed a moment later: plain numbers.

Without Prefect on purpose: :mod:`tasks.policy` makes Prefect's options of them, and
:mod:`flows.direct` keeps to them where there is no Prefect.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

# What an operating system says of a resource that is there again a moment later.
_PASSING_ERRNOS = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT})


@dataclass(frozen=True)
class Retries:
    """How a phase is tried again after an error that :func:`is_transient` admits.

    Attributes:
        delays_s: Seconds before each further try; as many tries as there are delays, after the first.
        jitter: Up to which share of itself a delay is made longer by chance.
    """

    delays_s: tuple[float, ...] = ()
    jitter: float = 0.5


READS_FILES = Retries((2, 5, 15))
RUNS_THE_APPLICATION = Retries((10,))
NEVER = Retries()

OF_PHASES: dict[str, Retries] = {
    "plan": READS_FILES,
    "backup": READS_FILES,
    "merge": READS_FILES,
    "validate": READS_FILES,
    "stage": READS_FILES,
    "suites": RUNS_THE_APPLICATION,
    "benchmark": RUNS_THE_APPLICATION,
    "ask": READS_FILES,
    # Only what was met before the stop can be transient here: everything after it is undone in the
    # cut-over's own process and comes back as CutoverUndoneError.
    "cutover": RUNS_THE_APPLICATION,
    "archive": READS_FILES,
    # The application is stopped by then, so nothing is tried twice; the next rollback goes on.
    "rollback": NEVER,
}


def is_transient(error: object) -> bool:
    """True where the same call may succeed a moment later: a busy file, a passing OS error."""
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
        return True
    return bool(getattr(error, "transient", False))
