"""A text file that somebody called a database."""

from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    (folder / "app.db").write_text("id,name\n1,ada\n" * 500)
    yield [folder / "app.db"]
