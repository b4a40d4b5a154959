"""A WAL that an earlier database of that name left, and that SQLite would play back."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    (folder / "out" / "unified.db-wal").write_bytes(b"x" * 100)
    yield [path]
