"""Readers in the middle of their work, in either journal mode."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    first = """CREATE TABLE t (x); INSERT INTO t VALUES (1);
    BEGIN; SELECT * FROM t"""
    second = "PRAGMA journal_mode=WAL; CREATE TABLE u (x); INSERT INTO u VALUES (1); BEGIN; SELECT * FROM u"
    with used_by_another(folder / "app.db", first), used_by_another(folder / "wal.db", second):
        yield [folder / "app.db", folder / "wal.db"]
