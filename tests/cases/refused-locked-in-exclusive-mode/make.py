"""A user of a WAL database that lets nobody else in, and so makes no -shm."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    sql = (
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)"
    )
    with used_by_another(folder / "app.db", sql):
        yield [folder / "app.db"]
