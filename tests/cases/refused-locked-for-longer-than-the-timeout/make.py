"""A writer that does not end."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    with used_by_another(folder / "app.db", "CREATE TABLE t (x); BEGIN EXCLUSIVE"):
        yield [folder / "app.db"]
