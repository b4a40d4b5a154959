"""The WAL beside a file is that of one with another page size, which SQLite takes for the file's own."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    live = folder / "live"
    live.mkdir()
    for name, page_size in (("a", 4096), ("b", 1024)):
        with closing(sqlite3.connect(live / f"{name}.db", isolation_level=None)) as conn:
            conn.executescript(f"PRAGMA page_size={page_size}; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            conn.executescript("PRAGMA journal_mode=WAL; INSERT INTO t VALUES (2)")
            shutil.copyfile(live / f"{name}.db", folder / f"{name}.db")
            shutil.copyfile(live / f"{name}.db-wal", folder / f"{name}.db-wal")
    shutil.rmtree(live)
    (folder / "b.db-wal").replace(folder / "a.db-wal")
    yield [folder / "a.db", folder / "b.db"]
