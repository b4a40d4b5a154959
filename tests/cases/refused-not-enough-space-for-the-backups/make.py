"""A small file system where the backups shall be."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database, small_file_system


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(3000000))")
    (folder / "kept").mkdir()
    with small_file_system(folder / "kept", size="2m"):
        yield [path, Path("--backups"), folder / "kept"]
