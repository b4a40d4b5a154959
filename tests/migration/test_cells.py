"""Two cells are equal where their type and bits are, whatever affinity and collation a column has."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from unified_db import sqlite
from unified_db.migration import compare

VALUES = (
    None, 0, 0.0, -0.0, 1, 1.0, -1, -1.0,
    2**63 - 1, float(2**63), -(2**63), float(-(2**63)), 1e300, float("inf"), "",
     "1", "1.0", "a", "A", "a ", "a\0", "a\0\0", "é", b"", b"1", b"a", b"a\0",
)  # fmt: skip


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        compare.prepare(conn)
        yield conn


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("declared", ["", "TEXT", "TEXT COLLATE NOCASE", "INTEGER", "NUMERIC", "BLOB"])
@pytest.mark.parametrize("flaw", ["kept as they are", "of another affinity"])
def test_every_pair_of_values(conn: sqlite3.Connection, declared: str, flaw: str) -> None:
    """The second time values lie in columns that would have converted them, after a change of the schema."""
    first, later = (declared, declared) if flaw == "kept as they are" else ("", declared)
    pairs = [(a, b) for a in VALUES for b in VALUES]
    for name, side in (("l", 0), ("r", 1)):
        conn.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {first})")
        conn.executemany(f"INSERT INTO {name} VALUES (?, ?)", [(i, p[side]) for i, p in enumerate(pairs)])
    stored = conn.execute("SELECT l.v, r.v FROM l JOIN r USING (id) ORDER BY id").fetchall()
    conn.execute("PRAGMA writable_schema=ON")
    conn.execute(
        f"UPDATE sqlite_schema SET sql = 'CREATE TABLE ' || name || ' (id INTEGER PRIMARY KEY, v {later})'"
    )
    conn.execute("PRAGMA writable_schema=RESET")
    equal = compare.cells_equal("v", "l", "r")
    shown = conn.execute(f"SELECT {equal} FROM l JOIN r USING (id) ORDER BY id").fetchall()
    kept = conn.execute(f"SELECT l.id FROM l JOIN r USING (id) WHERE {equal}").fetchall()
    dropped = conn.execute(f"SELECT l.id FROM l JOIN r USING (id) WHERE NOT ({equal})").fetchall()
    wanted = [_same(a, b) for a, b in stored]
    assert [bool(x) for (x,) in shown] == wanted
    assert {i for (i,) in kept} == {i for i, same in enumerate(wanted) if same}
    assert len(kept) + len(dropped) == len(pairs)


def test_a_collation_that_this_process_lacks_is_not_asked(conn: sqlite3.Connection) -> None:
    for name in ("l", "r"):
        conn.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v)")
        conn.execute(f"INSERT INTO {name} VALUES (1, 'a'), (2, 5)")
    conn.execute("PRAGMA writable_schema=ON")
    conn.execute("UPDATE sqlite_schema SET sql = replace(sql, ', v', ', v TEXT COLLATE mine')")
    conn.execute("PRAGMA writable_schema=RESET")
    sql = f"SELECT count(*) FROM l JOIN r USING (id) WHERE {compare.cells_equal('v', 'l', 'r')}"
    assert conn.execute(sql).fetchone() == (2,)


def test_a_key_of_all_the_columns_that_a_table_may_have(conn: sqlite3.Connection) -> None:
    """Neither a row of a result nor an expression may be larger than SQLite allows; and the key is used."""
    names = ", ".join(f"c{n}" for n in range(60))
    conn.execute("ATTACH ':memory:' AS r")
    for schema, last in (("main", 1), ("r", 1.0)):
        conn.execute(f"CREATE TABLE {schema}.t ({names}, PRIMARY KEY ({names})) WITHOUT ROWID")
        conn.execute(f"INSERT INTO {schema}.t VALUES ({', '.join(['7'] * 59)}, {last})")
    conn.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, 60)
    conn.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 30)
    table = sqlite.describe_table(conn, "t")
    asked: list[str] = []
    conn.set_trace_callback(asked.append)
    (found,) = compare.find_differences(conn, table, left="main", right="r")
    conn.set_trace_callback(None)
    assert (found.kind, found.columns) == ("changed", ("c59",))
    (joined, *_) = [sql for sql in asked if "LEFT JOIN" in sql]
    steps = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {joined}")]
    assert any("SEARCH b USING PRIMARY KEY (c0=? AND" in step and "c59=?" in step for step in steps)
