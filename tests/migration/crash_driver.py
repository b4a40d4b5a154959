"""Kills a cut-over with its archive, or a rollback, at every point, and puts it right by one command each.

Called as `crash_driver.py cutover|rollback FOLDER [POINT]`; prints JSON lines, one for each way out. Each
process that is killed or puts right is forked from this one, which has imported all that they need; they
do what `unify-db resume RUN --no-prefect` and `unify-db rollback RUN` do.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import order
from flows.direct import Direct
from tests.migration import asked, crash_points
from tests.migration.ledger_application import LedgerApplication, State
from unified_db.errors import UnifyError
from unified_db.migration import cutover, phases, undo
from unified_db.migration.archive import archive_originals  # noqa: F401 - imported before forking, as below
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import read_entries, read_state
from unified_db.migration.records import Approval, CutoverRecord
from unified_db.migration.rollback import roll_back  # noqa: F401
from unified_db.migration.runs import RunFolder, list_runs

_SUBREAPER = 36
_WAYS = ("resume", "rollback")
_AT_WORK = "a command has started"
_VARIES = re.compile(r"[0-9a-f]{8}\.partial")


def _same_name(point: str) -> str:
    return _VARIES.sub("partial", point)


class Alone(Direct):
    """The phases in this process alone: without the process that a cut-over has of its own."""

    def cutover(self, config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
        cutover.run_cutover = cutover_here
        return phases.cutover(config, run, approval)

    def summarise(self, run: RunFolder) -> None:
        """Not part of what is killed here."""


def cutover_here(config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
    cutover._require_same_evidence(run, approval)
    with undo.hold_cutover_lock(run):
        return cutover.perform_cutover(config, run)


@dataclass(frozen=True)
class Ended:
    """How a forked process ended; killed where it said nothing."""

    points: int
    error: str
    killed: bool
    at: str


def forked(work: Callable[[], object], log: Path, *, watched: Path | None = None, point: int = 0) -> Ended:
    """Do *work* in a process of its own, killed at its *point* of those in the folder *watched*."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(here)
        _in_child(work, log, there, watched, point)
    os.close(there)
    status = crash_points.reap(pid)
    with os.fdopen(here, "rb") as stream:
        said = stream.read().decode()
    names, _, end = said.partition("\0")
    if not end:
        return Ended(point, f"ended by {status}", killed=os.WTERMSIG(status) == signal.SIGKILL, at=names)
    result = json.loads(end)
    return Ended(result["points"], result["error"], killed=False, at="")


def _in_child(work: Callable[[], object], log: Path, told: int, watched: Path | None, point: int) -> None:
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    write, seen = os.write, 0

    def at(name: str, *, first: Callable[[], object] | None = None, **_facts: object) -> None:
        nonlocal seen
        seen += 1
        if seen == point:
            if first is not None:
                first()
            write(told, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    if watched is not None:
        crash_points.watch(watched, at)
    error = ""
    try:
        work()
    except UnifyError as problem:
        error = f"{type(problem).__name__}: {problem.message}"
    except BaseException as problem:  # noqa: BLE001 - told to the parent, who judges
        error = f"BUG {type(problem).__name__}: {problem}"
    write(told, b"\0" + json.dumps({"points": seen, "error": error}).encode())
    os._exit(0)


class Matrix:
    """One thing that is killed, at every point, from the tree that is kept under its name."""

    def __init__(self, app: LedgerApplication, run: str) -> None:
        self.app = app
        self._name = run
        self._log = app.folder / "said"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.app.root / ".unify-db" / "runs" / self._name)

    def resume(self) -> object:
        return order.resume(Alone(), self.app.config(), self.run)

    def roll_back(self) -> object:
        return order.roll_back(Alone(), self.app.config(), self.run)

    def kill_everywhere(self, kept: str, work: Callable[[], object], *, only: int = 0) -> None:
        """Kill *work* at each point; put right what that leaves by `resume` and, once more, by `rollback`."""
        self._restart(kept)
        number, points = self._count(work)
        self.app.end()
        print(json.dumps({"operations": number, "points": len(points)}), flush=True)
        for point, name, half in points:
            if only and point != only:
                continue
            # Half a line counts for nothing whatever is done then, so that one way is enough.
            ways = _WAYS if point % 2 else _WAYS[::-1]
            self._kill(kept, work, (point, name), ways[:1] if half else ways)

    def _kill(
        self, kept: str, work: Callable[[], object], point: tuple[int, str], ways: Sequence[str]
    ) -> None:
        serves, at_work = True, point[1] == _AT_WORK
        for again, way in enumerate(ways):
            if again and not at_work:
                self._restart("killed", serves=serves)
            else:
                self._kill_once(kept, work, point)
            # Whoever still serves is asked to commit something before anything is put right.
            serves = self.app.ask("/add") is not None
            if not again and not at_work:
                self.app.keep("killed")
            self._put_right(point, way)

    def _kill_once(self, kept: str, work: Callable[[], object], point: tuple[int, str]) -> None:
        self._restart(kept)
        number, name = point
        killed = forked(work, self._log, watched=self.app.root, point=number)
        assert killed.killed, f"not killed at {name}: {killed.error}"
        assert _same_name(killed.at) == _same_name(name)

    def _restart(self, kept: str, *, serves: bool = True) -> None:
        self.app.restore(kept)
        if serves:
            self.app.start()

    def _count(
        self,
        work: Callable[[], object],
        *,
        over: Callable[[], bool] = lambda: False,
        alike: bool = False,
    ) -> tuple[int, list[tuple[int, str, bool]]]:
        """How much *work* does, and the points at which another state is found than at the point before.

        Points from that on at which *over* is true are left out. With *alike* those are in that are as the
        one before, which takes less time to find out.
        """
        points: list[tuple[int, str, bool]] = []
        number, before, ended = 0, "", False
        for told in crash_points.follow(self.app.root, work):
            number += "name" in told
            ended = ended or over()
            if "name" in told and not ended:
                # Half a write is another state, and a command at work changes it as we look.
                moving = alike or told["half"] or told["name"] == _AT_WORK
                now = "" if moving else self.app.state()
                if moving or now != before:
                    points.append((number, told["name"], told["half"]))
                before = before if told["half"] else now
        return number, points

    def _put_right(self, point: tuple[int, str], way: str) -> None:
        known = {(e.event, e.status) for e in read_entries(self.run.journal)}
        wanted: State = "old" if way == "rollback" or ("rollback", "begin") in known else "new"
        self._go(point, way, wanted, over=("rollback", "done") in known)
        # What was done in two parts is taken back as one.
        if wanted == "new" and ("cutover", "switched") in known:
            self.app.start()
            self._go(point, "rollback", "old", name="resume, then rollback")

    def _go(
        self, point: tuple[int, str], way: str, wanted: State, *, over: bool = False, name: str = ""
    ) -> None:
        ended = forked(self.resume if way == "resume" else self.roll_back, self._log)
        problems = self.app.problems(wanted, self.run)
        expected = "archived" if wanted == "new" else "rolled_back"
        refused = way == "resume" and over and "was rolled back" in ended.error
        if way == "rollback" and not any(e.event == "rollback" for e in read_entries(self.run.journal)):
            # Where nothing has moved yet there is nothing to take back, which a rollback says.
            expected, refused = "interrupted", "switched nothing" in ended.error
        problems += [ended.error] if ended.error and not refused else []
        state = read_state(self.run).state
        problems += [f"the journal says {state}"] if state != expected else []
        self._tell(
            {"point": point[0], "at": point[1], "way": name or way, "wanted": wanted, "problems": problems}
        )

    def _tell(self, facts: dict[str, Any]) -> None:
        if facts["problems"]:
            facts["said"] = self._log.read_text()[-2000:]
        print(json.dumps(facts), flush=True)


