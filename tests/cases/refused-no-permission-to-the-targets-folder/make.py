"""A target where nothing may be written."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

WITHOUT_PRIVILEGES = True


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    (folder / "out").chmod(0o500)
    yield [path]
    (folder / "out").chmod(0o700)
