"""Cuts the power at every point of a run and of its rollback, and looks at what is found afterwards.

Called as `power_cut_driver.py FOLDER` with a folder on a file system that gives no inode twice (tmpfs),
prints a JSON line for each thing that may be found.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from tests.migration import asked, crash_driver, power_cuts
from tests.migration.crash_driver import Matrix, forked
from tests.migration.ledger_application import LedgerApplication, State, integrity
from unified_db import files
from unified_db.errors import JournalError
from unified_db.migration import undo
from unified_db.migration.journal import Act, Entry, acts, read_entries
from unified_db.migration.records import ArchiveRecord, Backups, CutoverRecord, MigrationPlan, UnifiedFile
from unified_db.migration.runs import RunFolder, list_runs


def lies(run: RunFolder) -> list[str]:
    """What the journal of *run* says is done, but is not on the disk."""
    try:
        entries = read_entries(run.journal)
    except JournalError as error:
        return [error.message]
    known = acts(entries)
    rolling = any((e.event, e.status) == ("rollback", "begin") for e in entries)
    standing = [a for a in known if a.done and not a.undone]
    # As a rollback goes back, the newest act that stands may be taken back already.
    looked_at = standing[:-1] if rolling else standing
    found = [problem for act in looked_at for problem in _not_done(act, known)]
    found += [problem for act in known if act.undone for problem in _not_undone(act)]
    return found + [problem for e in entries for problem in _not_recorded(run, e, rolling=rolling)]


def _not_done(act: Act, known: list[Act]) -> list[str]:
    before, later = act.before, [a for a in known if a.ident > act.ident]
    path = Path(str(before.get("path", "")))
    holds = {
        "ready-copy": lambda: path.exists() or _has(later, "place"),
        "place": lambda: (
            integrity(Path(before["target"])) == "ok" and Path(before["target"]).stat().st_size > 0
        ),
        "edit": lambda: files.digest_file(path) == before["after"],
        "move": lambda: (
            _has(later, "archive-file", kept=before["kept"]) or _is_database(Path(before["kept"]))
        ),
        "fence": lambda: files.digest_file(path) == before["sha256"],
        "archive-file": lambda: _unpacked(Path(before["archived"])) == before["sha256"],
    }
    return _unless(holds.get(act.name), f"{act.name} is journaled as done")


def _not_undone(act: Act) -> list[str]:
    path = Path(str(act.before.get("path", "")))
    holds = {
        "place": lambda: not Path(act.before["target"]).exists(),
        "edit": lambda: files.digest_file(path) == act.before["before"],
        "move": lambda: _is_database(path),
        "ready-copy": lambda: not path.exists(),
    }
    return _unless(holds.get(act.name), f"{act.name} is journaled as undone")


def _not_recorded(run: RunFolder, entry: Entry, *, rolling: bool) -> list[str]:
    what = entry.fields.get("phase", "") if entry.event == "phase" else entry.event
    if entry.status not in ("done", "switched") or (rolling and what in ("cutover", "archive")):
        return []
    holds = {
        "plan": lambda: run.load("plan", MigrationPlan) is not None,
        "backup": lambda: all(files.digest_file(b.path) == b.sha256 for b in _loaded(run).items),
        "merge": lambda: _same(run.load("merge", UnifiedFile)),
        "cutover": lambda: run.load("cutover", CutoverRecord) is not None,
        "archive": lambda: (
            (run.archive / "manifest.json").exists()
            and (entry.event == "archive" or run.load("archive", ArchiveRecord) is not None)
        ),
        "rollback": lambda: not (run.evidence / "cutover.json").exists(),
    }
    return _unless(holds.get(what), f"{entry.event} {entry.status} {what} is journaled")


def _unless(holds: Callable[[], bool] | None, claim: str) -> list[str]:
    try:
        return [] if holds is None or holds() else [f"{claim}, but it is not so"]
    except (OSError, ValueError, sqlite3.Error, zstandard.ZstdError) as error:
        return [f"{claim}, but: {type(error).__name__}: {error}"]


def _loaded(run: RunFolder) -> Backups:
    backups = run.load("backup", Backups)
    if backups is None:
        raise ValueError("the record is gone")
    return backups


def _same(unified: UnifiedFile | None) -> bool:
    return unified is not None and files.digest_file(unified.path) == unified.sha256


def _has(later: list[Act], name: str, **before: str) -> bool:
    return any(a.name == name and all(a.before[k] == v for k, v in before.items()) for a in later)


def _is_database(path: Path) -> bool:
    return path.read_bytes().startswith(b"SQLite format 3\x00")


def _unpacked(packed: Path) -> str:
    with packed.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
        return hashlib.sha256(reader.read()).hexdigest()


def mended(app: LedgerApplication, log: Path) -> list[str]:
    """What is not wholly old or wholly new once the next run has put right what is there."""
    if not (app.root / "unify.toml").exists():
        return ["the configuration is gone"]
    ended = forked(lambda: undo.recover(app.config()), log)
    if ended.error or ended.killed:
        return [f"recovery failed: {ended.error}"]
    (*_, run) = (None, *list_runs(app.root / ".unify-db"))
    marks = [(e.event, e.status) for e in read_entries(run.journal)] if run else []
    switched = [m for m in marks if m[0] in ("cutover", "rollback")][-1:] == [("cutover", "switched")]
    wanted: State = "new" if switched else "old"
    found = app.wrong_on_disk(wanted, archived=("archive", "done") in marks)
    return [f"{wanted}: {problem}" for problem in found]


def cut_everywhere(app: LedgerApplication, name: str, work: Callable[[], object]) -> None:
    """Record *work* on the tree as it is, tell what is found at every point, and leave what *work* left."""
    disk = power_cuts.Disk(app.root)
    disk.sync_all()
    points, seen = set(), {}
    for cut in power_cuts.record(app.root, work, disk):
        points.add(cut.point)
        seen.setdefault(hashlib.sha256(repr(sorted(cut.tree.items())).encode()).digest(), cut)
    app.keep(name)
    for cut in seen.values():
        cut.write(app.root)
        problems = [p for run in list_runs(app.root / ".unify-db") for p in lies(run)]
        problems += mended(app, app.folder / "said")
        print(
            json.dumps({"work": name, "point": cut.point, "world": cut.world, "problems": problems}),
            flush=True,
        )
    app.restore(name)
    print(json.dumps({"work": name, "points": len(points), "distinct": len(seen)}), flush=True)


def main() -> None:
    began = time.monotonic()
    asked.play()
    app = LedgerApplication(Path(sys.argv[1]), served=False)
    app.create()
    unchanged, app.rows = app.rows, {"notes": ["a", "b", "c"], "events": ["a", "b", "c"]}
    cut_everywhere(app, "prepared", lambda: crash_driver.open_gates(app))
    app.rows = unchanged
    crash_driver.write_late(app)
    matrix = Matrix(app, list_runs(app.root / ".unify-db")[-1].name)
    cut_everywhere(app, "switched", matrix.resume)
    crash_driver.write_since(app)
    cut_everywhere(app, "rolled-back", matrix.roll_back)
    print(json.dumps({"seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
