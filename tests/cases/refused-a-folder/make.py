"""A folder."""

from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    (folder / "app.db").mkdir()
    yield [folder / "app.db"]
