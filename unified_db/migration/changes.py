"""Finds what differs between two states of the same tables, and carries it over.

Used forwards (late writes: source into unified file) and backwards (rollback: unified file into
old file). It looks at states, not at a log, so carrying twice is the same as carrying once.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, copy
from unified_db.migration.compare import WHOLE, Span
from unified_db.sqlite import Table, quote_name

_GONE, _CHANGED, _NEW = "unify_gone", "unify_changed", "unify_new"
# So many spans keep all cores busy to the end, and few rows are looked at again where few were written.
_SPANS = 32
_WORTH_SPLITTING = 1000


@dataclass(frozen=True)
class Carried:
    """How many rows of one table were carried."""

    table: str
    inserted: int
    updated: int
    deleted: int

    @property
    def total(self) -> int:
        """All rows touched."""
        return self.inserted + self.updated + self.deleted


def carry_all(
    conn: sqlite3.Connection,
    names: Mapping[str, str],
    *,
    frm: str,
    to: str = "main",
    differing: Mapping[str, Sequence[Span]] | None = None,
) -> list[Carried]:
    """Make tables in *to* equal to their state in *frm*; only what differs is touched.

    Args:
        conn: With both schemas.
        names: The tables' names in *to* by their names in *frm*.
        frm: The schema to carry from.
        to: The schema to carry into.
        differing: Where that is known already, the spans in which tables differ, by their names in *frm*.

    Must be called inside a transaction on *conn*, which :func:`compare.prepare` prepared, with
    `foreign_keys` off. Triggers do not fire and AUTOINCREMENT counters are carried too.

    Returns:
        The tables in which anything differed, under their names in *to*.
    """
    if differing is None:
        differing = {n: [WHOLE] for n in names if differs(conn, n, names[n], left=frm, right=to)}
    pending = [(_common(conn, n, frm, names[n], to), names[n], s) for n, s in differing.items() if s]
    carried: list[Carried] = []
    if pending:
        with without_triggers(conn, to):
            carried = [_apply(conn, table, (ours, frm, to), spans) for table, ours, spans in pending]
    _carry_sequences(conn, names, frm, to)
    return carried


def differs(
    conn: sqlite3.Connection, theirs: str, ours: str, *, left: str, right: str, span: Span = WHOLE
) -> bool:
    """True where the table called *theirs* in *left* is not the same as *ours* in *right*, in *span*."""
    table = _common(conn, theirs, left, ours, right)
    found = compare.find_differences(conn, table, left=left, right=right, right_name=ours, limit=1, span=span)
    return bool(found)


def have_one_key(conn: sqlite3.Connection, theirs: str, ours: str, *, frm: str, to: str = "main") -> bool:
    """True where rows of the table called *theirs* in *frm* and *ours* in *to* are addressed in one way."""
    new, old = sqlite.describe_table(conn, theirs, frm), sqlite.describe_table(conn, ours, to)
    return new.key == old.key and new.without_rowid == old.without_rowid


def count_changes(conn: sqlite3.Connection, theirs: str, ours: str, *, frm: str, to: str = "main") -> Carried:
    """How the rows of *theirs* in *frm* differ from *ours* in *to* in the columns that both have.

    Both must be addressed in one way, as :func:`have_one_key` tells; nothing is carried.
    """
    table = _common(conn, theirs, frm, ours, to)
    places = (_sql_name(frm, theirs), _sql_name(to, ours))
    counts = _list_keys(conn, table, places, [WHOLE])
    return Carried(ours, inserted=counts[_NEW], updated=counts[_CHANGED], deleted=counts[_GONE])


def _sql_name(schema: str, table: str) -> str:
    return f"{quote_name(schema)}.{quote_name(table)}"


def has_other_count(conn: sqlite3.Connection, theirs: str, ours: str, *, left: str, right: str) -> bool:
    """True where the table called *theirs* in *left* has not as many rows as *ours* in *right*.

    Counted along the smallest index there is: SQLite takes no row from a table and leaves it there.
    """
    return sqlite.count_rows(conn, theirs, left) != sqlite.count_rows(conn, ours, right)


def split(conn: sqlite3.Connection, name: str, schema: str) -> list[Span]:
    """Table *name* of *schema* in spans that can be compared one by one; together they are all its rows."""
    table = sqlite.describe_table(conn, name, schema)
    if table.rowid is None:
        return [WHOLE]
    rowid, place = quote_name(table.rowid), f"{quote_name(schema)}.{quote_name(name)}"
    # Each is one look-up; asked for together, all rows would be read.
    first, last = (conn.execute(f"SELECT {f}({rowid}) FROM {place}").fetchone()[0] for f in ("min", "max"))
    if first is None or last - first < _WORTH_SPLITTING:
        return [WHOLE]
    bounds = [None, *(first + (last - first) * n // _SPANS for n in range(1, _SPANS)), None]
    return [Span(one, other) for one, other in itertools.pairwise(bounds)]


def require_equal(conn: sqlite3.Connection, names: Mapping[str, str], *, left: str, right: str) -> None:
    """Return where tables are exactly the same in both schemas.

    Args:
        conn: With both schemas.
        names: The tables' names in *right* by their names in *left*.
        left: The one schema.
        right: The other.

    Raises:
        SourceError: Names the first difference.
    """
    for theirs, ours in names.items():
        table = _common(conn, theirs, left, ours, right)
        found = compare.find_differences(conn, table, left=left, right=right, right_name=ours, limit=1)
        if found:
            raise SourceError(
                f"{theirs} differs after its rows were carried: {found[0].kind} {found[0].place}",
                hint="The rows are still where they were; nothing was deleted.",
            )


def _common(conn: sqlite3.Connection, theirs: str, frm: str, ours: str, to: str) -> Table:
    """The table *theirs* with the columns that both sides store: one may lack LangGraph's newest."""
    here = sqlite.describe_table(conn, theirs, frm)
    there = set(sqlite.describe_table(conn, ours, to).writable)
    columns = tuple(c for c in here.columns if c.generated or c.name in there)
    return Table(here.name, columns, here.without_rowid, here.rowid, here.rowid_column)


