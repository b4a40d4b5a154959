"""A list of free pages that begins on the first page of a table."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES ('x'), ('y');")
    with closing(sqlite3.connect(path)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 32, root, 1)
    path.write_bytes(content)
    larger = "CREATE TABLE u (x); INSERT INTO u VALUES (zeroblob(50000));"
    yield [path, build_database(folder / "other.db", larger)]
