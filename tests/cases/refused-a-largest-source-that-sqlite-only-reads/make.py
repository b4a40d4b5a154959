"""A file whose header asks for a later version of whoever writes it; a smaller one is carried."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    large, small = folder / "large.db", folder / "small.db"
    for path, size in ((large, 100_000), (small, 1)):
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute(f"CREATE TABLE {path.stem} AS SELECT zeroblob({size}) AS b")
    with large.open("r+b") as stream:
        stream.seek(18)
        stream.write(b"\x03")
    yield [large, small]
