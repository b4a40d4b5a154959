"""The short window in which the application is stopped and moved: swapped, or exactly as before.

Every act is written to the journal before it is done, with all that undoing it needs. Anything
wrong before the new state has held takes all acts back in reverse order (`undo.py`).

`run_cutover` does the work in a process of its own, without Prefect, and only waits for it:
stopping a Prefect worker kills its flow without a word.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import unified_db
from unified_db import causes, errors, files, sqlite
from unified_db.errors import CutoverRefusedError, CutoverUndoneError, GateClosedError, UnifyError
from unified_db.migration import (
    application,
    late,
    process_table,
    recheck,
    reserve,
    runs,
    soak,
    switch,
    undo,
)
from unified_db.migration.carry_back import CarriedBack
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.journal import Journal, read_entries, standing_acts
from unified_db.migration.lookout import Lookouts
from unified_db.migration.processes import Server
from unified_db.migration.recheck import UNTOUCHED as _UNTOUCHED
from unified_db.migration.records import (
    Approval,
    Backups,
    BenchmarkEvidence,
    CutoverRecord,
    Finding,
    MigrationPlan,
    UnifiedFile,
)
from unified_db.migration.runs import RunFolder, keep_log
from unified_db.migration.to_the_end import bring_to_its_end

log = logging.getLogger(__name__)

_LOOK_S = 0.1

# Our own modules are found without a word in the environment, which the application inherits.
_PROGRAM = """
import sys
sys.path.append(sys.argv.pop(1))
from unified_db.migration.cutover import main
sys.exit(main(sys.argv[1:]))
"""
_AS_BEFORE = (
    "Everything is as it was: the application uses its old files, and its configuration is unchanged."
)


def run_cutover(config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
    """Make the switch in a process of its own and wait for it.

    Raises:
        CutoverRefusedError: It could not begin; the application was not stopped.
        CutoverUndoneError: It was begun and taken back; everything is as before.
    """
    _require_same_evidence(run, approval)
    home = Path(unified_db.__file__).parents[1]
    command = [sys.executable, "-P", "-c", _PROGRAM, str(home), str(config.file), str(run.path)]
    failure = run.evidence / "cutover-failure.json"
    failure.unlink(missing_ok=True)
    said = runs.FollowedLog(run)
    with undo.hold_cutover_lock(run) as lock:
        # To leave it alone would mean to write into the journal while it does.
        code = bring_to_its_end("the cut-over", lambda: _run_to_its_end(command, run, lock, said))
    if failure.exists():
        raise _rebuild_error(failure)
    # Killed half way, as the system does where memory is short: nobody else would start the application.
    if undo.recover_run(config, run, patience_s=files.INHERITED_LOCK_S):
        raise CutoverUndoneError(
            f"the cut-over's process ended with code {code}, and all was taken back",
            hint=f"{_AS_BEFORE} {run.log} says how far it came.",
        )
    record = run.load("cutover", CutoverRecord)
    if record is None:
        raise _error_of_journal(run, code)
    log.info(
        "cut-over: switched, %.0f ms from stop to first healthy answer, %d late rows carried",
        record.downtime_ms,
        record.late_rows,
    )
    return record


def _run_to_its_end(command: Sequence[str], run: RunFolder, lock: int, said: runs.FollowedLog) -> int:
    """Start the cut-over and wait for it: it has two ends, and both come soon. Its exit code.

    What it logs is logged here too: where nobody else stops the application, it asks a person to.
    """
    # A session of its own: neither the terminal's Ctrl-C nor a worker's end reaches it.
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        cwd=run.path,
        pass_fds=[lock],
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LOOK_S)
            said.tell(process.pid)
    finally:
        process.wait()
    return process.returncode


def perform_cutover(config: MigrationConfig, run: RunFolder) -> CutoverRecord:
    """Make the switch in this process; see the module. The caller holds the run's cut-over lock.

    Raises:
        CutoverRefusedError: It could not begin; the application was not stopped.
        CutoverUndoneError: It was begun and taken back; everything is as before.
    """
    journal = Journal(run)
    with contextlib.ExitStack() as watch:
        try:
            prepared = _prepare(config, run, journal, watch)
            journal.write("cutover", "begin", pid=os.getpid())
        except BaseException as error:
            watch.close()
            undo.undo_acts(config, run, journal)
            if isinstance(error, OSError) or causes.is_refusal(error):
                raise CutoverRefusedError(
                    f"the cut-over cannot begin: {causes.sentence(error)}", hint=_go_on(run)
                ) from error
            raise
        return _switch_or_undo(config, run, journal, prepared)


def _switch_or_undo(
    config: MigrationConfig, run: RunFolder, journal: Journal, prepared: _Prepared
) -> CutoverRecord:
    try:
        record = _switch_over(config, run, journal, prepared)
        reserve.release(run)
        run.save("cutover", record)
        journal.write("cutover", "switched")
    except BaseException as error:
        # The way back opens the sources by itself, which must be nobody's then.
        prepared.lookouts.close()
        reason = causes.sentence(error)
        log.warning("cut-over: %s; taking everything back", reason)
        carried = _undo_all(config, run, journal, reason=reason)
        if not isinstance(error, Exception):
            raise
        hint = _AS_BEFORE + undo.describe_rest(run, carried)
        raise CutoverUndoneError(f"the cut-over was taken back: {reason}", hint=hint) from error
    return record


def _undo_all(config: MigrationConfig, run: RunFolder, journal: Journal, *, reason: str) -> CarriedBack:
    """Take every act back; what was carried into the old files.

    Raises:
        CutoverUndoneError: Something is in the way; the hint says what is left to do.
    """
    try:
        carried = undo.undo_acts(config, run, journal)
    except Exception as error:
        log.exception("cut-over: the way back stopped")
        raise CutoverUndoneError(
            f"{reason}; and taking the cut-over back stopped at: {causes.sentence(error)}",
            hint=_left_to_undo(run),
        ) from error
    journal.write("cutover", "undone", reason=reason[:2000])
    return carried


def _left_to_undo(run: RunFolder) -> str:
    """What state the application is in where the way back came to no end, and what to do."""
    again = f"Mend that, then `unify-db rollback {run.name}` takes back what is left; no row is lost."
    if {a.name for a in standing_acts(run)} <= {"stop", "make-folder", "ready-copy", "late-image"}:
        return f"Files and configuration are as before, but the application does not run. {again}"
    return f"The application does not run, and its files are between old and new. {again}"


@dataclass(frozen=True)
class _Prepared:
    """What is made ready while the application still serves."""

    backups: Backups
    edits: tuple[switch.PlannedEdit, ...]
    copy: late.ReadyCopy
    lookouts: Lookouts
    carried_rows: int
    restart_ms: float


def _prepare(
    config: MigrationConfig, run: RunFolder, journal: Journal, watch: contextlib.ExitStack
) -> _Prepared:
    """Make everything ready while the application serves; the lookouts are closed with *watch*."""
    plan, backups, unified = _load_evidence(run)
    recheck.require_as_planned(config, run, plan, unified)
    edits = switch.plan_edits(config, "switch")
    _require_edits_apply(config, plan, edits)
    sqlite.require_free_place(config.target_path)
    if files.digest_file(unified.path) != unified.sha256:
        raise CutoverRefusedError(
            "the unified file was changed since it was validated", hint=f"Run again. {_UNTOUCHED}"
        )
    ready = config.target_path.with_name(f".{config.target_path.name}.{run.name}.ready")
    _make_folder(journal, config.target_path.parent)
    reserve.keep(run, edits)
    with journal.act("ready-copy", path=str(ready)):
        # The copy takes the time while the application serves, so that the pause does not.
        shutil.copyfile(unified.path, ready)
        _take_mode(ready, backups)
        files.fsync_file(ready)
        files.fsync_folder(ready.parent)
    lookouts = watch.enter_context(Lookouts([b.source for b in backups.items]))
    copy = late.ReadyCopy(ready, plan, backups)
    rows = late.carry_beside(copy, lookouts, run, journal)
    evidence = run.load("evidence-benchmark", BenchmarkEvidence)
    return _Prepared(backups, edits, copy, lookouts, rows, evidence.restart_ms if evidence else 0.0)


def _make_folder(journal: Journal, folder: Path) -> None:
    """Have *folder* be there; what is made of it is written down first, for the way back to remove."""
    missing = [str(p) for p in (folder, *folder.parents) if not p.exists()]
    with journal.act("make-folder", folders=missing) if missing else contextlib.nullcontext():
        files.make_folder(folder)


def _switch_over(
    config: MigrationConfig, run: RunFolder, journal: Journal, ready: _Prepared
) -> CutoverRecord:
    stopped_at = time.monotonic()
    _stop_application(config, journal)
    sources = [b.source for b in ready.backups.items]
    application.require_no_holders(sources, after="the stop")
    with ready.lookouts:
        ready.lookouts.take_locks(journal)
        late_rows = ready.carried_rows + late.carry_late(ready.copy, ready.lookouts)
        _place(config, journal, ready.copy.path)
        _edit(journal, ready.edits)
        application.require_no_holders(sources, after="the locks were taken")
        originals = _move_originals(config, run, journal, ready.backups)
    error_lines = soak.follow_log(config, run)
    server = _start_application(config, run, journal)
    downtime_ms = (time.monotonic() - stopped_at) * 1000
    log.info("cut-over: serving on the unified file after %.0f ms", downtime_ms)
    health = soak.watch(config, run, server, error_lines) if server else ()
    _require_healthy(health)
    return CutoverRecord(
        run=run.name,
        switched_at=datetime.now(UTC),
        target=config.target_path,
        downtime_ms=round(downtime_ms, 1),
        write_pause_ms=round(max(0.0, downtime_ms - ready.restart_ms), 1),
        late_rows=late_rows,
        edited=tuple(e.file for e in ready.edits),
        originals=originals,
        pid=server.pid if server else None,
        health=health,
    )


def _go_on(run: RunFolder) -> str:
    return f"{_UNTOUCHED} Mend that, then `unify-db resume {run.name}` goes on."


def _load_evidence(run: RunFolder) -> tuple[MigrationPlan, Backups, UnifiedFile]:
    plan, backups = run.load("plan", MigrationPlan), run.load("backup", Backups)
    unified = run.load("merge", UnifiedFile)
    if plan is None or backups is None or unified is None:
        raise CutoverRefusedError(
            f"run {run.name} has no plan, backup or merge", hint=f"`unify-db run` begins anew. {_UNTOUCHED}"
        )
    return plan, backups, unified


def _require_same_evidence(run: RunFolder, approval: Approval) -> None:
    if approval.evidence_sha256 != run.evidence_digest():
        raise GateClosedError(
            "the evidence is not what was approved: a record of the run was changed since",
            hint=f"Run again. {_UNTOUCHED}",
        )


def _require_edits_apply(
    config: MigrationConfig, plan: MigrationPlan, edits: Sequence[switch.PlannedEdit]
) -> None:
    planned = {config.resolve(e.file): e.before_sha256 for e in plan.edits if e.when == "switch"}
    for edit in edits:
        if planned.get(edit.file) != files.digest_bytes(edit.before):
            raise CutoverRefusedError(
                f"{config.label(edit.file)} was changed since the plan",
                hint=f"Its tests ran on other code than is there now; run again. {_UNTOUCHED}",
            )


def _take_mode(path: Path, backups: Backups) -> None:
    """Give the unified file mode and owner of the application's own database."""
    home = next((b for b in backups.items if b.kind == "application"), backups.items[0])
    files.take_mode_and_owner(path, home.source, special_bits=True)


