"""Questions to a Prefect server, as its own pages put them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from itertools import pairwise
from typing import Any

WAIT_S = 60.0
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def ask(url: str, path: str, body: object | None = None) -> Any:
    """What the server at *url* answers, its API's address; a POST where there is a *body*."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/{path}", data=content, headers=headers)
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=2 * WAIT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            # Prefect's word for a database that is locked at the moment; nothing was done.
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def task_runs(url: str, flow_run: str) -> list[dict[str, Any]]:
    """The task runs of *flow_run*, which has ended, as they began.

    What became of them reaches the server's database by events, after what became of the flow run.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        filters = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found = list(ask(url, "task_runs/filter", filters))
        if all(t["state_type"] in ENDED for t in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def graph(url: str, flow_run: str) -> dict[str, set[str]]:
    """The tasks in the graph of *flow_run* as they began, each with those that an arrow comes from."""
    nodes = dict(ask(url, f"flow_runs/{flow_run}/graph-v2")["nodes"])
    # A set: the server tells an arrow again for every argument of the task.
    return {n["label"]: {nodes[p["id"]]["label"] for p in n["parents"]} for n in nodes.values()}


def chain(tasks: Sequence[str]) -> dict[str, set[str]]:
    """The graph of *tasks* that follow one another."""
    return {tasks[0]: set(), **{after: {before} for before, after in pairwise(tasks)}}
