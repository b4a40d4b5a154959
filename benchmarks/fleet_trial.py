"""Ten small applications moved by one fleet with two workers, two of them planted to fail.

    make fleet-trial            writes docs/fleet.md

A server, both pools, their workers and all deployments are the real ones. While the fleet is at work its
process is killed once and begun again, as *Retry* on its page does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.data_path import ROOT, machine
from flows.serve import POOL, running
from tests.prefect_side.serving import Checkout, serving
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration.runs import list_runs

NAMES = ("archive", "billing", "chat", "desk", "events", "forum", "guide", "helpdesk", "intake", "journal")
BROKEN_TESTS, BROKEN_FILE = "forum", "intake"
AT_ONCE = 2
HEADING = "## Tried with ten"
_LIMIT_S = 3600.0


def main() -> None:
    """Run the fleet, print the page, and with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/fleet.md")
    parser.add_argument("--folder", type=Path, help="where the applications are made; a new one without it")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fleet-trial-"))
    page = try_fleet(folder)
    sys.stdout.write(page)
    if options.write:
        file = ROOT / "docs" / "fleet.md"
        file.write_text(file.read_text().partition(HEADING)[0] + page)


def try_fleet(folder: Path) -> str:
    """What is to be said of one fleet of ten in *folder*."""
    applications = make_applications(folder / "apps")
    (folder / "checkout").mkdir(parents=True)
    listing = folder / "apps" / "fleet.txt"
    listing.write_text("*/unify.toml\nnowhere/*/unify.toml\nmissing/unify.toml\n")
    with serving(folder / "checkout", at_once=AT_ONCE) as served, second_worker(served):
        begun = time.monotonic()
        parameters = {"configs": str(listing), "dry_run": False, "at_once": AT_ONCE}
        fleet = served.start("unify-db-fleet/unify-db-fleet", **parameters)
        restart(served, fleet)
        ended = served.wait_for_end(fleet, timeout_s=_LIMIT_S)
        seconds = time.monotonic() - begun
        children = served.children_of(fleet)
        (table,) = (a for a in served.artifacts_of(fleet)[-1:] if a["key"] == "unify-fleet")
    for application in applications:
        application.stop()
    rows = json.loads(table["data"])
    runs = [len(list_runs(a.root / ".unify-db")) for a in applications]
    return markdown(rows, ended=ended, children=children, runs=runs, seconds=seconds, folder=folder / "apps")


def make_applications(folder: Path) -> list[TinyApplication]:
    """Ten applications, of which one has a test that fails on the unified file, and one a damaged file."""
    folder.mkdir(parents=True)
    made = {name: TinyApplication.create(folder, name=name) for name in NAMES}
    (made[BROKEN_TESTS].root / "broken").touch()
    made[BROKEN_FILE].notes.write_bytes(b"no database at all")
    return list(made.values())


@contextlib.contextmanager
def second_worker(served: Checkout) -> Iterator[None]:
    """One more worker of the pool for the length of the block."""
    env, started = {**served.env, "PREFECT_WORKER_QUERY_SECONDS": "2"}, ("worker", "start", "--pool", POOL)
    with (
        (served.folder / "worker.log").open("ab") as output,
        running(env, *started, folder=served.folder, output=output),
    ):
        yield


def restart(served: Checkout, fleet: str) -> None:
    """Kill the fleet's process once two applications have ended, and have it begun again."""
    deadline = time.monotonic() + _LIMIT_S
    while sum(c["end_time"] is not None for c in served.children_of(fleet)) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("no two applications ended")
        time.sleep(2)
    pid = str(served.ask(f"flow_runs/{fleet}")["infrastructure_pid"]).rpartition(":")[2]
    os.kill(int(pid), signal.SIGKILL)
    served.wait_for_end(fleet)
    # Its worker says some seconds later once more that it has crashed, whatever it does by then.
    time.sleep(20)
    body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    served.ask(f"flow_runs/{fleet}/set_state", body)


def most_at_once(children: list[dict[str, Any]]) -> int:
    """How many of *children* were at work at the same moment, at most."""
    moments = [(_moment(c["start_time"]), 1) for c in children if c["start_time"]]
    moments += [(_moment(c["end_time"]), -1) for c in children if c["end_time"]]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def markdown(
    rows: list[dict[str, str]],
    *,
    ended: dict[str, Any],
    children: list[dict[str, Any]],
    runs: list[int],
    seconds: float,
    folder: Path,
) -> str:
    """The part of docs/fleet.md that is measured."""
    where, columns = machine(), list(rows[0])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = (row[column].replace(f"{folder}/", "").replace("|", "\\|") for column in columns)
        lines.append(f"| {' | '.join(cells)} |")
    said = ended["state"]["message"].partition("FleetIncompleteError: ")[2]
    on = f"{where['date']}, {where['processor']}, {where['memory']}, Python {where['python']}"
    parts = [
        f"{len(NAMES)} small applications, {AT_ONCE} workers, real moves.",
        f"`{BROKEN_TESTS}` has a test that fails on the unified file, `{BROKEN_FILE}` a damaged database;",
        "a glob without a match and a missing file are on the list too.",
        "After two had ended, the fleet's process was killed and begun again.",
        f"Made by `make fleet-trial`, {on}, load {os.getloadavg()[0]:.0f} at the end.",
    ]
    found = [
        f"- Started: {len(children)} flow runs for {len(NAMES)} applications,",
        f"  {sum(runs)} runs in their folders, {max(runs)} in each at most.",
        f"- At work at the same time: {most_at_once(children)} at most.",
        f"- It took {seconds / 60:.0f} minutes. The fleet's run ended {ended['state_type']}: {said}",
    ]
    return "\n".join([HEADING, "", *parts, "", *lines, "", *found, ""])


if __name__ == "__main__":
    main()
