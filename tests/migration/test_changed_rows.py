"""What the pages that were written tell of the rows: never a row too few, and few too many."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from unified_db import sqlite
from unified_db.migration import btree, wal
from unified_db.migration.compare import Span

_SQL = """
CREATE TABLE t (k INTEGER PRIMARY KEY, v, u UNIQUE);
CREATE TABLE large (name TEXT, body BLOB);
CREATE INDEX by_name ON large (name);
CREATE TABLE sequence (k INTEGER PRIMARY KEY AUTOINCREMENT, v);
CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
"""
_WITH_ROWIDS = ("t", "large", "sequence")
_FAR = 1 << 60
_ENDS = (-(1 << 63), (1 << 63) - 1)

Rows = dict[str, dict[int, tuple[object, ...]]]


def rows(conn: sqlite3.Connection) -> Rows:
    return {n: {r: rest for r, *rest in conn.execute(f"SELECT rowid, * FROM {n}")} for n in _WITH_ROWIDS}


def differing(before: Rows, after: Rows) -> dict[str, set[int]]:
    return {
        n: {k for k in before[n].keys() | after[n].keys() if before[n].get(k) != after[n].get(k)}
        for n in _WITH_ROWIDS
    }


def is_in(rowid: int, spans: list[Span]) -> bool:
    return any((s.first is None or rowid >= s.first) and (s.end is None or rowid < s.end) for s in spans)


class Source:
    """A database in WAL mode, and a snapshot of it that is kept from :meth:`note` on."""

    def __init__(self, path: Path, *, page_bytes: int = 4096, setting: str = "") -> None:
        self.path = path
        self.conn = sqlite3.connect(path, isolation_level=None)
        self.conn.executescript(f"PRAGMA page_size={page_bytes}; {setting}")
        self.conn.execute("PRAGMA journal_mode=WAL").fetchall()
        self.conn.executescript(_SQL)
        self.reader = sqlite3.connect(path, isolation_level=None)
        # Updates of values in place make text that is none.
        self.conn.text_factory = self.reader.text_factory = bytes

    def note(self) -> Rows:
        self.conn.execute("PRAGMA wal_checkpoint").fetchall()
        self.reader.execute("BEGIN")
        return rows(self.reader)

    def roots(self) -> dict[str, int]:
        with closing(sqlite.connect_read_only(self.path)) as conn:
            return sqlite.root_pages(conn)

    def changed(self) -> dict[str, list[Span]] | None:
        """What the pages tell; the source is in one file afterwards."""
        written = wal.pages_in(self.path)
        assert written is not None
        self.reader.close()
        assert self.conn.execute("PRAGMA journal_mode=DELETE").fetchone() == (b"delete",)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return btree.changed_rows(descriptor, self.roots(), written)
        finally:
            os.close(descriptor)


@contextmanager
def source(path: Path, **options: object) -> Iterator[Source]:
    made = Source(path, **options)  # type: ignore[arg-type]
    with closing(made.conn), closing(made.reader):
        yield made


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
    kind, name = chance.randrange(9), chance.choice(_WITH_ROWIDS)
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


@pytest.mark.parametrize("seed", range(40))
def test_no_row_that_differs_is_left_out(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    page_bytes = chance.choice([512, 1024, 4096, 65536])
    with source(tmp_path / "s.db", page_bytes=page_bytes) as made:
        fill(made.conn, chance, chance.choice([0, 5, 300]))
        for _ in range(chance.randrange(20)):
            act(made.conn, chance)
        before = made.note()
        for _ in range(chance.randrange(1, 12)):
            made.conn.execute("BEGIN")
            for _ in range(chance.randrange(1, 4)):
                act(made.conn, chance)
            made.conn.execute(chance.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
            if not chance.randrange(6):
                made.conn.execute("PRAGMA wal_checkpoint").fetchall()
        after = rows(made.conn)
        found = made.changed()
    if found is not None:
        for name, rowids in differing(before, after).items():
            assert [r for r in rowids if not is_in(r, found.get(name, []))] == []
