"""A wrong path."""

from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    yield [folder / "app.db"]
