"""What `touch` or an interrupted copy leaves."""

from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    (folder / "app.db").touch()
    yield [folder / "app.db"]
