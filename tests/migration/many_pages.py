"""A database whose tables have pages of every kind, and changes of every kind to it."""

from __future__ import annotations

import random
import sqlite3

TABLES = """
CREATE TABLE t (k INTEGER PRIMARY KEY, v, u UNIQUE);
CREATE TABLE large (name TEXT, body BLOB);
CREATE INDEX by_name ON large (name);
CREATE TABLE sequence (k INTEGER PRIMARY KEY AUTOINCREMENT, v);
CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
"""
WITH_ROWIDS = ("t", "large", "sequence")
_FAR = 1 << 60
_ENDS = (-(1 << 63), (1 << 63) - 1)

Rows = dict[str, dict[int, tuple[object, ...]]]


def rows(conn: sqlite3.Connection) -> Rows:
    return {n: {r: rest for r, *rest in conn.execute(f"SELECT rowid, * FROM {n}")} for n in WITH_ROWIDS}


def fill(conn: sqlite3.Connection, chance: random.Random, count: int) -> None:
    conn.execute("BEGIN")
    for number in range(count):
        conn.execute(
            "INSERT INTO t (k, v, u) VALUES (?, ?, ?)", (number * 7, "x" * chance.randrange(90), number)
        )
        conn.execute(
            "INSERT INTO large VALUES (?, ?)",
            (f"n{number}", chance.randbytes(chance.choice([9, 300, 6000, 30000]))),
        )
        conn.execute("INSERT INTO sequence (v) VALUES (?)", (number,))
        conn.execute("INSERT INTO keyed VALUES (?, ?)", (f"k{number}", number))
    conn.execute("COMMIT")


def act(conn: sqlite3.Connection, chance: random.Random) -> None:
    """One change of some kind somewhere."""
    kind, name = chance.randrange(9), chance.choice(WITH_ROWIDS)
    column = {"t": "v", "large": "body", "sequence": "v"}[name]
    there = [k for (k,) in conn.execute(f"SELECT rowid FROM {name}")]
    some = chance.sample(there, min(len(there), chance.randrange(1, 4)))
    content = chance.randbytes(chance.choice([0, 20, 1000, 5000, 50000]))
    if kind <= 1:
        conn.execute(f"INSERT INTO {name} ({column}) VALUES (?)", (content,))
    elif kind == 2:
        taken = chance.choice([-_FAR, _FAR, chance.randrange(-50, 8000), *_ENDS[: 2 * (name != "sequence")]])
        conn.execute(f"INSERT OR REPLACE INTO {name} (rowid, {column}) VALUES (?, ?)", (taken, content))
    elif kind == 3:
        conn.executemany(f"UPDATE {name} SET {column} = ? WHERE rowid = ?", [(content, k) for k in some])
    elif kind == 4:
        # As long as before and the same at the beginning, so that only the end of a chain is written.
        ended = f"CAST(substr({column}, 1, length({column}) - 5) || ? AS BLOB)"
        sql = f"UPDATE {name} SET {column} = {ended} WHERE rowid = ?"
        conn.executemany(sql, [(chance.randbytes(5), k) for k in some])
    elif kind == 5:
        conn.executemany(f"DELETE FROM {name} WHERE rowid = ?", [(k,) for k in some])
    elif kind == 6:
        first = chance.choice(there) if there else 0
        last = min(first + chance.randrange(900), _ENDS[1])
        conn.execute(f"DELETE FROM {name} WHERE rowid BETWEEN ? AND ?", (first, last))
    elif kind == 7:
        conn.executemany(
            f"UPDATE {name} SET rowid = ~rowid WHERE rowid = ?", [(k,) for k in some[:1] if ~k not in there]
        )
    else:
        conn.execute("UPDATE keyed SET v = v + 1 WHERE k = 'k7'")