def open_gates(app: LedgerApplication) -> None:
    """Begin a run of *app* and bring it to where only the switch is left."""
    config, by = app.config(), Alone()
    run = order.begin(config, dry_run=False)
    plan = by.plan(config, run)
    backups = by.backup(run, plan)
    unified = by.merge(run, backups)
    by.validate(run, backups, unified)
    asked.play_suites(config, run, None)
    asked.play_benchmark(config, run, None)


def write_late(app: LedgerApplication) -> None:
    """Write to the old files of *app* what its backup has not."""
    with closing(sqlite3.connect(app.old("notes"), isolation_level=None)) as conn:
        conn.execute("UPDATE notes SET text = 'a changed' WHERE id = 1")
        conn.execute("DELETE FROM notes WHERE id = 2")
        conn.execute("INSERT INTO notes (text) VALUES ('late')")


def write_since(app: LedgerApplication) -> None:
    """Write to the unified file of *app* what its old files have not."""
    with closing(sqlite3.connect(app.unified, isolation_level=None)) as conn:
        conn.execute("UPDATE events SET text = 'a since' WHERE id = 1")
        conn.execute("DELETE FROM events WHERE id = 2")
        conn.execute("INSERT INTO notes (text) VALUES ('since')")
    app.rows = {"notes": ["a changed", "c", "late", "since"], "events": ["a since", "c"]}


def warm(matrix: Matrix) -> None:
    """Have this process import all that it takes, once, before it is forked."""
    matrix.app.restore("ready")
    matrix.app.start()
    matrix.resume()
    matrix.roll_back()
    matrix.app.end()


def switch(matrix: Matrix) -> None:
    """Make the switch of what is kept as `ready`, and keep that as `switched`, with rows written since."""
    app = matrix.app
    app.restore("ready")
    app.start()
    done = forked(matrix.resume, app.folder / "said")
    assert done.error == "", done.error
    app.end()
    write_since(app)
    app.keep("switched")


def ready(folder: Path) -> Matrix:
    """What is killed here, in *folder*, brought to where only the switch is left; kept as `ready`."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    app = LedgerApplication(folder)
    app.create()
    asked.play()
    begun = forked(lambda: open_gates(app), app.folder / "said")
    assert begun.error == "", begun.error
    write_late(app)
    app.keep("ready")
    return Matrix(app, list_runs(app.root / ".unify-db")[-1].name)


def main() -> None:
    matrix = ready(Path(sys.argv[2]))
    only = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    began = time.monotonic()
    warm(matrix)
    if sys.argv[1] == "cutover":
        matrix.kill_everywhere("ready", matrix.resume, only=only)
    else:
        switch(matrix)
        matrix.kill_everywhere("switched", matrix.roll_back, only=only)
    print(json.dumps({"seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
