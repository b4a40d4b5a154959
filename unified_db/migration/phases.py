"""Each phase as a step of a run: announced in the log, its record kept in the run's folder.

The flow's tasks wrap these, and a run without Prefect calls them. A phase that has ended is not
done again while what it left is still as its record says. What a phase does lives in the module
of its name; which one follows which lives in `flows/order.py`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from unified_db import causes, files
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Journal, read_entries
from unified_db.migration.records import (
    Approval,
    ArchiveRecord,
    Backups,
    BenchmarkEvidence,
    CutoverRecord,
    Decision,
    MigrationPlan,
    Question,
    RollbackRecord,
    SuitesEvidence,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder, remember
from unified_db.migration.stage import Stages

log = logging.getLogger(__name__)

# Records in the order in which they are made: each rests on those before it.
_RECORDS = (
    "plan",
    "backup",
    "merge",
    "verdict-validation",
    "stage",
    "evidence-suites",
    "verdict-suites",
    "evidence-benchmark",
    "verdict-benchmark",
    "question",
    "decision",
    "approval",
)


_R = TypeVar("_R", bound=BaseModel)

_IN_PHASE = "raised in phase "


def plan(config: MigrationConfig, run: RunFolder) -> MigrationPlan:
    """What would move; see :func:`unified_db.migration.plan.make_plan`."""
    from unified_db.migration.plan import make_plan

    kept = run.load("plan", MigrationPlan)
    if kept is not None:
        return _keep("plan", kept)
    with _announced("plan", run):
        return remember(run, "plan", MigrationPlan, lambda: make_plan(config, run))


def backup(run: RunFolder, plan: MigrationPlan) -> Backups:
    """Copies of one instant; kept from before where every copy still has its digest."""
    from unified_db.migration.backup import take_backups

    kept = run.load("backup", Backups)
    if kept is not None and _are_intact((b.path, b.sha256) for b in kept.items):
        return _keep("backup", kept)
    with _announced("backup", run):
        _forget(run, since="backup")
        _empty(run.backups)
        backups = take_backups(plan.sources, run.backups).model_copy(update={"layout": plan.layout})
        run.save("backup", backups)
        return backups


def merge(run: RunFolder, backups: Backups) -> UnifiedFile:
    """The unified file; kept from before where it still has its digest."""
    from unified_db.migration.merge import merge_backups

    kept = run.load("merge", UnifiedFile)
    if kept is not None and _are_intact([(kept.path, kept.sha256)]):
        return _keep("merge", kept)
    with _announced("merge", run):
        _forget(run, since="merge")
        for leftover in (run.unified, *files.sidecars(run.unified)):
            leftover.unlink(missing_ok=True)
        unified = merge_backups(backups, run.unified)
        run.save("merge", unified)
        return unified


def validate(run: RunFolder, backups: Backups, unified: UnifiedFile) -> Verdict:
    """The verdict of the validation gate, open or closed."""
    from unified_db.migration import validate as core

    kept = run.load("verdict-validation", Verdict)
    if kept is not None:
        return _keep("validate", kept)
    with _announced("validate", run):
        return remember(run, "verdict-validation", Verdict, lambda: core.validate(backups, unified))


def stage(config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Stages:
    """The two staged trees that suites and benchmark run on."""
    from unified_db.migration.stage import stage_trees

    kept = run.load("stage", Stages)
    judged = (run.evidence / "verdict-benchmark.json").exists()
    if kept is not None and (judged or (kept.before.is_dir() and kept.after.is_dir())):
        return _keep("stage", kept)
    with _announced("stage", run):
        stages = stage_trees(config, run, backups, unified)
        run.save("stage", stages)
        return stages


def suites(config: MigrationConfig, run: RunFolder, stages: Stages) -> Verdict:
    """The verdict of the suites gate, open or closed."""
    from unified_db.migration.suites import run_suites

    kept = run.load("verdict-suites", Verdict)
    if kept is not None and run.load("evidence-suites", SuitesEvidence) is not None:
        return _keep("suites", kept)
    with _announced("suites", run):
        evidence, verdict = run_suites(config, stages, run)
        run.save("evidence-suites", evidence)
        run.save("verdict-suites", verdict)
        return verdict


def benchmark(
    config: MigrationConfig, run: RunFolder, stages: Stages, *, backups: Backups, unified: UnifiedFile
) -> Verdict:
    """The verdict of the benchmark gate, open or closed."""
    from unified_db.migration.benchmark import run_benchmark

    kept = run.load("verdict-benchmark", Verdict)
    if kept is not None and run.load("evidence-benchmark", BenchmarkEvidence) is not None:
        return _keep("benchmark", kept)
    with _announced("benchmark", run):
        evidence, verdict = run_benchmark(config, stages, backups, unified, run)
        run.save("evidence-benchmark", evidence)
        run.save("verdict-benchmark", verdict)
        return verdict


def ask(run: RunFolder, question: Question) -> Decision:
    """What a person decides; see :func:`unified_db.migration.approval.wait_for_decision`."""
    from unified_db.migration.approval import wait_for_decision

    with _announced("ask", run):
        return wait_for_decision(run, question)


def unstage(run: RunFolder) -> None:
    """Remove the staged trees, which hold copies of the application's settings and databases."""
    shutil.rmtree(run.stage, ignore_errors=True)


