"""Exact comparison of tables in two attached databases: every cell, type and bytes.

What the obvious ways miss, and what is done about it: `=` and `EXCEPT` take 1 for 1.0 and, under
NOCASE, a for A (here `IS` under `COLLATE BINARY`, and `typeof` of numbers); `IS`, `typeof`, `quote`
and `hex` all take -0.0 for 0.0 (here zero reals are compared as bits); a column's affinity turns text
into a number before it compares (here a `+` takes the affinity away); a covering index answers for its
table, so that a damaged row is never read (here the table itself is named as what to read).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.sqlite import Table, quote_name
from unified_db.standins import StandIns, missing_collations

_REAL_BITS = "unify_real_bits"
# Keys are values, and few values are possible for many a key: without a secret, anybody could hash
# them all and look. The rank that is named beside the digest finds the row in the backup.
_SALT = secrets.token_bytes(32)


@dataclass(frozen=True)
class Difference:
    """One row that is not the same on both sides.

    Attributes:
        kind: missing (left only), extra (right only) or changed.
        place: "rowid 7", or a digest of the key with its rank where a row has no rowid; never a value.
        columns: The columns that differ, where the row is changed.
    """

    kind: str
    place: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """The rows of a table whose rowid is at least *first* and less than *end*; None for no such bound."""

    first: int | None = None
    end: int | None = None

    def of(self, table: Table, alias: str) -> str:
        """SQL that is true for rows of *table*, called *alias*, in the span."""
        if table.rowid is None:
            return "1"
        rowid = f"{alias}.{quote_name(table.rowid)}"
        low = f"{rowid} >= {self.first}" if self.first is not None else "1"
        return low + (f" AND {rowid} < {self.end}" if self.end is not None else "")


WHOLE = Span()


@dataclass(frozen=True)
class _Side:
    """A table to read the rows of, and not those of an index that covers it."""

    source: str
    how: str

    def named(self, alias: str) -> str:
        return f"{self.source} {alias} {self.how}"


def prepare(conn: sqlite3.Connection) -> None:
    """Give *conn* the function that tells -0.0 from 0.0; needed before any comparison."""
    conn.create_function(_REAL_BITS, 1, _real_bits, deterministic=True)


def _real_bits(value: object) -> bytes | None:
    return struct.pack(">d", value) if isinstance(value, float) else None


def cells_equal(column: str, left: str, right: str) -> str:
    """SQL that is true where a column of two rows holds the same type and the same bytes.

    `IS` alone is exact but for numbers, so only for those (they sort before all text) is more asked.
    Function calls are what such a comparison spends its time on, and `AND` outside of a WHERE
    evaluates both its sides; nested `CASE` does not.
    """
    # The plus signs take a column's affinity away, under which '5' would equal 5.
    a, b = f"+{left}.{quote_name(column)}", f"+{right}.{quote_name(column)}"
    return (
        f"({a} COLLATE BINARY IS {b} AND "
        f"CASE WHEN {a} COLLATE BINARY < '' THEN CASE typeof({a}) WHEN typeof({b}) THEN "
        f"CASE WHEN {a} COLLATE BINARY IS NOT 0 THEN 1 WHEN typeof({a}) = 'real' "
        f"THEN {_REAL_BITS}({a}) = {_REAL_BITS}({b}) ELSE 1 END ELSE 0 END ELSE 1 END)"
    )


def rows_equal(columns: Sequence[str], left: str, right: str) -> str:
    """SQL that is true where all *columns* of two rows are the same."""
    return balanced([cells_equal(c, left, right) for c in columns], "AND") or "1"


def balanced(terms: Sequence[str], operator: str) -> str:
    """SQL *terms* joined as a balanced tree: a chain of 1,000 is deeper than SQLite parses."""
    if len(terms) <= 1:
        return "".join(terms)
    half = len(terms) // 2
    return f"({balanced(terms[:half], operator)} {operator} {balanced(terms[half:], operator)})"


def keys_equal(table: Table, left: str, right: str) -> str:
    """SQL that joins a row to its counterpart by rowid or primary key."""
    terms = [f"{left}.{quote_name(k)} = {right}.{quote_name(k)}{table.collate(k)}" for k in table.key]
    return balanced(terms, "AND")


def find_differences(
    conn: sqlite3.Connection,
    table: Table,
    *,
    left: str,
    right: str,
    right_name: str | None = None,
    limit: int = 10,
    one_way: bool = False,
    span: Span = WHOLE,
) -> list[Difference]:
    """The first differences between *table* in schemas *left* and *right*, both directions.

    Args:
        conn: Prepared by :func:`prepare`, with both schemas attached.
        table: As described on the left; its stored columns are compared by name.
        left: Schema of the one side.
        right: Schema of the other side.
        right_name: The table's name on the right where it differs.
        limit: How many to list at the most.
        one_way: Leave aside what the right side has beyond the left.
        span: The rows to compare; all of them in a table without rowids.

    Returns:
        An empty list where both tables are exactly equal.

    Reads both tables once; the join goes along the rowid or the primary key of the right side. A
    table that lies in the order of a collation which only the application has cannot be joined;
    both sides are then read as they lie, which is the same order where the rows are the same.
    """
    right_name = right_name or table.name
    lacking = missing_collations(conn, table.name, left) if table.without_rowid else []
    if lacking:
        found = _walk(conn, table, (left, table.name), (right, right_name), limit, lacking)
        return [d for d in found if d.kind != "extra" or not one_way]
    a, b = _side(conn, table, left, table.name), _side(conn, table, right, right_name)
    found = _one_way(conn, table, (a, b), limit, span)
    # Where every row on the left has its own on the right, and both have as many, none is extra.
    if (
        len(found) < limit
        and not one_way
        and (found or _count(conn, table, a, span) != _count(conn, table, b, span))
    ):
        found += _extra(conn, table, (a, b), limit - len(found), span)
    return found


def count_rows(conn: sqlite3.Connection, table: Table, schema: str, name: str) -> int:
    """The number of rows of *table*, called *name* in *schema*; of the table itself, not of an index."""
    return _count(conn, table, _side(conn, table, schema, name), WHOLE)


def _count(conn: sqlite3.Connection, table: Table, side: _Side, span: Span) -> int:
    sql = f"SELECT count(*) FROM {side.named('t')} WHERE {span.of(table, 't')}"
    return int(conn.execute(sql).fetchone()[0])


def _side(conn: sqlite3.Connection, table: Table, schema: str, name: str) -> _Side:
    source = f"{quote_name(schema)}.{quote_name(name)}"
    if not table.without_rowid:
        return _Side(source, "NOT INDEXED")
    key = sqlite.key_without_rowid(conn, name, schema)
    if key is None:
        # A view, or a table that is addressed by one of its unique keys: it needs that index.
        return _Side(source, "")
    return _Side(source, f"INDEXED BY {quote_name(key[0])}")


def _one_way(
    conn: sqlite3.Connection, table: Table, sides: tuple[_Side, _Side], limit: int, span: Span
) -> list[Difference]:
    a, b = sides[0].named("a"), sides[1].named("b")
    keys = ", ".join(f"a.{quote_name(k)}" for k in table.key)
    missing = f"b.{quote_name(table.key[0])} IS NULL"
    # One text of 0 and 1 instead of a column each: a row of a result has no more columns than a table.
    # It begins with an empty text, since a single flag would be a number.
    flags = balanced(["''", *(f"(NOT {cells_equal(c, 'a', 'b')})" for c in table.stored)], "||")
    differs = f"({missing} OR NOT {rows_equal(table.stored, 'a', 'b')})"
    where = (
        f"FROM {a} LEFT JOIN {b} ON {keys_equal(table, 'a', 'b')} "
        f"WHERE {span.of(table, 'a')} AND {differs} LIMIT {limit}"
    )
    found = conn.execute(f"SELECT {keys} {where}").fetchall()
    # Asked for by itself: beside a key of all the columns that a table may have is no room.
    details = conn.execute(f"SELECT {missing}, {flags} {where}").fetchall() if found else []
    return [
        Difference("missing", _ranked_place(conn, table, sides[0], key))
        if is_missing
        else Difference("changed", _ranked_place(conn, table, sides[0], key), _flagged(table, flagged))
        for key, (is_missing, flagged) in zip(found, details, strict=True)
    ]


def _flagged(table: Table, flags: str) -> tuple[str, ...]:
    return tuple(c for c, flag in zip(table.stored, flags, strict=True) if flag == "1")


def _extra(
    conn: sqlite3.Connection, table: Table, sides: tuple[_Side, _Side], limit: int, span: Span
) -> list[Difference]:
    a, b = sides[0].named("a"), sides[1].named("b")
    keys = ", ".join(f"b.{quote_name(k)}" for k in table.key)
    rows = conn.execute(
        f"SELECT {keys} FROM {b} LEFT JOIN {a} ON {keys_equal(table, 'a', 'b')} "
        f"WHERE {span.of(table, 'b')} AND a.{quote_name(table.key[0])} IS NULL LIMIT {limit}"
    ).fetchall()
    return [Difference("extra", _ranked_place(conn, table, sides[1], row)) for row in rows]


def place_of(table: Table, key: Sequence[object]) -> str:
    """Where a row is, for people: its rowid, or a digest of its key; never a value."""
    if table.rowid is not None:
        return f"rowid {key[0]}"
    digest = hmac.new(_SALT, repr(tuple(key)).encode("utf-8", "surrogateescape"), hashlib.sha256)
    return f"key {digest.hexdigest()[:12]}"


def _ranked_place(conn: sqlite3.Connection, table: Table, side: _Side, key: Sequence[object]) -> str:
    place = place_of(table, key)
    return place if table.rowid is not None else place + _rank(conn, table, side, key)


def _rank(conn: sqlite3.Connection, table: Table, side: _Side, key: Sequence[object]) -> str:
    keys = ", ".join(f"r.{quote_name(k)}" for k in table.key)
    marks = ", ".join("?" for _ in table.key)
    sql = f"SELECT count(*) FROM {side.named('r')} WHERE ({keys}) < ({marks})"
    try:
        (before,) = conn.execute(sql, tuple(key)).fetchone()
    except UnicodeEncodeError:
        # Text that is no UTF-8 can be read here, but not bound.
        return ""
    return f" (number {before + 1:,} in the order of the key)"


def _walk(
    conn: sqlite3.Connection,
    table: Table,
    left: tuple[str, str],
    right: tuple[str, str],
    limit: int,
    lacking: Sequence[str],
) -> list[Difference]:
    stand_ins = StandIns(conn)
    stand_ins.lend_collations(lacking)
    try:
        pairs = itertools.zip_longest(_as_it_lies(conn, table, left), _as_it_lies(conn, table, right))
        found = (_pair_difference(table, n, a, b) for n, (a, b) in enumerate(pairs, 1))
        return list(itertools.islice((d for d in found if d), limit))
    finally:
        stand_ins.remove()


def _as_it_lies(conn: sqlite3.Connection, table: Table, side: tuple[str, str]) -> Iterable[Sequence[object]]:
    # Every cell comes with its type: text and blobs are told apart by that, never by their bytes.
    columns = [f"CAST({quote_name(c)} AS BLOB), typeof({quote_name(c)})" for c in table.stored]
    reals = [f"{_REAL_BITS}({quote_name(c)})" for c in table.stored]
    source = _side(conn, table, *side).named("t")
    return conn.execute(f"SELECT {', '.join(columns + reals)} FROM {source}")


def _pair_difference(
    table: Table, number: int, a: Sequence[object] | None, b: Sequence[object] | None
) -> Difference | None:
    if a == b:
        return None
    place = f"row number {number:,} as the rows lie"
    if a is None or b is None:
        return Difference("extra" if a is None else "missing", place)
    width = len(table.stored)
    columns = tuple(
        c
        for i, c in enumerate(table.stored)
        if a[2 * i : 2 * i + 2] != b[2 * i : 2 * i + 2] or a[2 * width + i] != b[2 * width + i]
    )
    return Difference("changed", place, columns)
