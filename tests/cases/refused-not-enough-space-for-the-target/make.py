"""A small file system where the target shall be."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database, small_file_system


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(3000000))")
    with small_file_system(folder / "out", size="2m"):
        yield [path]
