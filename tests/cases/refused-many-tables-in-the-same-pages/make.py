"""Forty tables whose roots lead to the same pages, which would be rows without end."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.conftest import build_database

_PAGE, _TABLES = 512, 40


def make(folder: Path) -> Iterator[list[Path]]:
    path = folder / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(f"PRAGMA page_size={_PAGE}; BEGIN; CREATE TABLE t (i INTEGER PRIMARY KEY, b);")
        for number in range(_TABLES):
            conn.execute(f"CREATE TABLE t{number} (i INTEGER PRIMARY KEY, b)")
        conn.executemany("INSERT INTO t (b) VALUES (?)", [(b"x" * 440,) for _ in range(2000)])
        conn.execute("COMMIT")
        roots = dict(conn.execute("SELECT name, rootpage FROM sqlite_schema"))
    content = bytearray(path.read_bytes())
    root = content[(roots["t"] - 1) * _PAGE : roots["t"] * _PAGE]
    for number in range(_TABLES):
        page = roots[f"t{number}"]
        content[(page - 1) * _PAGE : page * _PAGE] = root
    path.write_bytes(content)
    larger = f"PRAGMA page_size={_PAGE}; CREATE TABLE u (x); INSERT INTO u VALUES (zeroblob(2000000));"
    yield [path, build_database(folder / "other.db", larger)]
