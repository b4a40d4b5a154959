"""Sources behind a link, a linked folder and a second name."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    real = folder / "real"
    real.mkdir()
    (folder / "linked").symlink_to(real)
    build_database(real / "a.db", "CREATE TABLE a (x); INSERT INTO a VALUES (1)", wal=True)
    build_database(real / "b.db", "CREATE TABLE b (x); INSERT INTO b VALUES (1)")
    build_database(real / "c.db", "CREATE TABLE c (x); INSERT INTO c VALUES (1)", wal=True)
    (folder / "a-link.db").symlink_to(real / "a.db")
    (folder / "c-again.db").hardlink_to(real / "c.db")
    yield [folder / "a-link.db", folder / "linked" / "b.db", folder / "c-again.db"]
