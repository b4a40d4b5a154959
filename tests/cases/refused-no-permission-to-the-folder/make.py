"""A folder that only somebody else may look into."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

WITHOUT_PRIVILEGES = True


def make(folder: Path) -> Iterator[list[Path]]:
    closed = folder / "closed"
    closed.mkdir()
    path = build_database(closed / "app.db", "CREATE TABLE t (x)")
    closed.chmod(0)
    yield [path]
    closed.chmod(0o700)
