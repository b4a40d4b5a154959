"""A target with a table of its own."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    build_database(folder / "out" / "unified.db", "CREATE TABLE other (x)")
    yield [path]
