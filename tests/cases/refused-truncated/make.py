"""A copy that broke off."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(50000))")
    path.write_bytes(path.read_bytes()[:20000])
    yield [path]
