"""Takes acts of the cut-over back, from the journal alone; what failure, recovery and rollback share.

Every way back looks at the world before it touches it, so doing it again after a crash is the same
as doing it once. Rows written into the unified file are carried into the old files before any
file is moved, and the unified file is kept aside, never deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unified_db import causes, files, sources, sqlite
from unified_db.errors import CutoverRefusedError, RunLockedError, SourceBusyError, UnifyError
from unified_db.migration import application, process_table, reserve
from unified_db.migration.carry_back import CarriedBack, carry_back
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Act, Journal, acts, read_entries, standing_acts
from unified_db.migration.old_files import unpack_archived
from unified_db.migration.records import SetAside
from unified_db.migration.runs import RunFolder, list_runs
from unified_db.migration.switch import PlannedEdit

log = logging.getLogger(__name__)

KEPT_NAME = "unified-kept.sqlite"
_LOCK_NAME = "cutover.lock"
_CARRIED = "carry-back"
_WAIT_S = 5.0


@contextlib.contextmanager
def hold_cutover_lock(run: RunFolder, *, patience_s: float = 0.0) -> Iterator[int]:
    """Keep every other process from switching or undoing *run* for the length of the block.

    The cut-over works in a process of its own, which may outlive the one that waits for it. It
    inherits the descriptor, so that the lock is held for as long as either of them lives.

    Yields:
        The descriptor that holds the lock.

    Raises:
        RunLockedError: Such a process is at work, also after *patience_s* seconds.
    """
    descriptor = os.open(run.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not files.take_lock(descriptor, patience_s=patience_s):
            raise RunLockedError(
                f"the cut-over of run {run.name} is at work in another process",
                hint="Wait for it to end; `unify-db status` shows it.",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def require_no_cutover(config: MigrationConfig) -> None:
    """Return where no process is switching or undoing any run of the application.

    To be called before anything is written to a journal.

    Raises:
        RunLockedError: One is at work.
    """
    for run in list_runs(config.state_folder):
        if (run.path / _LOCK_NAME).exists():
            with hold_cutover_lock(run):
                pass


def write_edit(journal: Journal, edit: PlannedEdit) -> None:
    """Make *edit* on disk as one act; the file as it was is kept among the run's pre-images first."""
    mode = edit.file.stat().st_mode & 0o7777
    # Never a name that was used: the edits that an interruption left to do are fewer than there were.
    kept = journal.run.preimages / f"{journal.next_act()}-{edit.when}-{edit.file.name}"
    files.remove_partials(kept, edit.file)
    files.write_durably(kept, edit.before, mode=0o600)
    with journal.act(
        "edit",
        path=str(edit.file),
        kept=str(kept),
        mode=mode,
        before=files.digest_bytes(edit.before),
        after=files.digest_bytes(edit.after),
    ):
        files.write_durably(edit.file, edit.after)


def fence_text(target: Path, run: RunFolder) -> bytes:
    """What stands at an old path after the switch: no database, and its first line says where it went."""
    return (
        f"This database moved to {target}\n"
        f"unify-db moved it with run {run.name}; the old file is kept by that run.\n"
        "A program that opens this path still has the old setting.\n"
    ).encode()


def recover(config: MigrationConfig) -> list[str]:
    """Put right what earlier runs of this application left half done; their names.

    A cut-over that did not reach its end is taken back; a rollback that was begun is finished.
    Called at the start of every run, and by `resume` and `rollback`.
    """
    return [run.name for run in list_runs(config.state_folder) if recover_run(config, run)]


def recover_run(config: MigrationConfig, run: RunFolder, *, patience_s: float = 0.0) -> bool:
    """As :func:`recover` for one run; True where anything had to be done.

    With *patience_s* as :func:`hold_cutover_lock` takes it.
    """
    if not is_half_done(run):
        return False
    journal = Journal(run)
    with hold_cutover_lock(run, patience_s=patience_s):
        log.info("recovery: run %s was interrupted; taking its cut-over back", run.name)
        undo_acts(config, run, journal, interrupted=True)
        if rollback_is_begun(run):
            journal.write("rollback", "done", reason="finished after an interruption")
        else:
            journal.write("cutover", "undone", reason="it was interrupted")
    return True


