"""How often a task is tried and how long it may take; what is tried is none of its business."""

from __future__ import annotations

import errno
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

# What an operating system says of a resource that is there again a moment later.
_PASSING_ERRNOS = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT})

_HOUR_S = 3600.0


def is_transient(error: object) -> bool:
    """True where the same call may succeed a moment later: a busy file, a passing OS error."""
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
        return True
    return bool(getattr(error, "transient", False))


# Prefect takes a plain function only, and an exception in it as "no".
def retries_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question whether to try again after *state*."""
    return is_transient(state.data)


_NEVER_FROM_A_CACHE: dict[str, Any] = {
    # A phase keeps its own record in the run's folder and knows whether it still holds.
    "cache_policy": NO_CACHE,
    "persist_result": False,
}

READS_FILES: dict[str, Any] = {
    **_NEVER_FROM_A_CACHE,
    "retries": 3,
    "retry_delay_seconds": [2, 5, 15],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retries_transient,
    # Python code is interrupted; a call inside SQLite ends first.
    "timeout_seconds": 4 * _HOUR_S,
}

RUNS_THE_APPLICATION: dict[str, Any] = {
    **_NEVER_FROM_A_CACHE,
    "retries": 1,
    "retry_delay_seconds": [10],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retries_transient,
    # Suites and benchmark keep the times of unify.toml themselves; this is for what hangs beside.
    "timeout_seconds": 8 * _HOUR_S,
}

WAITS_FOR_A_PERSON: dict[str, Any] = {
    **READS_FILES,
    # approval.timeout ends the wait, after 7 days at most; this is for what hangs beside.
    "timeout_seconds": 8 * 24 * _HOUR_S,
}

SWITCHES: dict[str, Any] = {
    # Only what was met before the stop can be transient here: everything after it is undone in the
    # cut-over's own process and comes back as CutoverUndoneError. The times of unify.toml bound it; a
    # timeout of Prefect's is for what hangs beside, and does not end a cut-over half way.
    **RUNS_THE_APPLICATION,
}

TAKES_BACK: dict[str, Any] = {
    **_NEVER_FROM_A_CACHE,
    # The application is stopped by then, so nothing is tried twice; the next rollback goes on.
    "retries": 0,
}