def _stop_application(config: MigrationConfig, journal: Journal) -> None:
    with journal.act("stop", running=application.is_running(config)):
        application.stop(config)
    log.info("cut-over: the application is stopped")


def _place(config: MigrationConfig, journal: Journal, ready: Path) -> None:
    # Again: whoever left a WAL there in the meantime would have it played back over our pages.
    sqlite.require_free_place(config.target_path)
    with journal.act("place", ready=str(ready), target=str(config.target_path)):
        files.move_durably(ready, config.target_path)


def _edit(journal: Journal, edits: Sequence[switch.PlannedEdit]) -> None:
    for edit in edits:
        undo.write_edit(journal, edit)
    log.info("cut-over: %d files edited", len(edits))


def _move_originals(
    config: MigrationConfig, run: RunFolder, journal: Journal, backups: Backups
) -> tuple[tuple[Path, Path], ...]:
    files.make_folder(run.originals, mode=0o700)
    moved: list[tuple[Path, Path]] = []
    for place, item in enumerate(backups.items, 1):
        kept = _kept_place(run, place, item.source)
        fence = undo.fence_text(config.target_path, run)
        with (
            journal.act("move", path=str(item.source), kept=str(kept)),
            journal.act("fence", path=str(item.source), sha256=files.digest_bytes(fence)),
        ):
            files.replace_keeping(item.source, kept, fence, mode=0o444)
        moved.append((item.source, kept))
    log.info("cut-over: old files moved away, old paths fenced")
    return tuple(moved)


