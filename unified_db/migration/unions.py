"""One table for the rows of several sources: united, proven, brought up to date and taken apart again.

In a united table a row is known by its key: the primary key, or a unique one without NULL. Equal
rows under one key are stored once, and different rows under one key are refused. The rules that
merge, cut-over and way back share:

* The united table holds exactly the rows that at least one source holds, each as that source has it.
* A row that was changed or deleted in the united file is so in every source that had it.
* A row that no source had goes to the union's home.

All of it compares states, never a log, so doing it twice is doing it once.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unified_db import causes, sqlite
from unified_db.errors import SourceError, UsageError
from unified_db.migration import changes, compare, copy, definitions, langgraph
from unified_db.migration.layout import Placed, SourceLayout
from unified_db.migration.records import Layout, Union
from unified_db.sqlite import Table, fold, quote_name

ROWS, KEYS = "unify_rows", "unify_keys"
_MOST_PLACES = 5
_HINT = "Nothing was written."


@dataclass(frozen=True)
class Part:
    """The rows that one source has in a united table.

    Attributes:
        label: The source.
        path: The file to read.
        table: The table's name there.
        frozen: True for a file that nobody writes.
    """

    label: str
    path: Path
    table: str
    frozen: bool = True


def parts_of(
    union: Union, places: Sequence[SourceLayout], paths: dict[str, Path], *, frozen: bool = True
) -> list[Part]:
    """The parts of *union*, its home first, then in the order of *places*."""
    found = [
        Part(source.label, paths[source.label], item.original.name, frozen)
        for source in places
        for item in source.placed
        if item.union == union and item.unified.kind == "table"
    ]
    return sorted(found, key=lambda part: part.label != union.home)


# ---- by definition -------------------------------------------------------------------------------


def require_agreement(places: Sequence[SourceLayout], layout: Layout) -> None:
    """Return where every union of *layout* can be one table, as far as definitions tell.

    Raises:
        UsageError: No such table in its home, or in no second source.
        SourceError: Definitions, unique indexes or triggers differ, or there is no key.
    """
    for union in layout.unions:
        owners = [
            (source, item)
            for source in places
            for item in source.placed
            if item.union == union and fold(item.unified.name) == fold(union.table)
        ]
        _require_tables(union, owners)
        _require_same_definition(union, owners)
        _require_same_dependents(union, [source for source, _ in owners])


def _require_tables(union: Union, owners: Sequence[tuple[SourceLayout, Placed]]) -> None:
    labels = [source.label for source, _ in owners]
    if union.home not in labels or len(labels) < 2:
        have = " and ".join(labels) if labels else "no source"
        raise UsageError(
            f"the union of {union.table} with its home in {union.home} needs that table in {union.home} "
            f"and in another source; {have} has it",
            hint=f"{_HINT} Correct this union.",
        )
    for source, item in owners:
        if item.unified.kind != "table" or copy.is_virtual(item.unified):
            raise UsageError(
                f"{union.table} of {source.label} is no ordinary table, so it cannot be united",
                hint=f"{_HINT} Rename it in one of the sources.",
            )


def _require_same_definition(union: Union, owners: Sequence[tuple[SourceLayout, Placed]]) -> None:
    texts = {source.label: langgraph.upgraded_sql(item.unified) for source, item in owners}
    home = texts[union.home]
    for label, text in texts.items():
        if not definitions.agree(home, text):
            raise SourceError(
                f"the definitions of {union.table} do not agree:\n"
                f"  {union.home}: {definitions.shorten(home)}\n  {label}: {definitions.shorten(text)}",
                hint=f"{_HINT} Rename the table in one of the sources, or bring both to one definition.",
            )


def _require_same_dependents(union: Union, owners: Sequence[SourceLayout]) -> None:
    """Unique indexes and triggers hold for all rows, so no source may bring one that another lacks."""
    found = {source.label: _binding(source, union) for source in owners}
    home = found[union.home]
    for label, theirs in found.items():
        differing = sorted(set(home) ^ set(theirs))
        if differing:
            name = differing[0]
            raise SourceError(
                f"the {(home | theirs)[name]} {name} on {union.table} is not in both {union.home} and "
                f"{label}, and it would hold for the rows of all",
                hint=f"{_HINT} Rename the table in one of the sources, or bring both to one definition.",
            )


def _binding(source: SourceLayout, union: Union) -> dict[str, str]:
    """Triggers and unique indexes on the united table, by name, with what they are."""
    items = [p.unified for p in source.placed if p.union == union and p.unified.kind != "table"]
    bound: dict[str, str] = {}
    for item in items:
        unique = next((t for t in definitions.read_tokens(item.sql or "") if t.normal == "unique"), None)
        if item.kind == "trigger" or (unique is not None and unique.start < len("CREATE UNIQUE")):
            bound[fold(item.name)] = "trigger" if item.kind == "trigger" else "unique index"
    return bound


# ---- by rows -------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading_part(conn: sqlite3.Connection, part: Part, columns: Sequence[str]) -> Iterator[None]:
    """The rows of *part* as the view `temp.unify_rows` with *columns*, for the length of the block.

    A column that the part lacks is LangGraph's own upgrade, so it holds what that gives: ''.
    """
    with (
        sqlite.attached(conn, part.path, "part", frozen=part.frozen),
        viewing(conn, part.table, "part", columns),
    ):
        yield


@contextlib.contextmanager
def viewing(conn: sqlite3.Connection, table: str, schema: str, columns: Sequence[str]) -> Iterator[None]:
    """*table* of *schema* as the view `temp.unify_rows`; see :func:`reading_part`."""
    here = {fold(c) for c in sqlite.describe_table(conn, table, schema).writable}
    chosen = ", ".join(quote_name(c) if fold(c) in here else f"'' AS {quote_name(c)}" for c in columns)
    conn.execute(f"CREATE TEMP VIEW {ROWS} AS SELECT {chosen} FROM {quote_name(schema)}.{quote_name(table)}")
    try:
        yield
    finally:
        conn.execute(f"DROP VIEW temp.{ROWS}")


def by_key(conn: sqlite3.Connection, name: str, schema: str = "main") -> Table:
    """Table *name* as one whose rows are addressed by its first key without NULL, never by rowid.

    Raises:
        SourceError: It has no such key.
    """
    table = sqlite.describe_table(conn, name, schema)
    place = f"{quote_name(schema)}.{quote_name(name)}"
    for key in _unique_keys(conn, table, schema):
        is_null = compare.balanced([f"{quote_name(c)} IS NULL" for c in key], "OR")
        if conn.execute(f"SELECT 1 FROM {place} WHERE {is_null} LIMIT 1").fetchone() is None:
            numbers = {c: number for number, c in enumerate(key, 1)}
            columns = tuple(
                replace(c, pk=numbers.get(c.name, 0), collation=key.get(c.name, ""))
                for c in table.columns
                if not c.generated
            )
            return Table(name, columns, without_rowid=True, rowid=None, rowid_column=None)
    raise SourceError(
        f"{name} cannot be united: it has no primary key and no unique key without NULL, "
        "so nothing tells which rows are the same",
        hint=f"{_HINT} Rename the table in one of the sources.",
    )


def _unique_keys(conn: sqlite3.Connection, table: Table, schema: str) -> list[dict[str, str]]:
    """The primary key and every whole unique index, in that order: columns with their collations."""
    keys: list[dict[str, str]] = [{table.rowid_column: ""}] if table.rowid_column else []
    indexes = conn.execute(
        'SELECT name FROM pragma_index_list(?, ?) WHERE "unique" AND NOT partial '
        "ORDER BY origin <> 'pk', seq DESC",
        (table.name, schema),
    ).fetchall()
    for (index,) in indexes:
        sql = "SELECT name, coll FROM pragma_index_xinfo(?, ?) WHERE key ORDER BY seqno"
        columns = sqlite.collations_of(conn.execute(sql, (index, schema)))
        # NULL stands for an expression.
        if None not in columns and columns not in keys:
            keys.append(columns)
    return keys


def _named(table: Table) -> Table:
    """*table* as the view of a part's rows has it."""
    return replace(table, name=ROWS)


