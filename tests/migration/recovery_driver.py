"""Kills a cut-over or a rollback once, and then, at every point, what puts that right; one command ends it.

Called as `recovery_driver.py FOLDER whole|sample`; prints JSON lines as `crash_driver.py` does. What is
killed second is `resume` and `rollback`, until all is as before or a new cut-over begins, whose own
points are the business of `crash_driver.py`.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.migration import crash_points
from tests.migration.crash_driver import _WAYS, Matrix, forked, ready, switch, warm
from unified_db.migration.journal import read_entries

# So many points of each way to put a first kill right, where it is a sample that is asked for.
_SAMPLE = 2


@dataclass(frozen=True)
class First:
    """Where something is killed first.

    Attributes:
        name: In words.
        kept: What the tree is that it begins with.
        line: What the journal's last line says then, as event, status and act.
        operation: What it is about to do, as an expression.
    """

    name: str
    kept: str
    line: str
    operation: str

    def is_at(self, line: str, operation: str) -> bool:
        return line == self.line and re.match(self.operation, operation) is not None


FIRSTS = (
    First("a source has left WAL mode", "ready", "act intent journal-mode", "open journal"),
    First("the unified file is in its place", "ready", "act intent place", "open journal"),
    First("one file is edited", "ready", "act intent edit", "open journal"),
    First("one of two fences stands", "ready", "act intent fence", r"rename \.events\.db"),
    First("the application serves again", "ready", "act done start", "remove room-for"),
    First("one old file is archived", "ready", "act intent archive-file", r"remove 1-notes\.db"),
    First("one old file is carried back", "switched", "rollback begin", "SQL DELETE"),
    First("one old file is moved back", "switched", "act undone move", r"remove notes\.db"),
)


class Recoveries(Matrix):
    """What a first kill leaves, put right and killed again."""

    _first = ""

    def find(self, kept: str, work: Callable[[], object]) -> dict[First, tuple[int, str]]:
        """Where each of the first kills of *work* is: its number and name."""
        wanted = [first for first in FIRSTS if first.kept == kept]
        found: dict[First, tuple[int, str]] = {}
        self._restart(kept)
        names = (told["name"] for told in crash_points.follow(self.app.root, work) if "name" in told)
        for number, name in enumerate(names, 1):
            line = self._last_line()
            for first in wanted:
                if first not in found and first.is_at(line, name):
                    found[first] = (number, name)
        self.app.end()
        lost = [first.name for first in wanted if first not in found]
        assert not lost, f"not found: {lost}"
        return found

    def _last_line(self) -> str:
        last = read_entries(self.run.journal)[-1]
        return " ".join(filter(None, (last.event, last.status, str(last.fields.get("name", "")))))

    def kill_recoveries(
        self, first: First, work: Callable[[], object], point: tuple[int, str], *, whole: bool, place: int
    ) -> None:
        """Kill *work* at *point*, then what puts that right: at every point, or if not *whole* at a few."""
        self._first = first.name
        self._kill_once(first.kept, work, point)
        serves = self.app.ask("/add") is not None
        self.app.keep("left")
        self.app.end()
        recoveries = ((self.resume, "resume"), (self.roll_back, "rollback"))
        for recovery, name in recoveries if whole else recoveries[place % 2 :][:1]:
            points = self._points_of(recovery, serves=serves, whole=whole)
            print(json.dumps({"first": first.name, "by": name, "operations": len(points)}), flush=True)
            chosen = points if whole else _spread(points, place)
            for (number, at), way in zip(chosen, itertools.cycle(_WAYS), strict=False):
                self._restart("left", serves=serves)
                killed = forked(recovery, self._log, watched=self.app.root, point=number)
                assert killed.killed, f"not killed at {at}: {killed.error}"
                self.app.ask("/add")
                self._put_right((number, at), way)

    def _points_of(
        self, recovery: Callable[[], object], *, serves: bool, whole: bool
    ) -> list[tuple[int, str]]:
        begun = self._cutovers()
        self._restart("left", serves=serves)
        _, points = self._count(recovery, over=lambda: self._cutovers() > begun, alike=not whole)
        self.app.end()
        return [(number, name) for number, name, _ in points]

    def _cutovers(self) -> int:
        return sum((e.event, e.status) == ("cutover", "begin") for e in read_entries(self.run.journal))

    def _tell(self, facts: dict[str, Any]) -> None:
        super()._tell({"first": self._first, **facts})


def _spread(points: Sequence[tuple[int, str]], place: int) -> list[tuple[int, str]]:
    """A few of *points*, others for each *place*, so that together they come from everywhere."""
    step = len(points) // _SAMPLE
    offset = step * (place + 1) // (len(FIRSTS) + 1)
    return [points[offset + step * n] for n in range(_SAMPLE)]


def main() -> None:
    made, whole = ready(Path(sys.argv[1])), sys.argv[2] == "whole"
    matrix = Recoveries(made.app, made.run.name)
    warm(matrix)
    for kept, work in (("ready", matrix.resume), ("switched", matrix.roll_back)):
        if kept == "switched":
            switch(matrix)
        for first, point in matrix.find(kept, work).items():
            matrix.kill_recoveries(first, work, point, whole=whole, place=FIRSTS.index(first))


if __name__ == "__main__":
    main()
