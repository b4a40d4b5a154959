"""Names that mean something to a shell, to a URI or to a decoder."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    names = [
        "a?mode=rw#x%20.db",
        "with space\nand line.db",
        "-rf.db",
        "\udcff\udcfe.db",
        "ä😀.db",
        "'\"[x].db",
    ]
    sources = []
    for place, name in enumerate(names):
        sources.append(
            build_database(folder / name, f"CREATE TABLE t{place} (x); INSERT INTO t{place} VALUES (1)")
        )
    yield sources