def add_part(conn: sqlite3.Connection, union: Union, part: Part) -> int:
    """Add to the united table in main the rows of *part* that it does not hold yet; how many.

    Must be called in autocommit. Triggers do not fire.

    Raises:
        SourceError: Different rows under one key, or the rows of *part* break a unique index.
    """
    table = by_key(conn, union.table)
    with reading_part(conn, part, table.writable):
        _require_no_null_keys(conn, table, part)
        _require_no_conflicts(conn, union, table, part)
        if fold(union.table) == "alembic_version":
            _require_same_history(conn, union, table, part)
        own = sqlite.sequences(conn).get(union.table)
        with sqlite.transaction(conn), changes.without_triggers(conn, "main"):
            try:
                added = insert_new(conn, table, f"main.{quote_name(union.table)}")
            except sqlite3.IntegrityError as error:
                raise _conflict(union, part, f"a unique index refuses a row of it ({error})") from error
            except sqlite3.Error as error:
                if not causes.is_of_content(error):
                    raise
                raise _conflict(union, part, _why_not_inserted(conn, part, error)) from error
        raise_counter(conn, union, part, own)
    return added


def _why_not_inserted(conn: sqlite3.Connection, part: Part, error: sqlite3.Error) -> str:
    failing = copy.failing_columns(conn, sqlite.describe_table(conn, part.table, "part"), "part")
    return f"a row of it cannot be inserted{copy.name_failing(failing)}: {error}"


