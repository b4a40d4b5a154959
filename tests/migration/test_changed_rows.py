"""What the pages that were written tell of the rows: never a row too few, and few too many."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.migration.many_pages import TABLES, WITH_ROWIDS, Rows, act, fill, rows
from unified_db import sqlite
from unified_db.migration import btree, wal
from unified_db.migration.compare import Span


def differing(before: Rows, after: Rows) -> dict[str, set[int]]:
    return {
        n: {k for k in before[n].keys() | after[n].keys() if before[n].get(k) != after[n].get(k)}
        for n in WITH_ROWIDS
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
        self.conn.executescript(TABLES)
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
