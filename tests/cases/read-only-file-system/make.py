"""Sources that nobody can write to, in either journal mode."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database, small_file_system


def make(folder: Path) -> Iterator[list[Path]]:
    with small_file_system(folder / "ro", size="8m") as remount_read_only:
        sources = [
            build_database(
                folder / "ro" / "wal.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)", wal=True
            ),
            build_database(folder / "ro" / "app.db", "CREATE TABLE u (x); INSERT INTO u VALUES (1)"),
        ]
        remount_read_only()
        yield sources
