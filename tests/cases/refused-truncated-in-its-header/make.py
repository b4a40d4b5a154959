"""A copy that broke off at once."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    path.write_bytes(path.read_bytes()[:50])
    yield [path]
