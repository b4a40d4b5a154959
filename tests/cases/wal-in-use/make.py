"""A WAL database that somebody has open, with rows that are in the WAL alone."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    sql = """PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
    CREATE TABLE t (x); INSERT INTO t VALUES (1)"""
    with used_by_another(folder / "app.db", sql):
        yield [folder / "app.db"]