def is_half_done(run: RunFolder) -> bool:
    """True where a cut-over or a rollback of *run* was begun and neither ended nor was taken back."""
    mark = _last_mark(run)
    if mark in (None, ("cutover", "undone")):
        # Made ready, but not begun: only a copy beside the target, and its folder, may have been left.
        return bool(standing_acts(run))
    return mark == ("cutover", "begin") or rollback_is_begun(run)


def rollback_is_begun(run: RunFolder) -> bool:
    """True where a rollback of *run* was begun and has not come to its end."""
    mark = _last_mark(run)
    return mark is not None and mark[0] == "rollback" and mark[1] != "done"


def _last_mark(run: RunFolder, *events: str) -> tuple[str, str] | None:
    wanted = events or ("cutover", "rollback")
    marks = [(e.event, e.status) for e in read_entries(run.journal) if e.event in wanted]
    return marks[-1] if marks else None


def _is_finished(run: RunFolder) -> bool:
    """True where the last cut-over of *run* came to its end, whatever has become of it since."""
    return _last_mark(run, "cutover") == ("cutover", "switched")


def undo_acts(
    config: MigrationConfig, run: RunFolder, journal: Journal, *, interrupted: bool = False
) -> CarriedBack:
    """Take back every act of *run* that stands, newest first; what was carried into the old files.

    With *interrupted* by another process than the one that made them, which may have died in any of them.

    A change of the schema that no old file can take stops the rollback of a finished switch, while one
    that a switch met before it was finished stays in the unified file, which is kept: that way back has
    to come to its end.

    Raises:
        UnifyError: Something is in the way, such as a process that does not stop. What was taken
            back stays taken back; calling again goes on from there.
    """
    reserve.release(run)
    standing = standing_acts(run)
    _remove_partials(standing)
    _remove_second_names(standing)
    carried = CarriedBack()
    if _has(standing, "start") or _has(standing, "place"):
        _stop_for_good(config, standing)
        unpack_archived(run)
        carried = _carry_back_once(config, run, journal)
    elif interrupted:
        _finish_stop(config, standing)
    for act in reversed(standing):
        _UNDO[act.name](config, run, act)
        journal.undone(act)
    # Records of a switch that no longer stands; the journal keeps its history.
    for name in ("cutover", "archive"):
        files.remove_durably(run.evidence / f"{name}.json")
    return carried


def _carry_back_once(config: MigrationConfig, run: RunFolder, journal: Journal) -> CarriedBack:
    """As :func:`carry_back`, unless that was done and nobody has written to the unified file since.

    An old file that is back in its place may be in use, so it is compared again only where it must be.
    """
    done = [e for e in read_entries(run.journal) if e.event == _CARRIED]
    # Of before, so that what somebody writes while rows are carried counts as written since.
    stamps = _stamps(config)
    if done and done[-1].fields["stamps"] == stamps != []:
        return read_carried(run)
    carried = carry_back(config, run, strict=_is_finished(run))
    journal.write(_CARRIED, "done", carried=carried.to_json(), stamps=stamps)
    return carried


def read_carried(run: RunFolder) -> CarriedBack:
    """What the last way back of *run* carried, from its journal."""
    done = [e for e in read_entries(run.journal) if e.event == _CARRIED]
    return CarriedBack.from_json(done[-1].fields["carried"]) if done else CarriedBack()


def describe_rest(run: RunFolder, carried: CarriedBack) -> str:
    """What is not as before after a way back, in sentences that begin with a space; empty where all is."""
    said = [f" {a.path} was {a.why}; that version is kept at {a.kept}." for a in find_set_aside(run)]
    kept = run.path / KEPT_NAME
    said += [f" Left in the unified file, which is kept at {kept}: {what}." for what in carried.left]
    return "".join(said)


