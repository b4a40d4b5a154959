"""A target at the name of the WAL of a source."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    yield [build_database(folder / "out" / "unified.db-wal", "CREATE TABLE t (x)")]
