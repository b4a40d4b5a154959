"""Takes acts of the cut-over back, from the journal alone; what failure, recovery and rollback share.

Every way back looks at the world before it touches it, so doing it again after a crash is the same
as doing it once. Rows written into the unified file are carried into the old files before any
file is moved, and the unified file is kept aside, never deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from unified_db import files, sources, sqlite
from unified_db.errors import RollbackError, RunLockedError, UnifyError
from unified_db.migration import application, changes, compare, copy, langgraph, union_changes, unions
from unified_db.migration.changes import Carried
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Act, Journal, read_entries, standing_acts
from unified_db.migration.layout import SourceLayout, place
from unified_db.migration.records import Backups, Layout, SchemaObject
from unified_db.migration.runs import RunFolder, list_runs
from unified_db.migration.switch import PlannedEdit

log = logging.getLogger(__name__)

KEPT_NAME = "unified-kept.sqlite"
_LOCK_NAME = "cutover.lock"


@contextlib.contextmanager
def hold_cutover_lock(run: RunFolder) -> Iterator[int]:
    """Keep every other process from switching or undoing *run* for the length of the block.

    The cut-over works in a process of its own, which may outlive the one that waits for it. It
    inherits the descriptor, so that the lock is held for as long as either of them lives.

    Yields:
        The descriptor that holds the lock.

    Raises:
        RunLockedError: Such a process is at work.
    """
    descriptor = os.open(run.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunLockedError(
                f"the cut-over of run {run.name} is at work in another process",
                hint="Wait for it to end; `unify-db status` shows it.",
            ) from error
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


def write_edit(journal: Journal, edit: PlannedEdit, kept: Path) -> None:
    """Make *edit* on disk as one act; the file as it was is kept at *kept* first."""
    mode = edit.file.stat().st_mode & 0o7777
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


def recover_run(config: MigrationConfig, run: RunFolder) -> bool:
    """As :func:`recover` for one run; True where anything had to be done."""
    if not is_half_done(run):
        return False
    journal = Journal(run)
    with hold_cutover_lock(run):
        log.info("recovery: run %s was interrupted; taking its cut-over back", run.name)
        undo_acts(config, run, journal)
        if rollback_is_begun(run):
            journal.write("rollback", "done", reason="finished after an interruption")
        else:
            journal.write("cutover", "undone", reason="it was interrupted")
    return True


def is_half_done(run: RunFolder) -> bool:
    """True where a cut-over or a rollback of *run* was begun and neither ended nor was taken back."""
    mark = _last_mark(run)
    if mark is None:
        # Made ready, but not begun: only a copy beside the target may have been left.
        return bool(standing_acts(run))
    return mark == ("cutover", "begin") or rollback_is_begun(run)


def rollback_is_begun(run: RunFolder) -> bool:
    """True where a rollback of *run* was begun and has not come to its end."""
    mark = _last_mark(run)
    return mark is not None and mark[0] == "rollback" and mark[1] != "done"


def _last_mark(run: RunFolder) -> tuple[str, str] | None:
    marks = [(e.event, e.status) for e in read_entries(run.journal) if e.event in ("cutover", "rollback")]
    return marks[-1] if marks else None


def undo_acts(config: MigrationConfig, run: RunFolder, journal: Journal) -> list[Carried]:
    """Take back every act of *run* that stands, newest first; what was carried into the old files.

    Raises:
        UnifyError: Something is in the way, such as a process that does not stop. What was taken
            back stays taken back; calling again goes on from there.
    """
    standing = standing_acts(run)
    carried: list[Carried] = []
    if _has(standing, "start") or _has(standing, "place"):
        _stop_for_good(config, standing)
        unpack_archived(run)
        carried = carry_back(config, run)
    for act in reversed(standing):
        _UNDO[act.name](config, run, act)
        journal.undone(act)
    # Records of a switch that no longer stands; the journal keeps its history.
    for name in ("cutover", "archive"):
        (run.evidence / f"{name}.json").unlink(missing_ok=True)
    return carried


def carry_back(config: MigrationConfig, run: RunFolder) -> list[Carried]:
    """Bring the old files up to what the unified file holds now, table by table, proven equal.

    Nothing to do where the unified file was never put in place. The application must be stopped.
    """
    standing = standing_acts(run)
    if not _has(standing, "place") or not config.target_path.exists():
        return []
    application.require_no_holders([config.target_path], after="the stop")
    carried: list[Carried] = []
    olds = _old_files(run, standing)
    for old in olds:
        carried += _carry_into(old, config.target_path)
    carried += _carry_unions(olds, config.target_path)
    total = sum(c.total for c in carried)
    log.info("undo: %d rows written since the switch were carried into the old files", total)
    return carried


def find_drift(config: MigrationConfig, run: RunFolder) -> list[str]:
    """Schema objects that changed in the unified file since the switch, as "kind name" with what happened."""
    standing = standing_acts(run)
    wanted: dict[tuple[str, str], str | None] = {}
    elsewhere: list[SchemaObject] = []
    for old in _old_files(run, standing):
        with sources.reading(old.path) as conn:
            places = old.place(conn)
            upgraded = _with_upgrade(conn)
        away = places.united_elsewhere
        wanted |= _definitions([p.unified for p in places.placed if p not in away])
        wanted |= {} if any(p.unified.name == "writes" for p in away) else upgraded
        elsewhere += [p.unified for p in away]
    # A united table is defined as its home defines it; only what the home lacks came from others.
    wanted = _definitions(elsewhere) | wanted
    with sources.reading(config.target_path) as conn:
        found = _definitions(copy.read_objects(conn))
    drift = [f"{kind} {name} is new" for kind, name in found.keys() - wanted.keys()]
    drift += [f"{kind} {name} is gone" for kind, name in wanted.keys() - found.keys()]
    drift += [f"{k} {n} was changed" for k, n in wanted.keys() & found.keys() if wanted[k, n] != found[k, n]]
    return sorted(drift)


def _definitions(objects: Sequence[SchemaObject]) -> dict[tuple[str, str], str | None]:
    return {(o.kind, o.name.lower()): o.sql for o in objects}


def _with_upgrade(conn: sqlite3.Connection) -> dict[tuple[str, str], str | None]:
    """The definition that LangGraph's own upgrade gives `writes`, where *conn* has that table."""
    if not langgraph.holds_checkpoints(conn):
        return {}
    sql = next(o.sql for o in copy.read_objects(conn) if o.name == "writes")
    checkpoints = next(o.sql for o in copy.read_objects(conn) if o.name == "checkpoints")
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(str(checkpoints))
        scratch.execute(str(sql))
        langgraph.upgrade_writes(scratch)
        upgraded = {o.name: o.sql for o in copy.read_objects(scratch)}
    return {("table", "writes"): upgraded["writes"]}


