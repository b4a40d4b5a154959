"""Rows that are in the WAL alone, with and without the -shm beside it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    live, left = folder / "live", folder / "left"
    live.mkdir()
    left.mkdir()
    with closing(sqlite3.connect(live / "a.db", isolation_level=None)) as conn:
        conn.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (x)")
        conn.executescript("CREATE TABLE u (x); INSERT INTO t VALUES (1), (2)")
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(live / f"a.db{suffix}", left / f"a.db{suffix}")
        conn.execute("DROP TABLE t")
        conn.execute("ALTER TABLE u RENAME TO w")
        for suffix in ("", "-wal"):
            shutil.copyfile(live / f"a.db{suffix}", left / f"b.db{suffix}")
    shutil.rmtree(live)
    yield [left / "a.db", left / "b.db"]
