"""A WAL lies beside the name by which a file was opened, so it is not seen by the other."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import used_by_another


def make(folder: Path) -> Iterator[list[Path]]:
    with used_by_another(folder / "a.db", "PRAGMA journal_mode=WAL; CREATE TABLE t (x)"):
        (folder / "b.db").hardlink_to(folder / "a.db")
        yield [folder / "b.db"]
