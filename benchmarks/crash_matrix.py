"""Kills a cut-over, a rollback and what puts them right at every point, cuts their power, and counts.

    make crash-matrix      all of it; writes docs/crash-matrix.md (a quarter of an hour)

The same drivers as in the ordinary tests, which leave out most of the second kills.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data_path import machine
from tests.migration.driving import MEMORY, drive

PAGE = Path(__file__).resolve().parent.parent / "docs" / "crash-matrix.md"
Line = Mapping[str, Any]

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
class Counted:
    """One line of the table."""

    what: str
    points: int
    then: str
    ways_out: int
    failures: Sequence[Line]
    seconds: float

    def row(self) -> str:
        minutes = f"{self.seconds / 60:.1f}"
        return (
            f"| {self.what} | {self.points:,} | {self.then} | {self.ways_out:,} "
            f"| {len(self.failures)} | {minutes} |"
        )


def _failures(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line["problems"]]


def kill(what: str, name: str, folder: Path) -> Counted:
    """*what* of `crash_driver.py`, killed everywhere."""
    began = time.monotonic()
    told = drive("crash_driver.py", what, folder)
    ended = [line for line in told if "point" in line]
    points = sum(line["points"] for line in told if "operations" in line)
    then = "`resume`, and once more `rollback`"
    return Counted(name, points, then, len(ended), _failures(ended), time.monotonic() - began)


def kill_twice(folder: Path) -> Counted:
    """What puts a killed switch or rollback right, killed everywhere itself."""
    began = time.monotonic()
    ended = [line for line in drive("recovery_driver.py", folder, "whole", timeout_s=3600) if "point" in line]
    firsts = len({line["first"] for line in ended})
    what = f"`resume` or `rollback` after {firsts} first kills"
    return Counted(what, len(ended), "the other or the same command", len(ended), _failures(ended),
                   time.monotonic() - began)  # fmt: skip


def cut_power(folder: Path) -> Counted:
    """A cut-over, its preparation and its rollback without power."""
    began = time.monotonic()
    told = drive("power_cut_driver.py", folder)
    found = [line for line in told if "world" in line]
    points = sum(line["points"] for line in told if "points" in line)
    return Counted("the power", points, "what the disk may hold is looked at", len(found), _failures(found),
                   time.monotonic() - began)  # fmt: skip


def main() -> int:
    """Count, print, and write the page; 1 where anything failed."""
    counted = []
    for run in (
        lambda place: kill("cutover", "a cut-over with its archive", place),
        lambda place: kill("rollback", "a rollback", place),
        kill_twice,
        cut_power,
    ):
        folder = Path(tempfile.mkdtemp(dir=MEMORY))
        try:
            counted.append(run(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(counted[-1].row(), flush=True)
        for failure in counted[-1].failures:
            print(failure, flush=True)
    PAGE.write_text(_HEAD.format(**machine()) + "\n".join(c.row() for c in counted) + "\n")
    return 1 if any(c.failures for c in counted) else 0


if __name__ == "__main__":
    sys.exit(main())