def _stamps(config: MigrationConfig) -> list[list[int]]:
    """What changes with every write to the unified file; a `-shm` holds locks, and an empty WAL no rows."""
    target = config.target_path
    found = [files.stamp(p) for p in (target, files.sidecar(target, "-wal")) if p.exists()]
    return [list(stamp) for stamp in found if stamp[2]]


def _has(standing: list[Act], name: str) -> bool:
    return any(a.name == name for a in standing)


def _stop_for_good(config: MigrationConfig, standing: list[Act]) -> None:
    """Stop the application; one that we started is ended where no command stops it, or that is ignored."""
    started = [a.after for a in standing if a.name == "start"]
    if not config.app.stop:
        for each in started:
            application.end_started(each)
    try:
        application.stop(config)
    except UnifyError as error:
        # A stop command may fail where there is nothing to stop any more.
        if not any(process_table.is_there(s) for s in started) and application.is_running(config):
            raise
        log.info("undo: %s", error.message)
    for each in started:
        application.end_started(each)


def _finish_stop(config: MigrationConfig, standing: list[Act]) -> None:
    """Bring a stop to its end in which we died: who is asked to end goes on answering for a moment."""
    stop = next((a for a in standing if a.name == "stop"), None)
    if stop is not None and not stop.done and config.app.stop:
        with contextlib.suppress(UnifyError):
            application.stop(config)


def _remove_partials(standing: list[Act]) -> None:
    """Remove what was being written when an act was interrupted; the acts say where that may be."""
    names = [act.before.get(key) for act in standing for key in ("path", "kept", "target", "archived")]
    files.remove_partials(*(Path(name) for name in names if name))


def _remove_second_names(standing: list[Act]) -> None:
    """Have each old file under one name: a move may have been stopped between its new name and the fence.

    Before rows are carried, which puts another file at the new name.
    """
    for act in standing:
        if act.name == "move" and sources.same_file(Path(act.before["path"]), Path(act.before["kept"])):
            files.remove_durably(Path(act.before["kept"]))