def _kept_place(run: RunFolder, place: int, source: Path) -> Path:
    """Where the old file *source* goes: into the run's folder where that is a rename."""
    if source.stat().st_dev == run.originals.stat().st_dev:
        return run.originals / f"{place}-{source.name}"
    # Across file systems a move is a copy, and the end of it would drop the lock that we hold (POSIX).
    return source.with_name(f".{run.name}-{place}-{source.name}")


def _start_application(config: MigrationConfig, run: RunFolder, journal: Journal) -> Server | None:
    if not config.app.start:
        return None
    # It begins only once it is known which process it is: whoever is killed before leaves none that runs.
    with (
        application.starting(config, run) as server,
        journal.act("start", log=str(run.server_log)) as learnt,
    ):
        learnt.update(process_table.describe(server.pid))
    application.wait_healthy(config, server)
    return server


def _require_healthy(health: Sequence[Finding]) -> None:
    bad = next((f for f in health if not f.passed), None)
    if bad is not None:
        raise CutoverUndoneError(
            f"{bad.check} ({bad.where}): required {bad.required}, measured {bad.measured}"
        )


def _error_of_journal(run: RunFolder, code: int) -> CutoverUndoneError:
    """Why the cut-over's process left no result, where it could not write down even that."""
    marks = [e for e in read_entries(run.journal) if e.event == "cutover"]
    if marks and marks[-1].status == "undone":
        return CutoverUndoneError(
            f"the cut-over was taken back: {marks[-1].fields.get('reason', 'unknown')}", hint=_AS_BEFORE
        )
    return CutoverUndoneError(
        f"the cut-over's process ended with code {code} and left no result",
        hint=f"`unify-db resume {run.name}` puts everything right; {run.log} says how far it came.",
    )


def _rebuild_error(path: Path) -> UnifyError:
    content = json.loads(path.read_text())
    kind = getattr(errors, content["kind"], CutoverUndoneError)
    error: UnifyError = kind(content["message"], hint=content["hint"])
    return error


def main(arguments: Sequence[str]) -> int:
    """Perform the cut-over of RUN; a failure goes to `evidence/cutover-failure.json` for the waiter."""
    config_file, folder = Path(arguments[0]), Path(arguments[1])
    run = RunFolder(folder)
    with keep_log(run):
        try:
            perform_cutover(runs.config_of(run, load_config(config_file)), run)
        except UnifyError as error:
            content = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            path = run.evidence / "cutover-failure.json"
            # Where the disk is full the journal tells the waiter.
            with contextlib.suppress(OSError):
                files.write_durably(path, json.dumps(content).encode(), mode=0o600)
            return int(error.exit_code)
        except Exception:
            log.exception("a bug of unify-db stopped the cut-over")
            return 1
    return 0