def _apply(
    conn: sqlite3.Connection, table: Table, places: tuple[str, str, str], spans: Sequence[Span]
) -> Carried:
    ours, frm, to = places
    new, old = _sql_name(frm, table.name), _sql_name(to, ours)
    counts = _list_keys(conn, table, (new, old), spans)
    # All deletes come first, so that two rows may have swapped a unique value.
    for listed in filter(counts.get, (_GONE, _CHANGED)):
        conn.execute(f"DELETE FROM {old} WHERE {_is_listed(table, listed)}")
    columns = [quote_name(c) for c in table.writable]
    if table.rowid is not None and table.rowid_column is None:
        columns.insert(0, table.rowid)
    names = ", ".join(columns)
    for listed in filter(counts.get, (_CHANGED, _NEW)):
        listed_rows = f"SELECT {names} FROM {new} WHERE {_is_listed(table, listed)}"
        conn.execute(f"INSERT OR ABORT INTO {old} ({names}) {listed_rows}")
    return Carried(ours, inserted=counts[_NEW], updated=counts[_CHANGED], deleted=counts[_GONE])


def _is_listed(table: Table, listed: str) -> str:
    """SQL that is true for rows whose keys are in temp's *listed*; looked up, not searched for."""
    ours = ", ".join(f"{quote_name(k)}{table.collate(k)}" for k in table.key)
    keys = ", ".join(n for n, _ in _key_names(table))
    return f"({ours}) IN (SELECT {keys} FROM temp.{listed})"


def _key_names(table: Table) -> list[tuple[str, str]]:
    return [(f"k{place}", key) for place, key in enumerate(table.key)]


def _list_keys(
    conn: sqlite3.Connection, table: Table, places: tuple[str, str], spans: Sequence[Span]
) -> dict[str, int]:
    """Fill three temporary tables with the keys that are gone, changed and new; how many each has."""
    new, old = places
    first = quote_name(table.key[0])
    joined = compare.keys_equal(table, "f", "t")
    equal = compare.rows_equal(table.writable, "f", "t")
    chosen_new = ", ".join(f"f.{quote_name(k)} AS {n}" for n, k in _key_names(table))
    chosen_old = ", ".join(f"t.{quote_name(k)} AS {n}" for n, k in _key_names(table))
    for name, of, query in (
        (
            _GONE,
            "t",
            f"SELECT {chosen_old} FROM {old} t LEFT JOIN {new} f ON {joined} WHERE f.{first} IS NULL",
        ),
        (_CHANGED, "f", f"SELECT {chosen_new} FROM {new} f JOIN {old} t ON {joined} WHERE NOT ({equal})"),
        (
            _NEW,
            "f",
            f"SELECT {chosen_new} FROM {new} f LEFT JOIN {old} t ON {joined} WHERE t.{first} IS NULL",
        ),
    ):
        conn.execute(f"DROP TABLE IF EXISTS temp.{name}")
        for place, span in enumerate(spans):
            into = f"INSERT INTO temp.{name}" if place else f"CREATE TEMP TABLE {name} AS"
            conn.execute(f"{into} {query} AND {span.of(table, of)}")
    return {n: sqlite.count_rows(conn, n, "temp") for n in (_GONE, _CHANGED, _NEW)}


class without_triggers:  # noqa: N801 - reads as a clause: with without_triggers(...)
    """Drops all triggers of a schema and makes them again, within the caller's transaction.

    SQLite can switch triggers off per connection, but Python reaches that only from 3.12 on.
    """

    def __init__(self, conn: sqlite3.Connection, schema: str) -> None:
        self._conn = conn
        self._schema = schema
        self._triggers = [o for o in copy.read_objects(conn, schema) if o.kind == "trigger"]

    def __enter__(self) -> None:
        for trigger in self._triggers:
            self._conn.execute(f"DROP TRIGGER {quote_name(self._schema)}.{quote_name(trigger.name)}")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # After an error the caller rolls back, which brings them back by itself.
        if kind is None:
            copy.write_schema_rows(self._conn, self._triggers, schema=self._schema)


def _carry_sequences(conn: sqlite3.Connection, names: Mapping[str, str], frm: str, to: str) -> None:
    wanted, present = sqlite.sequences(conn, frm), sqlite.sequences(conn, to)
    if any(wanted.get(theirs) != present.get(ours) for theirs, ours in names.items()):
        copy.copy_sequences(conn, from_schema=frm, tables=names, to_schema=to)
