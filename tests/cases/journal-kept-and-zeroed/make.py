"""journal_mode=PERSIST leaves a journal that is not hot, nor ours to remove."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as conn:
        conn.executescript("PRAGMA journal_mode=PERSIST; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    yield [folder / "app.db"]