def _require_no_null_keys(conn: sqlite3.Connection, table: Table, part: Part) -> None:
    is_null = compare.balanced([f"{quote_name(c)} IS NULL" for c in table.key], "OR")
    if conn.execute(f"SELECT 1 FROM temp.{ROWS} WHERE {is_null} LIMIT 1").fetchone():
        raise SourceError(
            f"{part.table} of {part.label} cannot be united: its key {', '.join(table.key)} is NULL in a row",
            hint=f"{_HINT} Rename the table in one of the sources, or give the row a key.",
        )


def _require_no_conflicts(conn: sqlite3.Connection, union: Union, table: Table, part: Part) -> None:
    found = find_conflicts(conn, table, union.table)
    if found:
        count, places = found
        raise _conflict(union, part, f"{count:,} keys have another row there: {', '.join(places)}")


def find_conflicts(conn: sqlite3.Connection, table: Table, ours: str) -> tuple[int, list[str]] | None:
    """How many rows of the part that is read differ from main's *ours* under their key, and the first."""
    joined = (
        f"FROM temp.{ROWS} f JOIN main.{quote_name(ours)} t ON {compare.keys_equal(table, 'f', 't')} "
        f"WHERE NOT ({compare.rows_equal(table.writable, 'f', 't')})"
    )
    count = int(conn.execute(f"SELECT count(*) {joined}").fetchone()[0])
    if not count:
        return None
    keys = ", ".join(f"f.{quote_name(k)}" for k in table.key)
    rows = conn.execute(f"SELECT {keys} {joined} LIMIT {_MOST_PLACES}")
    return count, [compare.place_of(table, row) for row in rows]


def _require_same_history(conn: sqlite3.Connection, union: Union, table: Table, part: Part) -> None:
    ours = f"main.{quote_name(union.table)}"
    for one, other in ((f"temp.{ROWS}", ours), (ours, f"temp.{ROWS}")):
        same = compare.keys_equal(table, "a", "b")
        sql = f"SELECT 1 FROM {one} a WHERE NOT EXISTS (SELECT 1 FROM {other} b WHERE {same})"
        if conn.execute(sql).fetchone():
            raise SourceError(
                f"{union.table} of {part.label} and of {union.home} name different revisions, "
                "and one version table cannot follow two histories",
                hint=f"{_HINT} Rename {part.label}'s, and tell its env.py with version_table=...",
            )


def _conflict(union: Union, part: Part, what: str) -> SourceError:
    return SourceError(
        f"{part.table} of {part.label} cannot be united with {union.table} of the others: {what}",
        hint=f"{_HINT} Mend these rows in one of the sources, or rename the table there.",
    )


def insert_new(conn: sqlite3.Connection, table: Table, into: str) -> int:
    """Insert into the SQL name *into* the rows of the part that is read whose keys it lacks; how many."""
    names = ", ".join(quote_name(c) for c in table.writable)
    order = ", ".join(quote_name(k) for k in table.key)
    return conn.execute(
        f"INSERT OR ABORT INTO {into} ({names}) SELECT {names} FROM temp.{ROWS} f WHERE NOT EXISTS "
        f"(SELECT 1 FROM {into} t WHERE {compare.keys_equal(table, 'f', 't')}) ORDER BY {order}"
    ).rowcount


def raise_counter(conn: sqlite3.Connection, union: Union, part: Part, own: int | None) -> None:
    """Give the united table the higher of two AUTOINCREMENT counters, as they were before rows were inserted.

    Inserting raises a counter to the highest rowid, which the counters of the sources may lie below.

    Args:
        conn: With the part that is read.
        union: The table.
        part: That part, which has one of the counters or none.
        own: The counter that the table had itself.
    """
    counters = [c for c in (own, sqlite.sequences(conn, "part").get(part.table)) if c is not None]
    set_counter(conn, union.table, max(counters, default=None))


