"""Pages of a transaction that never ended, and the journal that takes them back."""

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
        conn.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1); PRAGMA cache_size=1; BEGIN")
        conn.executemany("INSERT INTO t VALUES (randomblob(2000))", [()] * 50)
        for suffix in ("", "-journal"):
            shutil.copyfile(live / f"a.db{suffix}", left / f"a.db{suffix}")
        conn.execute("ROLLBACK")
    shutil.rmtree(live)
    yield [left / "a.db"]
