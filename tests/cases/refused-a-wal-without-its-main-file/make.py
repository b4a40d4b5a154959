"""A WAL alone, which SQLite would delete."""

from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    (folder / "app.db-wal").write_bytes(b"x" * 5000)
    yield [folder / "app.db"]
