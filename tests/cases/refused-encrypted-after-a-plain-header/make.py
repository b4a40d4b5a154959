"""A tool that leaves the header plain, so that the file still looks like a database."""

import random
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    path.write_bytes(path.read_bytes()[:100] + random.Random(4711).randbytes(8092))
    yield [path]
