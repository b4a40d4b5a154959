"""Kills a cut-over, a rollback and what puts them right at every point, cuts their power, and counts.

    make crash-matrix      all of it; writes docs/crash-matrix.md (a quarter of an hour)

The same drivers as in the ordinary tests, which leave out most of the second kills.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.data_path import machine
from tests.migration.driving import MEMORY, Found, cut_power, kill, kill_recovery

PAGE = Path(__file__).resolve().parent.parent / "docs" / "crash-matrix.md"

_HEAD = """# Killed everywhere

Made by `make crash-matrix` (`benchmarks/crash_matrix.py`), {date}: {processor}, {memory}, {system},
Python {python}, SQLite {sqlite}.

A small application, a server of the standard library with two databases, is moved to one file and back. A
counting run lists every write, rename, fsync and commit of ours. In each line below the process is killed
(SIGKILL) at every point at which another state is found than at the point before; then one command puts
it right. After each the application starts and answers, every row that was committed before or meanwhile
is there exactly once, the configuration is wholly old or wholly new, and no lock or temporary file is
left. For a power cut the work is recorded and played again without what was not synced by then.

| what is ended | points | then | ways out | failures | minutes |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Campaign:
    """A line of the table: *run* ends *what* in a folder, and *then* puts it right."""

    what: str
    then: str
    run: Callable[[Path], Found]

    def row(self, found: Found, seconds: float) -> str:
        """The line; {firsts} in its words is the number of first kills."""
        firsts = len({line.get("first") for line in found.ways_out})
        return (
            f"| {self.what.format(firsts=firsts)} | {found.points:,} | {self.then} "
            f"| {len(found.ways_out):,} | {len(found.failures)} | {seconds / 60:.1f} |"
        )


CAMPAIGNS = (
    Campaign("a cut-over with its archive", "`resume`, and once more `rollback`", partial(kill, "cutover")),
    Campaign("a rollback", "`resume`, and once more `rollback`", partial(kill, "rollback")),
    Campaign(
        "`resume` or `rollback` after {firsts} first kills",
        "the other or the same command",
        partial(kill_recovery, "whole", timeout_s=3600),
    ),
    Campaign("the power", "what the disk may hold is looked at", cut_power),
)


def main() -> int:
    """Count, print, and write the page; 1 where anything failed."""
    rows, failures = [], 0
    for campaign in CAMPAIGNS:
        folder, began = Path(tempfile.mkdtemp(dir=MEMORY)), time.monotonic()
        try:
            found = campaign.run(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rows.append(campaign.row(found, time.monotonic() - began))
        print(rows[-1], flush=True)
        for failure in found.failures:
            print(failure, flush=True)
        failures += len(found.failures)
    PAGE.write_text(_HEAD.format(**machine()) + "\n".join(rows) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