def _remove_copy(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    path = Path(act.before["path"])
    for leftover in (*files.sidecars(path), path):
        files.remove_durably(leftover)


def _undo_stop(config: MigrationConfig, run: RunFolder, act: Act) -> None:
    # Its files alone do not tell: a stranger who keeps them open may be why the stop failed.
    if not (_should_run(run, act) and config.app.start) or application.answers(config):
        return
    # One that an undo before this one had begun, and that is not up yet.
    application.end_started(act.after)
    with application.starting(config, run) as server:
        Journal(run).started(act, process_table.describe(server.pid))
    application.wait_healthy(config, server)
    log.info("undo: the application serves on its old files again")


def _should_run(run: RunFolder, stop: Act) -> bool:
    """Whether the application ran when the last thing that stopped it began."""
    rollbacks = [e for e in read_entries(run.journal) if (e.event, e.status) == ("rollback", "begin")]
    return bool(rollbacks[-1].fields["running"] if rollbacks else stop.before["running"])


def _undo_journal_mode(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    path = Path(act.before["path"])
    with sqlite.closing(sqlite.connect_writable(path)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")


def _undo_place(config: MigrationConfig, run: RunFolder, act: Act) -> None:
    target, kept = config.target_path, run.path / KEPT_NAME
    if target.exists():
        _leave_wal_mode(target)
        files.move_durably(target, kept)
    for leftover in files.sidecars(Path(act.before["target"])):
        files.remove_durably(leftover)
    if kept.exists():
        kept.chmod(0o600)


def _leave_wal_mode(target: Path) -> None:
    """Empty the WAL of *target* into it, so that one file holds all and no sidecar stays behind.

    Raises:
        CutoverRefusedError: Somebody has it open. Its WAL would stay, and be removed with what is in it.
        SourceError: The disk is full, or it is no database any more.
    """
    with sqlite.closing(sqlite.connect_writable(target, timeout_s=_WAIT_S)) as conn:
        try:
            found = conn.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        except sqlite3.Error as error:
            refused = sqlite.translate(error, target)
            if not isinstance(refused, SourceBusyError):
                raise refused from error
            found = "another"
    if found != "delete":
        users = process_table.holders([target], exclude={os.getpid()})
        by = f", by: {'; '.join(users)}" if users else ""
        raise CutoverRefusedError(
            f"{target} is still in use{by}, so it cannot leave WAL mode",
            hint="It stays in its place with all its rows. End what has it open, then do this again.",
        )


def _undo_edit(_config: MigrationConfig, run: RunFolder, act: Act) -> None:
    path, content = Path(act.before["path"]), Path(act.before["kept"]).read_bytes()
    now = files.digest_file(path) if path.exists() else None
    if now == act.before["before"]:
        return
    if now is not None and now != act.before["after"]:
        aside = _changed_since(run, act)
        files.remove_partials(aside)
        files.write_durably(aside, path.read_bytes(), mode=0o600)
        log.warning("undo: %s was changed since the switch; that version is kept at %s", path, aside)
    files.write_durably(path, content, mode=int(act.before["mode"]))


def _undo_fence(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    path = Path(act.before["path"])
    if path.exists() and files.digest_file(path) == act.before["sha256"]:
        files.remove_durably(path)


def _undo_move(_config: MigrationConfig, run: RunFolder, act: Act) -> None:
    path, kept = Path(act.before["path"]), Path(act.before["kept"])
    if not kept.exists():
        return
    for stranger in (path, *files.sidecars(path)):
        if stranger.exists():
            # Not our fence, or it would be gone by now: somebody put it there, so it is kept.
            files.move_durably(stranger, _found_at_old_path(run, act, stranger))
            log.warning("undo: an unknown file at %s was moved into the run's folder", stranger)
    files.move_durably(kept, path)


def find_set_aside(run: RunFolder) -> tuple[SetAside, ...]:
    """What the way back of *run* found in its places and kept elsewhere, also before an interruption."""
    found: list[SetAside] = []
    for act in acts(read_entries(run.journal)):
        path = Path(act.before.get("path", ""))
        if act.name == "edit":
            found.append(SetAside(path=path, kept=_changed_since(run, act), why="edited since the switch"))
        elif act.name == "move":
            why = "made at the old path since the switch"
            strangers = files.family(path)
            found += [SetAside(path=p, kept=_found_at_old_path(run, act, p), why=why) for p in strangers]
    return tuple(each for each in found if each.kept.exists())


def _changed_since(run: RunFolder, act: Act) -> Path:
    return run.preimages / f"{act.ident}-{Path(act.before['path']).name}.changed-since"


def _found_at_old_path(run: RunFolder, act: Act, stranger: Path) -> Path:
    return run.path / f"{act.ident}-{stranger.name}.found-at-old-path"


def _undo_make_folder(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    """Remove the folders that were made, the deepest first, up to one that holds anything by now."""
    for folder in map(Path, act.before["folders"]):
        try:
            folder.rmdir()
            files.fsync_folder(folder.parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.info("undo: the folder stays: %s", causes.sentence(error))
            return


def _undo_start(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    application.end_started(act.after)


def _undo_archive_file(_config: MigrationConfig, _run: RunFolder, _act: Act) -> None:
    """Nothing left to do: the file was unpacked before rows were carried into it; the archive stays."""


_UNDO: dict[str, Callable[[MigrationConfig, RunFolder, Act], Any]] = {
    "make-folder": _undo_make_folder,
    "ready-copy": _remove_copy,
    "late-image": _remove_copy,
    "stop": _undo_stop,
    "journal-mode": _undo_journal_mode,
    "place": _undo_place,
    "edit": _undo_edit,
    "move": _undo_move,
    "fence": _undo_fence,
    "start": _undo_start,
    "archive-file": _undo_archive_file,
}
