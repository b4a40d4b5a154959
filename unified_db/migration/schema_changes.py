"""Gives an old file the schema that its objects have in the unified file now, with their rows.

Everything happens inside the caller's transaction and is proven there, so a kill leaves the old file as
it was: SQLite takes an unfinished transaction back at the next opening.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from unified_db import sqlite
from unified_db.errors import RollbackError
from unified_db.migration import changes, compare, copy
from unified_db.migration.changes import Carried
from unified_db.migration.drift import Change
from unified_db.migration.records import SchemaObject
from unified_db.migration.references import Key, key_of
from unified_db.sqlite import quote_name
from unified_db.standins import StandIns, missing_collations

_FROM = "unified"
_AS_IT_WAS = (
    "This old file is as it was, and nothing is lost: the rows are in the unified file. Take the change "
    "back there with `alembic downgrade` or by hand, then roll back again."
)


def remade_tables(change: Change) -> dict[str, str]:
    """The tables with rows that *change* brings: their names in the old file by those in the unified file."""
    return {
        new.name: ours.name for new, ours in change.come if new.kind == "table" and not copy.is_virtual(new)
    }


def carry(conn: sqlite3.Connection, change: Change) -> list[Carried]:
    """Make *change* in main, an old file, with rows, counters and statistics, and prove it.

    Must be called inside a transaction on *conn*, which :func:`compare.prepare` prepared, with the
    unified file attached as `unified`, and with `foreign_keys` off and `ignore_check_constraints` on.

    Returns:
        The tables in which rows differ from before; a column that is new or gone is no difference.

    Raises:
        RollbackError: SQLite does not make it here; the caller's transaction must be taken back.
    """
    others = _others(conn, change)
    tables = remade_tables(change)
    carried = [c for c in (_count(conn, *names) for names in tables.items()) if c.total]
    stand_ins = StandIns(conn)
    try:
        _remove(conn, change.gone)
        _make(stand_ins, [ours for _, ours in change.come], tables)
        lacking = stand_ins.needed
    except sqlite3.Error as error:
        # Of a function that was called SQLite says no more than that it raised something.
        why = f"it needs {stand_ins.needed}" if stand_ins.needed else str(error)
        raise _refuse(why) from error
    finally:
        stand_ins.remove()
    if lacking:
        raise _refuse(f"it needs {lacking}")
    for name, value in change.numbers.items():
        conn.execute(f"PRAGMA main.{name}={value}")
    _require_made(conn, change, others)
    _require_equal(conn, tables)
    return carried


def _count(conn: sqlite3.Connection, theirs: str, ours: str) -> Carried:
    """How the rows of a table that is remade differ from those that it has here; all are new in a new one."""
    if sqlite.has_table(conn, ours) and changes.have_one_key(conn, theirs, ours, frm=_FROM):
        return changes.count_changes(conn, theirs, ours, frm=_FROM)
    before = sqlite.count_rows(conn, ours) if sqlite.has_table(conn, ours) else 0
    return Carried(ours, inserted=sqlite.count_rows(conn, theirs, _FROM), updated=0, deleted=before)


def _remove(conn: sqlite3.Connection, gone: Sequence[SchemaObject]) -> None:
    as_text = [o for o in gone if o.kind in ("view", "trigger") or copy.is_virtual(o)]
    if as_text:
        # DROP would need the module of a virtual table, and would take its shadow tables along.
        with sqlite.writable_schema(conn):
            conn.executemany(
                "DELETE FROM main.sqlite_schema WHERE type = ? AND name = ?",
                [(o.kind, o.name) for o in as_text],
            )
    for kind in ("index", "table"):
        for item in (o for o in gone if o.kind == kind and o not in as_text):
            conn.execute(f"DROP {kind} IF EXISTS main.{quote_name(item.name)}")


def _make(stand_ins: StandIns, objects: Sequence[SchemaObject], tables: Mapping[str, str]) -> None:
    conn = stand_ins.connection
    copy.create_tables(stand_ins, objects)
    for theirs, ours in tables.items():
        stand_ins.lend_collations(missing_collations(conn, theirs, _FROM))
        copy.copy_rows(stand_ins, sqlite.describe_table(conn, theirs, _FROM), from_schema=_FROM, into=ours)
    copy.copy_sequences(conn, from_schema=_FROM, tables=tables)
    if any(sqlite.has_table(conn, s) for s in sqlite.STATISTICS):
        others = _tables_of_statistics(conn) - tables.keys()
        copy.copy_statistics(conn, from_schema=_FROM, renamed=tables, without=others)
    copy.create_the_rest(stand_ins, objects)


def _tables_of_statistics(conn: sqlite3.Connection) -> set[str]:
    there = [s for s in sqlite.STATISTICS if sqlite.has_table(conn, s, _FROM)]
    return {row[0] for s in there for row in conn.execute(f"SELECT DISTINCT tbl FROM {_FROM}.{s}")}


def _others(conn: sqlite3.Connection, change: Change) -> dict[Key, SchemaObject]:
    """The objects of main that *change* is not about."""
    touched = {key_of(o) for o in (*change.gone, *(ours for _, ours in change.come))}
    return {key_of(o): o for o in copy.read_objects(conn) if key_of(o) not in touched}


def _require_made(conn: sqlite3.Connection, change: Change, others: Mapping[Key, SchemaObject]) -> None:
    wanted = {**others, **{key_of(ours): ours for _, ours in change.come}}
    found = {key_of(o): o for o in copy.read_objects(conn)}
    wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if wrong:
        raise _refuse(f"{' '.join(wrong[0])} is not there as it is defined in the unified file")


def _require_equal(conn: sqlite3.Connection, tables: Mapping[str, str]) -> None:
    counters = sqlite.sequences(conn), sqlite.sequences(conn, _FROM)
    for theirs, ours in tables.items():
        table = sqlite.describe_table(conn, theirs, _FROM)
        found = compare.find_differences(conn, table, left=_FROM, right="main", right_name=ours, limit=1)
        if found:
            raise _refuse(f"{theirs} at {found[0].place} is {found[0].kind} after its rows were carried")
        if counters[0].get(ours) != counters[1].get(theirs):
            raise _refuse(f"the AUTOINCREMENT counter of {theirs} is another one")


def _refuse(why: str) -> RollbackError:
    return RollbackError(f"a change of the schema cannot be carried into an old file: {why}", hint=_AS_IT_WAS)