def cutover(config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
    """The switch; see :func:`unified_db.migration.cutover.run_cutover`."""
    from unified_db.migration.cutover import run_cutover

    with _announced("cutover", run):
        # Not remembered: that it was made, and not taken back since, is for the journal to say.
        return run_cutover(config, run, approval)


def switched(run: RunFolder) -> CutoverRecord | None:
    """The cut-over of *run*; None where it was not made, or was taken back."""
    marks = [(e.event, e.status) for e in read_entries(run.journal) if e.event in {"cutover", "rollback"}]
    return run.load("cutover", CutoverRecord) if marks[-1:] == [("cutover", "switched")] else None


def archive(config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
    """The archive of the old files; see :func:`unified_db.migration.archive.archive_originals`."""
    from unified_db.migration.archive import archive_originals

    kept, cutover = run.load("archive", ArchiveRecord), run.load("cutover", CutoverRecord)
    # A rollback that came to nothing leaves what it had unpacked.
    unpacked = cutover is not None and any(path.exists() for _, path in cutover.originals)
    if kept is not None and not unpacked:
        return _keep("archive", kept)
    with _announced("archive", run):
        record = archive_originals(config, run)
        run.save("archive", record)
        return record


def rollback(config: MigrationConfig, run: RunFolder) -> RollbackRecord:
    """The cut-over taken back; see :func:`unified_db.migration.rollback.roll_back`."""
    from unified_db.migration.rollback import roll_back

    with _announced("rollback", run):
        # Not remembered: rolling back twice is the rollback's own business.
        record = roll_back(config, run)
        run.save("rollback", record)
        return record


@contextlib.contextmanager
def _announced(phase: str, run: RunFolder) -> Iterator[None]:
    """Say in log and journal where *phase* begins and ends; a live view reads the extra fields."""
    started = time.monotonic()
    log.info("%s: begins", phase, extra={"phase": phase, "moment": "begin"})
    try:
        with Journal(run).phase(phase):
            yield
    except BaseException as error:
        refused = causes.refusal(error, hint=_after_refusal(error, phase, run))
        told = refused or error
        told.add_note(f"{_IN_PHASE}{phase}")
        _log_end(phase, "fail", "stopped after", time.monotonic() - started)
        if refused is not None:
            raise refused from error
        raise
    _log_end(phase, "end", "done in", time.monotonic() - started)


def _after_refusal(error: BaseException, phase: str, run: RunFolder) -> str:
    """What to do about *error*, the room, the permission or the limit that *phase* met."""
    mend = causes.way_out(error)
    if phase == "rollback":
        return f"{mend}, then `unify-db rollback {run.name}` goes on where it stopped; no row is lost."
    state = "Nothing was switched; the application still uses its old files."
    if switched(run) is not None:
        state = "The application uses the unified file, and the old files are still there."
    return f"{state} {mend}, then `unify-db resume {run.name}` goes on."


def _keep(phase: str, record: _R) -> _R:
    log.info("%s: kept from before", phase)
    return record


def _log_end(phase: str, moment: str, words: str, seconds: float) -> None:
    extra = {"phase": phase, "moment": moment, "seconds": seconds}
    log.info("%s: %s %.1f s", phase, words, seconds, extra=extra)


def phase_of(error: BaseException) -> str | None:
    """The phase that raised *error*; None where it came from somewhere else, such as Prefect."""
    notes = (n for n in getattr(error, "__notes__", ()) if n.startswith(_IN_PHASE))
    return next((n.removeprefix(_IN_PHASE) for n in notes), None)


def _are_intact(copies: Iterable[tuple[Path, str]]) -> bool:
    return all(path.is_file() and files.digest_file(path) == digest for path, digest in copies)


def _forget(run: RunFolder, *, since: str) -> None:
    for name in _RECORDS[_RECORDS.index(since) :]:
        (run.evidence / f"{name}.json").unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for leftover in folder.iterdir():
        leftover.unlink()