def _carry_into(old: _OldFile, unified: Path) -> list[Carried]:
    with sqlite.closing(sqlite.connect_writable(old.path)) as conn:
        compare.prepare(conn)
        places = old.place(conn)
        with sqlite.attached(conn, unified, "unified", frozen=False):
            there = set(sqlite.tables(conn, "unified"))
            alone = [n for n in sqlite.tables(conn) if places.union_of(n) is None]
            names = {places.name(n): n for n in alone if places.name(n) in there}
            if _needs_task_path(conn, names):
                langgraph.upgrade_writes(conn)
            with sqlite.transaction(conn):
                carried = changes.carry_all(conn, names, frm="unified")
            touched = {c.table for c in carried}
            equal = {ours: theirs for theirs, ours in names.items() if ours in touched}
            changes.require_equal(conn, equal, left="main", right="unified")
    files.fsync_file(old.path)
    return carried


def _carry_unions(olds: Sequence[_OldFile], unified: Path) -> list[Carried]:
    """Carry every united table back; the old files are looked at together, since a row may be in several."""
    layout = olds[0].layout if olds else Layout()
    places = []
    for old in olds if layout.unions else ():
        with sources.reading(old.path) as conn:
            places.append(old.place(conn))
    paths = {old.label: old.path for old in olds}
    carried: list[Carried] = []
    for union in layout.unions:
        parts = unions.parts_of(union, places, paths, frozen=False)
        carried += union_changes.carry_back(union, parts, unified)
    return carried


def _needs_task_path(conn: sqlite3.Connection, names: Mapping[str, str]) -> bool:
    """True where the unified file holds task paths for which the old file has no column."""
    if not (langgraph.holds_checkpoints(conn) and "writes" in names):
        return False
    here = {c.name for c in sqlite.describe_table(conn, "writes").columns}
    there = {c.name for c in sqlite.describe_table(conn, "writes", "unified").columns}
    if "task_path" in here or "task_path" not in there:
        return False
    return bool(conn.execute("SELECT 1 FROM unified.writes WHERE task_path IS NOT '' LIMIT 1").fetchone())


@dataclass(frozen=True)
class _OldFile:
    """An old file that the switch moved.

    Attributes:
        label: The source's name.
        path: Where it lies now.
        layout: What the unified file has otherwise than the sources.
    """

    label: str
    path: Path
    layout: Layout

    def place(self, conn: sqlite3.Connection) -> SourceLayout:
        """Where its objects are in the unified file; *conn* has it as main."""
        return place(self.label, copy.read_objects(conn), self.layout)


