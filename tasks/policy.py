"""How often a task is tried and how long it may take; what is tried is none of its business."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks import retries
from tasks.retries import Retries, is_transient

__all__ = [
    "READS_FILES",
    "RUNS_THE_APPLICATION",
    "SWITCHES",
    "TAKES_BACK",
    "WAITS_FOR_A_PERSON",
    "is_transient",
    "retries_transient",
]

_HOUR_S = 3600.0


# Prefect takes a plain function only, and an exception in it as "no".
def retries_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question whether to try again after *state*."""
    return is_transient(state.data)


def _tried(how: Retries) -> dict[str, Any]:
    """*how* as Prefect's options of a task; never from a cache."""
    return {
        # A phase keeps its own record in the run's folder and knows whether it still holds.
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": len(how.delays_s),
        "retry_delay_seconds": list(how.delays_s) or None,
        "retry_jitter_factor": how.jitter,
        "retry_condition_fn": retries_transient,
    }


READS_FILES: dict[str, Any] = {
    **_tried(retries.READS_FILES),
    # Python code is interrupted; a call inside SQLite ends first.
    "timeout_seconds": 4 * _HOUR_S,
}

RUNS_THE_APPLICATION: dict[str, Any] = {
    **_tried(retries.RUNS_THE_APPLICATION),
    # Suites and benchmark keep the times of unify.toml themselves; this is for what hangs beside.
    "timeout_seconds": 8 * _HOUR_S,
}

WAITS_FOR_A_PERSON: dict[str, Any] = {
    **READS_FILES,
    # approval.timeout ends the wait, after 7 days at most; this is for what hangs beside.
    "timeout_seconds": 8 * 24 * _HOUR_S,
}

SWITCHES: dict[str, Any] = {
    # The times of unify.toml bound it; a timeout of Prefect's is for what hangs beside, and does not
    # end a cut-over half way.
    **RUNS_THE_APPLICATION,
}

TAKES_BACK: dict[str, Any] = {
    **_tried(retries.NEVER),
}
