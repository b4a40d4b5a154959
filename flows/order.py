"""The order of a run, readable top to bottom; it knows nothing of Prefect.

`migrate` says which phase follows which. Who does a phase is a :class:`Phases`: the tasks of
:mod:`tasks` through Prefect, or :class:`flows.direct.Direct` without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from unified_db import files
from unified_db.errors import GateClosedError, RunLockedError, UnifyError, UsageError
from unified_db.migration import gates, phases, stage, undo
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Journal, next_step, read_entries, read_state
from unified_db.migration.records import (
    Approval,
    ArchiveRecord,
    Backups,
    CutoverRecord,
    Decision,
    MigrationPlan,
    Question,
    Record,
    RollbackRecord,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder, clear_leftovers, create_run, hold_lock, keep_log, list_runs
from unified_db.migration.stage import Stages

# Under unified_db, so that these lines too reach the run's log, the terminal and Prefect.
log = logging.getLogger("unified_db.order")

_prepared: ContextVar[RunFolder | None] = ContextVar("unify_db_prepared_run", default=None)


class Outcome(Record):
    """Where a run ended that no closed gate and no error stopped."""

    run: str
    folder: Path
    dry_run: bool
    cutover: CutoverRecord | None = None
    archive: ArchiveRecord | None = None


class Phases(Protocol):
    """Who does the phases. A gate that is closed raises GateClosedError instead of returning."""

    def announce(self, config: MigrationConfig, run: RunFolder) -> None:
        """Whatever shows that the run has begun; no other run of the application goes on by then."""

    def plan(self, config: MigrationConfig, run: RunFolder) -> MigrationPlan:
        """What would move."""

    def backup(self, run: RunFolder, plan: MigrationPlan) -> Backups:
        """Copies of one instant."""

    def merge(self, run: RunFolder, backups: Backups) -> UnifiedFile:
        """The unified file."""

    def validate(self, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Verdict:
        """Proof that the unified file holds what the backups hold."""

    def stage(
        self, config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile
    ) -> Stages:
        """The staged trees for the next two."""

    def suites(self, config: MigrationConfig, run: RunFolder, stages: Stages) -> Verdict:
        """The application's own tests."""

    def benchmark(
        self,
        config: MigrationConfig,
        run: RunFolder,
        stages: Stages,
        *,
        backups: Backups,
        unified: UnifiedFile,
    ) -> Verdict:
        """The application's response times."""

    def ask(self, run: RunFolder, question: Question) -> Decision:
        """A person's word that allows the switch."""

    def cutover(self, config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
        """The switch."""

    def archive(self, config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
        """The old files, compressed."""

    def rollback(self, config: MigrationConfig, run: RunFolder) -> RollbackRecord:
        """The switch taken back."""

    def summarise(self, run: RunFolder) -> None:
        """Whatever shows the whole run on one page."""


def migrate(by: Phases, config: MigrationConfig, run: RunFolder, *, dry_run: bool) -> Outcome:
    """Take the application of *config* from its old files to one, or with *dry_run* stop before the switch.

    Phases of *run* that have ended before are not done again, so this is also how a run is resumed.

    Raises:
        GateClosedError: A gate is closed; nothing was switched.
        RunLockedError: Another run holds a source or the target.
        UnifyError: As the phases raise them.
    """
    with _whole_run(by, config, run), _journaled(run):
        undo.recover(config)
        cutover = phases.switched(run)
        if cutover is None:
            verdicts = _rehearse(by, config, run)
            if dry_run:
                Journal(run).write("run", "done")
                log.info("dry run: all gates are open; nothing of the application was changed")
                return Outcome(run=run.name, folder=run.path, dry_run=True)
            approval = _decide(by, config, run, verdicts)
            cutover = by.cutover(config, run, approval)
        archive = by.archive(config, run)
        return Outcome(run=run.name, folder=run.path, dry_run=False, cutover=cutover, archive=archive)


def _rehearse(by: Phases, config: MigrationConfig, run: RunFolder) -> tuple[Verdict, ...]:
    """All that is done while the application goes on serving; the open verdicts of the three gates."""
    plan = by.plan(config, run)
    gates.require_covered(plan)
    stage.require_reviewed(config)
    backups = by.backup(run, plan)
    unified = by.merge(run, backups)
    validation = by.validate(run, backups, unified)
    stages = by.stage(config, run, backups, unified)
    suites = by.suites(config, run, stages)
    benchmark = by.benchmark(config, run, stages, backups=backups, unified=unified)
    phases.unstage(run)
    return validation, suites, benchmark


def _decide(by: Phases, config: MigrationConfig, run: RunFolder, verdicts: tuple[Verdict, ...]) -> Approval:
    """Leave to switch: from the open gates, and where so configured from a person who sees why they are."""
    if config.approval.mode == "auto":
        return gates.approve(config, run, verdicts)
    question = gates.pose(config, run)
    _summarise(by, run)
    decision = by.ask(run, question)
    return gates.approve(config, run, verdicts, decision)


def look(by: Phases, config: MigrationConfig, run: RunFolder) -> MigrationPlan:
    """The plan of *run* and nothing more.

    Raises:
        UnifyError: As the plan raises it.
    """
    with _whole_run(by, config, run), _journaled(run):
        plan = by.plan(config, run)
        Journal(run).write("run", "done", reason="it was asked for a plan alone")
        return plan


def resume(by: Phases, config: MigrationConfig, run: RunFolder) -> Outcome:
    """Go on with *run* where it stopped, doing no more than it was asked for last.

    A rollback that was begun is brought to its end, and that is the end of the run.

    Raises:
        UsageError: It was rolled back, so there is nothing to go on with.
        UnifyError: As :func:`migrate`.
    """
    state = read_state(run)
    if state.state == "rolled_back":
        # It may have been killed after its last line: what is left of its locks goes with the next holder.
        with _locked(config, run):
            clear_leftovers(run)
        raise UsageError(
            f"run {run.name} was rolled back",
            hint="The application uses its old files. `unify-db run` starts over.",
        )
    if undo.rollback_is_begun(run):
        roll_back(by, config, run)
        return Outcome(run=run.name, folder=run.path, dry_run=state.dry_run)
    return migrate(by, config, run, dry_run=state.dry_run)


def roll_back(by: Phases, config: MigrationConfig, run: RunFolder) -> RollbackRecord:
    """Take the cut-over of *run* back; rows written since are carried into the old files.

    Raises:
        RunLockedError: Another run holds a source or the target.
        UnifyError: As the rollback raises it.
    """
    with _whole_run(by, config, run):
        return by.rollback(config, run)


def begin(config: MigrationConfig, *, dry_run: bool) -> RunFolder:
    """The run to work on: the one that :func:`prepared` holds ready, else a new one."""
    waiting = _prepared.get()
    if waiting is not None:
        return waiting
    run = create_run(config.state_folder)
    files.write_durably(run.config, config.file.read_bytes(), mode=0o600)
    Journal(run).write("run", "begin", dry_run=dry_run, config=config.file, pid=os.getpid())
    return run


@contextlib.contextmanager
def prepared(run: RunFolder) -> Iterator[RunFolder]:
    """Have :func:`begin` give *run* for the length of the block.

    The flow takes a configuration and makes its own run; whoever calls it in this process and
    must know the run's name, whatever becomes of the flow, makes the run first.
    """
    token = _prepared.set(run)
    try:
        yield run
    finally:
        _prepared.reset(token)


@contextlib.contextmanager
def _whole_run(by: Phases, config: MigrationConfig, run: RunFolder) -> Iterator[None]:
    """Lock, log, and at the end the report, whichever way it ends."""
    with _locked(config, run), keep_log(run):
        clear_leftovers(run)
        _announce(by, config, run)
        try:
            yield
        except UnifyError as error:
            log.warning("%s", error.message)
            _summarise(by, run)
            raise
        except Exception as error:
            # The traceback belongs to the log; whether it is our bug or Prefect's, the caller judges.
            log.info("%s stopped the run", type(error).__name__, exc_info=True)
            _summarise(by, run)
            raise
        _summarise(by, run)


@contextlib.contextmanager
def _locked(config: MigrationConfig, run: RunFolder) -> Iterator[None]:
    paths = [*(config.resolve(s.path) for s in config.source), config.target_path]
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(config.state_folder, paths))
        except RunLockedError as error:
            # The newest run is what `status` shows: one that never began must not be it.
            if _is_just_begun(run):
                shutil.rmtree(run.path)
            raise _with_way_out(config, error) from error
        undo.require_no_cutover(config)
        yield


def _with_way_out(config: MigrationConfig, error: RunLockedError) -> RunLockedError:
    """*error*, which says to wait for the other run; one that waits itself has to be decided."""
    for other in list_runs(config.state_folder):
        if read_state(other).state == "waiting":
            step = next_step(other.name, "waiting")
            return RunLockedError(error.message, hint=f"Nothing was done. {step}")
    return error


@contextlib.contextmanager
def _journaled(run: RunFolder) -> Iterator[None]:
    """Write down that the run goes on, and why it stopped where it did.

    Nothing is written for an interruption: that its process is gone says it all, also after a kill.
    """
    journal = Journal(run)
    if not _is_just_begun(run):
        journal.write("run", "resumed", pid=os.getpid())
    try:
        yield
    except UnifyError as error:
        closed = isinstance(error, GateClosedError)
        _write_failure(journal, closed=closed, reason=error.message, hint=error.hint)
        raise
    except Exception as error:
        if phases.phase_of(error) is not None:
            _write_failure(journal, closed=False, reason=f"{type(error).__name__}: {error}", hint="")
        raise


def _write_failure(journal: Journal, **why: object) -> None:
    # On a full disk this line is missing, which reads as an interruption; what happened counts.
    with contextlib.suppress(OSError):
        journal.write("run", "failed", **why)


def _is_just_begun(run: RunFolder) -> bool:
    """True for a run that this process began and that did nothing yet."""
    entries = read_entries(run.journal)
    return len(entries) == 1 and entries[0].fields.get("pid") == os.getpid()


def _announce(by: Phases, config: MigrationConfig, run: RunFolder) -> None:
    # What only shows a run must not keep it from beginning.
    try:
        by.announce(config, run)
    except Exception:
        log.exception("the run could not be announced")


def _summarise(by: Phases, run: RunFolder) -> None:
    # A report that cannot be written must not turn a switch that was made into a failure.
    try:
        by.summarise(run)
    except Exception:
        log.exception("the report could not be written")