def set_counter(conn: sqlite3.Connection, table: str, value: int | None) -> None:
    """Set the AUTOINCREMENT counter of main's *table*; with None it has none."""
    if value is not None or sqlite.has_table(conn, "sqlite_sequence"):
        conn.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (table,))
    if value is not None:
        conn.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, value))


# ---- the proof -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """What comparing a united table with its parts found.

    Attributes:
        rows: Rows of the united table.
        counts: Rows of each part, by its label.
        wrong: What of each part, by its label, of it is lost or changed there.
        strangers: Rows of the united table that no part has.
        counter: The AUTOINCREMENT counter as it is, and as it has to be.
    """

    rows: int
    counts: dict[str, int]
    wrong: dict[str, list[str]]
    strangers: int
    counter: tuple[int | None, int | None]


def prove(
    conn: sqlite3.Connection, union: Union, parts: Sequence[Part], *, limit: int = 5, rowids: bool = True
) -> Proof:
    """Compare the united table in main with all its *parts*: every row, both ways, by key.

    With *rowids*, which hold until rows are written late, those of the home are compared too.
    """
    table = by_key(conn, union.table)
    counts: dict[str, int] = {}
    wrong: dict[str, list[str]] = {}
    counters: list[int] = []
    for part in parts:
        with reading_part(conn, part, table.writable):
            found = compare.find_differences(
                conn,
                _named(table),
                left="temp",
                right="main",
                right_name=union.table,
                limit=limit,
                one_way=True,
            )
            wrong[part.label] = [f"{d.kind} {d.place}" + _in_columns(d.columns) for d in found]
            if rowids and part.label == union.home:
                wrong[part.label] += _moved_rowids(conn, union, part, limit)
            counts[part.label] = sqlite.count_rows(conn, ROWS, "temp")
            counters += [v for k, v in sqlite.sequences(conn, "part").items() if k == part.table]
    return Proof(
        rows=sqlite.count_rows(conn, union.table),
        counts=counts,
        wrong=wrong,
        strangers=list_strangers(conn, table, f"main.{quote_name(union.table)}", parts),
        counter=(sqlite.sequences(conn).get(union.table), max(counters, default=None)),
    )


def _in_columns(columns: Sequence[str]) -> str:
    return f" ({', '.join(columns)})" if columns else ""


def _moved_rowids(conn: sqlite3.Connection, union: Union, part: Part, limit: int) -> list[str]:
    """The home's rows keep their rowids; those that do not."""
    table = sqlite.describe_table(conn, part.table, "part")
    if table.rowid is None:
        return []
    ours = set(sqlite.describe_table(conn, union.table).writable)
    columns = tuple(c for c in table.columns if c.generated or c.name in ours)
    found = compare.find_differences(
        conn,
        replace(table, columns=columns),
        left="part",
        right="main",
        right_name=union.table,
        limit=limit,
        one_way=True,
    )
    return [f"{d.kind} {d.place}" for d in found]


def list_strangers(conn: sqlite3.Connection, table: Table, place: str, parts: Sequence[Part]) -> int:
    """Fill `temp.unify_keys` with the keys of *table* that no part has; how many there are.

    Args:
        conn: In autocommit.
        table: As :func:`by_key` describes it.
        place: The SQL name of the united table.
        parts: The sources that have a part in it.
    """
    names = ", ".join(f"{quote_name(k)} AS k{n}" for n, k in enumerate(table.key))
    conn.execute(f"DROP TABLE IF EXISTS temp.{KEYS}")
    conn.execute(f"CREATE TEMP TABLE {KEYS} AS SELECT {names} FROM {place}")
    listed = ", ".join(f"k{n}" for n, _ in enumerate(table.key))
    conn.execute(f"CREATE INDEX temp.{KEYS}_key ON {KEYS} ({listed})")
    for part in parts:
        with reading_part(conn, part, table.writable):
            drop_listed(conn, table)
    return sqlite.count_rows(conn, KEYS, "temp")


def drop_listed(conn: sqlite3.Connection, table: Table) -> None:
    """Take those keys out of `temp.unify_keys` that the part that is read has."""
    conn.execute(
        f"DELETE FROM temp.{KEYS} WHERE EXISTS (SELECT 1 FROM temp.{ROWS} f WHERE {is_listed(table, 'f')})"
    )


def is_listed(table: Table, alias: str) -> str:
    """SQL that is true where the row *alias* has the key of a row of `temp.unify_keys`."""
    terms = [f"{alias}.{quote_name(k)} = {KEYS}.k{n}{table.collate(k)}" for n, k in enumerate(table.key)]
    return compare.balanced(terms, "AND")
