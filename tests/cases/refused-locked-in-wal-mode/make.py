"""A writer of a WAL database that does not end."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    sql = "PRAGMA journal_mode=WAL; CREATE TABLE t (x); BEGIN IMMEDIATE"
    with used_by_another(folder / "app.db", sql):
        yield [folder / "app.db"]
