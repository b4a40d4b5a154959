"""The target named as a source too."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    yield [build_database(folder / "out" / "unified.db", "CREATE TABLE t (x)")]
