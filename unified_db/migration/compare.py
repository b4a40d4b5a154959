"""Exact comparison of tables in two attached databases: every cell, type and bytes.

What the obvious ways miss, and what is done about it: `=` and `EXCEPT` take 1 for 1.0 and, under
NOCASE, a for A (here `IS` under `COLLATE BINARY`, and `typeof` of numbers); `IS`, `typeof`, `quote` and `hex`
all take -0.0 for 0.0 (here zero reals are compared as bits).
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from unified_db.sqlite import Table, quote_name

_ZERO_BITS = "unify_zero_bits"


@dataclass(frozen=True)
class Difference:
    """One row that is not the same on both sides.

    Attributes:
        kind: missing (left only), extra (right only) or changed.
        place: "rowid 7", or a digest of the key where a row has no rowid; never a value.
        columns: The columns that differ, where the row is changed.
    """

    kind: str
    place: str
    columns: tuple[str, ...] = ()


def prepare(conn: sqlite3.Connection) -> None:
    """Give *conn* the function that tells -0.0 from 0.0; needed before any comparison."""
    conn.create_function(_ZERO_BITS, 1, lambda value: struct.pack(">d", value), deterministic=True)


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
        f"THEN {_ZERO_BITS}({a}) = {_ZERO_BITS}({b}) ELSE 1 END ELSE 0 END ELSE 1 END)"
    )


def rows_equal(columns: Sequence[str], left: str, right: str) -> str:
    """SQL that is true where all *columns* of two rows are the same."""
    return " AND ".join(cells_equal(c, left, right) for c in columns) or "1"


def keys_equal(table: Table, left: str, right: str) -> str:
    """SQL that joins a row to its counterpart by rowid or primary key."""
    return " AND ".join(f"{left}.{quote_name(k)} = {right}.{quote_name(k)}" for k in table.key)


def find_differences(
    conn: sqlite3.Connection,
    table: Table,
    *,
    left: str,
    right: str,
    right_name: str | None = None,
    limit: int = 10,
    one_way: bool = False,
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

    Returns:
        An empty list where both tables are exactly equal.

    Reads both tables once; the join goes along the rowid or the primary key of the right side.
    """
    a = f"{quote_name(left)}.{quote_name(table.name)}"
    b = f"{quote_name(right)}.{quote_name(right_name or table.name)}"
    found = _one_way(conn, table, a, b, limit)
    if len(found) < limit and not one_way:
        keys = ", ".join(f"b.{quote_name(k)}" for k in table.key)
        extra = conn.execute(
            f"SELECT {keys} FROM {b} b LEFT JOIN {a} a ON {keys_equal(table, 'a', 'b')} "
            f"WHERE a.{quote_name(table.key[0])} IS NULL LIMIT {limit - len(found)}"
        )
        found += [Difference("extra", place_of(table, row)) for row in extra]
    return found


def _one_way(conn: sqlite3.Connection, table: Table, a: str, b: str, limit: int) -> list[Difference]:
    keys = ", ".join(f"a.{quote_name(k)}" for k in table.key)
    missing = f"b.{quote_name(table.key[0])} IS NULL"
    flags = "".join(f", NOT {cells_equal(c, 'a', 'b')}" for c in table.writable)
    rows = conn.execute(
        f"SELECT {keys}, {missing}{flags} FROM {a} a LEFT JOIN {b} b ON {keys_equal(table, 'a', 'b')} "
        f"WHERE {missing} OR NOT ({rows_equal(table.writable, 'a', 'b')}) LIMIT {limit}"
    )
    width = len(table.key)
    return [_difference(table, row[:width], row[width], row[width + 1 :]) for row in rows]


def _difference(table: Table, key: Sequence[object], missing: int, flags: Sequence[int]) -> Difference:
    if missing:
        return Difference("missing", place_of(table, key))
    columns = tuple(c for c, differs in zip(table.writable, flags, strict=True) if differs)
    return Difference("changed", place_of(table, key), columns)


def place_of(table: Table, key: Sequence[object]) -> str:
    """Where a row is, for people: its rowid, or a digest of its key; never a value."""
    if table.rowid is not None:
        return f"rowid {key[0]}"
    digest = hashlib.sha256(repr(tuple(key)).encode("utf-8", "surrogateescape")).hexdigest()
    return f"key {digest[:12]}"
