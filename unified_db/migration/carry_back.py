"""Brings the old files up to what the unified file holds now: changes of the schema, then rows, proven.

The application must be stopped. States are compared, so carrying twice is carrying once, and each old
file is written in one transaction: a kill leaves it as it was, or as it shall be.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unified_db import files, sources, sqlite
from unified_db.errors import RollbackError
from unified_db.migration import (
    application,
    changes,
    compare,
    copy,
    drift,
    langgraph,
    schema_changes,
    union_changes,
    unions,
)
from unified_db.migration.changes import Carried
from unified_db.migration.config import MigrationConfig
from unified_db.migration.drift import Change, Drift, OldSchema
from unified_db.migration.journal import standing_acts
from unified_db.migration.old_files import OldFile, find_old_files
from unified_db.migration.records import Layout, MigrationPlan
from unified_db.migration.runs import RunFolder
from unified_db.standins import what_is_lacking

log = logging.getLogger(__name__)

_NUMBERS = ("user_version", "application_id")


@dataclass(frozen=True)
class CarriedBack:
    """What was carried from the unified file into the old ones.

    Attributes:
        rows: The tables in which rows were touched, under their names in the old files.
        schema: (source, what changed) of what was carried of the schema.
        left: What of the schema was left behind, since it belongs to no single source.
    """

    rows: tuple[Carried, ...] = ()
    schema: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CarriedBack:
        """What :meth:`to_json` gave, after a trip through the journal."""
        return cls(
            rows=tuple(Carried(**row) for row in content["rows"]),
            schema=tuple((label, what) for label, what in content["schema"]),
            left=tuple(content["left"]),
        )


def carry_back(config: MigrationConfig, run: RunFolder, *, strict: bool = True) -> CarriedBack:
    """Bring every old file up to date, table by table, proven equal.

    Nothing to do where the unified file was never put in place. With *strict*, what belongs to no single
    source is refused before anything is written; without, it is left in the unified file, which is kept.

    Raises:
        RollbackError: Something of the schema cannot be carried.
        SourceError: A row cannot be carried; it is still in the unified file.
    """
    standing = standing_acts(run)
    if not any(a.name == "place" for a in standing) or not config.target_path.exists():
        return CarriedBack()
    application.require_no_holders([config.target_path], after="the stop")
    olds = find_old_files(run).items
    for old in olds:
        # What an interrupted way back left unfinished is taken back by SQLite at its first look.
        sqlite.connect_writable(old.path).close()
    found = find_drift(config, run)
    if strict:
        require_carriable(found)
    rows: list[Carried] = []
    for old in olds:
        rows += carry_into(old, config.target_path, found.changes.get(old.label, Change()))
    rows += carry_unions(olds, config.target_path)
    total = sum(c.total for c in rows)
    log.info("undo: %d rows written since the switch were carried into the old files", total)
    schema = tuple((label, what) for label, change in found.changes.items() for what in change.told)
    for label, what in schema:
        log.info("undo: %s: %s, as in the unified file", label, what)
    for what in found.refused:
        log.warning("undo: left in the unified file: %s", what)
    return CarriedBack(tuple(rows), schema, found.refused)


def find_drift(config: MigrationConfig, run: RunFolder) -> Drift:
    """What changed in the unified file's schema since the switch, and whose it is."""
    files_of_run = find_old_files(run)
    if not files_of_run.complete:
        return Drift()
    olds = [_read_old(old) for old in files_of_run.items]
    planned = _planned_numbers(run)
    return sources.look_at(
        config.target_path,
        lambda conn: drift.find_drift(olds, copy.read_objects(conn), _read_numbers(conn), planned),
    )


def require_carriable(found: Drift) -> None:
    """Return where every change of the schema belongs to one source.

    Raises:
        RollbackError: Says which does not, and the way out.
    """
    if found.refused:
        raise RollbackError(
            "the unified file's schema changed since the switch in a way that no old file can take: "
            + "; ".join(found.refused[:5]),
            hint="Nothing was changed. Do what is named there in the unified file, with `alembic downgrade` "
            "or by hand, then roll back again.",
        )


def _read_old(old: OldFile) -> OldSchema:
    with sources.reading(old.path) as conn:
        return OldSchema(
            label=old.label,
            kind=old.kind,
            places=old.place(conn),
            renames=tuple(r for r in old.layout.renames if r.source == old.label),
            numbers=_read_numbers(conn),
        )


def _read_numbers(conn: sqlite3.Connection) -> dict[str, int]:
    return {name: int(sqlite.pragma(conn, name)) for name in _NUMBERS}


def _planned_numbers(run: RunFolder) -> dict[str, int]:
    plan = run.load("plan", MigrationPlan)
    facts = plan.sources if plan else ()
    return {n: drift.choose_number([(s.kind, int(getattr(s, n))) for s in facts]) for n in _NUMBERS if facts}


def carry_into(old: OldFile, unified: Path, change: Change) -> list[Carried]:
    """Bring *old* up to what *unified* holds, united tables aside, and prove it; what was carried.

    Raises:
        RollbackError: *change*, or a row, cannot be carried; *old* is as it was.
        SourceError: As :func:`carry_back`.
    """
    try:
        return _carry_into(old, unified, change)
    except sqlite3.OperationalError as error:
        lacking = what_is_lacking(error)
        if lacking is None:
            raise
        raise RollbackError(
            f"rows cannot be carried into {old.label}: that needs {lacking}, which only the application has",
            hint="This old file is as it was, and nothing is lost: the rows are in the unified file.",
        ) from error


def _carry_into(old: OldFile, unified: Path, change: Change) -> list[Carried]:
    with sqlite.closing(sqlite.connect_writable(old.path)) as conn:
        compare.prepare(conn)
        # Rows may break a CHECK that was not there when they were written; they are carried as they are.
        conn.execute("PRAGMA ignore_check_constraints=ON")
        places = old.place(conn)
        remade = schema_changes.remade_tables(change)
        with sqlite.attached(conn, unified, "unified", frozen=False):
            there = set(sqlite.tables(conn, "unified")) - remade.keys()
            alone = [n for n in sqlite.tables(conn) if places.union_of(n) is None]
            names = {places.name(n): n for n in alone if places.name(n) in there}
            if _needs_task_path(conn, names):
                langgraph.upgrade_writes(conn)
            with sqlite.transaction(conn):
                carried = schema_changes.carry(conn, change)
                carried += changes.carry_all(conn, names, frm="unified")
            touched = {c.table for c in carried} - set(remade.values())
            equal = {ours: theirs for theirs, ours in names.items() if ours in touched}
            changes.require_equal(conn, equal, left="main", right="unified")
    files.fsync_file(old.path)
    return carried


def carry_unions(olds: Sequence[OldFile], unified: Path) -> list[Carried]:
    """Carry every united table back; what was carried.

    *olds* are all that have a part in one, and looked at together: a row may be in several.

    Raises:
        SourceError: As :func:`carry_back`.
    """
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