def _old_files(run: RunFolder, standing: list[Act]) -> list[_OldFile]:
    """The old files whose moves stand, in the order in which they were moved."""
    backups = run.load("backup", Backups)
    if backups is None and _has(standing, "move"):
        # Without it nobody knows what is called otherwise in the unified file, or is united there.
        raise RollbackError(
            f"the record of the backups of run {run.name} is gone",
            hint=f"Nothing was changed. Put {run.evidence / 'backup.json'} back.",
        )
    labels = {str(b.source): b.label for b in backups.items} if backups else {}
    layout = backups.layout if backups else Layout()
    found: list[_OldFile] = []
    for act in standing:
        if act.name == "move":
            kept, path = Path(act.before["kept"]), Path(act.before["path"])
            label = labels.get(str(path), str(path))
            found.append(_OldFile(label, kept if kept.exists() else path, layout))
    return found


def _has(standing: list[Act], name: str) -> bool:
    return any(a.name == name for a in standing)


def _stop_for_good(config: MigrationConfig, standing: list[Act]) -> None:
    """Stop the application; one that ignores its stop command, but that we started, is ended."""
    pids = [int(a.after["pid"]) for a in standing if a.name == "start" and a.after.get("pid")]
    try:
        application.stop(config)
    except UnifyError as error:
        if not pids:
            raise
        log.info("undo: %s", error.message)
    for pid in pids:
        application.end_process(pid)


def archive_act(run: RunFolder, kept: Path) -> Act:
    """The newest act that archived the old file at *kept*."""
    found = [a for a in standing_acts(run) if a.name == "archive-file" and a.before["kept"] == str(kept)]
    return found[-1]


def unpack_archived(run: RunFolder) -> None:
    """Bring archived old files back to where the switch had moved them; the archive stays.

    Raises:
        RollbackError: An archived file is damaged.
    """
    for act in standing_acts(run):
        kept = Path(act.before.get("kept", ""))
        if act.name != "archive-file" or kept.exists():
            continue
        if not Path(act.before["archived"]).exists():
            raise _archive_is_gone(act)
        with files.partial_file(kept) as partial:
            with Path(act.before["archived"]).open("rb") as packed, partial.open("wb") as plain:
                zstandard.ZstdDecompressor().copy_stream(packed, plain)
            partial.chmod(int(act.before["mode"]))
            files.fsync_file(partial)
            if files.digest_file(partial) != act.before["sha256"]:
                raise RollbackError(
                    f"the archive {act.before['archived']} is damaged: its content has another digest",
                    hint="Nothing was changed. The backup of the run is in its folder `backup`.",
                )


def _remove_copy(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    path = Path(act.before["path"])
    for leftover in (*files.sidecars(path), path):
        files.remove_durably(leftover)


def _undo_stop(config: MigrationConfig, run: RunFolder, act: Act) -> None:
    if not (_should_run(run, act) and config.app.start) or application.is_running(config):
        return
    server = application.start(config, run)
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
    if not target.exists():
        return
    # Empties the WAL into the file, so that one file holds all and no sidecar stays behind.
    with sqlite.closing(sqlite.connect_writable(target)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
    files.move_durably(target, kept)
    for leftover in files.sidecars(Path(act.before["target"])):
        files.remove_durably(leftover)
    kept.chmod(0o600)


def _undo_edit(_config: MigrationConfig, run: RunFolder, act: Act) -> None:
    path, content = Path(act.before["path"]), Path(act.before["kept"]).read_bytes()
    now = files.digest_file(path) if path.exists() else None
    if now == act.before["before"]:
        return
    if now is not None and now != act.before["after"]:
        aside = run.preimages / f"{act.ident}-{path.name}.changed-since"
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
            files.move_durably(stranger, run.path / f"{act.ident}-{stranger.name}.found-at-old-path")
            log.warning("undo: an unknown file at %s was moved into the run's folder", stranger)
    files.move_durably(kept, path)


def _undo_start(_config: MigrationConfig, _run: RunFolder, act: Act) -> None:
    if act.after.get("pid"):
        application.end_process(int(act.after["pid"]))


def _undo_archive_file(_config: MigrationConfig, _run: RunFolder, _act: Act) -> None:
    """Nothing left to do: the file was unpacked before rows were carried into it; the archive stays."""


def _archive_is_gone(act: Act) -> RollbackError:
    return RollbackError(
        f"the archived file {act.before['archived']} is gone",
        hint="Nothing was changed. The backup of the run is in its folder `backup`; docs/runbook.md says "
        "how to go back by hand.",
    )


_UNDO: dict[str, Callable[[MigrationConfig, RunFolder, Act], Any]] = {
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
