"""Takes a finished cut-over back, days later too: rows written since go into the old files.

Driven by the journal; needs neither Prefect nor the configuration file as it is now.
"""

from __future__ import annotations

import contextlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from unified_db import causes, integrity, sources
from unified_db.errors import RollbackError, UnifyError, UsageError
from unified_db.migration import application, beforehand, carry_back, undo
from unified_db.migration.carry_back import CarriedBack
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Act, Journal, acts, read_entries, read_state, standing_acts
from unified_db.migration.old_files import unpack_archived
from unified_db.migration.records import Finding, RollbackRecord
from unified_db.migration.runs import RunFolder
from unified_db.migration.to_the_end import bring_to_its_end

log = logging.getLogger(__name__)


def roll_back(config: MigrationConfig, run: RunFolder) -> RollbackRecord:
    """Put the old files and the configuration back, with all rows written since the switch.

    Raises:
        UsageError: The run never switched anything.
        RollbackError: The unified file's schema changed since the switch in a way that no old file can
            take, or there is no room for it; nothing was changed. Also where the application does not stop,
            or a disk is full; what was done so far is in the journal, and calling again goes on.
    """
    standing, half_done = standing_acts(run), undo.is_half_done(run)
    if not standing and not half_done:
        return _nothing_to_do(run)
    # What was half done is only brought to its end: what is taken back already is no drift.
    if not half_done:
        _require_target(config, standing)
        unpack_archived(run)
        found = carry_back.find_drift(config, run)
        carry_back.require_carriable(found)
        beforehand.require_possible(run, config.target_path, found)
    journal = Journal(run)
    with undo.hold_cutover_lock(run):
        # Left half way the application would be away until somebody comes back to it.
        carried = bring_to_its_end(
            "the rollback", lambda: _take_back(config, run, journal, standing, half_done=half_done)
        )
    restored = _restored(run)
    return _record(run, restored, carried, tuple(_check(config, path) for path in restored))


def _restored(run: RunFolder) -> tuple[Path, ...]:
    moves = [a for a in acts(read_entries(run.journal)) if a.name == "move"]
    return tuple(dict.fromkeys(Path(a.before["path"]) for a in moves))


def _record(
    run: RunFolder, restored: tuple[Path, ...], carried: CarriedBack, findings: tuple[Finding, ...]
) -> RollbackRecord:
    kept = run.path / undo.KEPT_NAME
    return RollbackRecord(
        run=run.name,
        rolled_back_at=datetime.now(UTC),
        restored=restored,
        carried=tuple((c.table, c.inserted, c.updated, c.deleted) for c in carried.rows),
        kept_aside=kept if kept.exists() else None,
        findings=findings,
        schema_carried=carried.schema,
        left_behind=carried.left,
        set_aside=undo.find_set_aside(run),
    )


def _take_back(
    config: MigrationConfig, run: RunFolder, journal: Journal, standing: list[Act], *, half_done: bool
) -> CarriedBack:
    if undo.rollback_is_begun(run):
        journal.write("rollback", "resumed", pid=os.getpid())
    else:
        running = application.is_running(config) or _stopped_by_an_interrupted_cutover(run, standing)
        journal.write("rollback", "begin", pid=os.getpid(), running=running)
    try:
        carried = undo.undo_acts(config, run, journal, interrupted=half_done)
    except Exception as error:
        # On a full disk this line is missing, which reads as an interruption; what happened counts.
        with contextlib.suppress(OSError):
            journal.write("rollback", "failed", reason=causes.sentence(error))
        if isinstance(error, RollbackError) or not (
            isinstance(error, UnifyError) or causes.is_refusal(error)
        ):
            raise
        raise RollbackError(
            f"the rollback stopped: {causes.sentence(error)}", hint=_how_to_go_on(config, run)
        ) from error
    journal.write("rollback", "done")
    return carried


def _how_to_go_on(config: MigrationConfig, run: RunFolder) -> str:
    away = "The application does not run now. " if application.is_away(config) else ""
    return f"{away}Mend that, then `unify-db rollback {run.name}` brings it to its end; no row is lost."


def _stopped_by_an_interrupted_cutover(run: RunFolder, standing: list[Act]) -> bool:
    """True where the application does not run because our cut-over stopped it and then came to no end."""
    stops = [a for a in standing if a.name == "stop"]
    return undo.is_half_done(run) and any(a.before["running"] for a in stops)


def _nothing_to_do(run: RunFolder) -> RollbackRecord:
    state = read_state(run).state
    if state != "rolled_back":
        raise UsageError(
            f"run {run.name} switched nothing, so there is nothing to take back",
            hint="The application uses its old files. `unify-db status` shows where its runs stand.",
        )
    log.info("rollback: run %s is rolled back already; nothing to do", run.name)
    known = run.load("rollback", RollbackRecord)
    # One that was finished as a recovery has left no record of its own.
    return known or _record(run, _restored(run), undo.read_carried(run), ())


def _require_target(config: MigrationConfig, standing: list[Act]) -> None:
    if any(a.name == "place" for a in standing) and not config.target_path.exists():
        raise RollbackError(
            f"the unified file {config.target_path} is gone, and with it what was written since the switch",
            hint="Nothing was changed. Put it back, or a backup of it; docs/runbook.md says how to go back "
            "by hand without it.",
        )


def _check(config: MigrationConfig, path: Path) -> Finding:
    problems = sources.look_at(path, integrity.integrity_problems)
    return Finding(
        check="integrity_check of the restored file",
        where=config.label(path),
        required="ok",
        measured=problems[0] if problems else "ok",
        passed=not problems,
    )
