"""The folder of the target as a link to that of the source."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "unified.db", "CREATE TABLE t (x)")
    (folder / "out").rmdir()
    (folder / "out").symlink_to(folder)
    yield [path]
