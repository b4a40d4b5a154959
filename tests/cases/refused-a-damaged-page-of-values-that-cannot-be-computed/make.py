"""A page that contradicts itself, of a table whose rows `integrity_check` cannot go through here."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    path, other = folder / "a.db", folder / "b.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript("""
            CREATE TABLE v (id INTEGER PRIMARY KEY, data TEXT);
            INSERT INTO v VALUES (1, 'no json anywhere'), (2, 'none'), (3, 'none');
            ALTER TABLE v ADD COLUMN x AS (json_extract(data, '$.x')) VIRTUAL;
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = replace(sql, 'VIRTUAL', 'VIRTUAL NOT NULL') WHERE name = 'v';
        """)
        (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'v'").fetchone()
        (page_bytes,) = conn.execute("PRAGMA page_size").fetchone()
    with closing(sqlite3.connect(other, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE o (x)")
    with path.open("r+b") as stream:
        # The third cell is where the second is.
        stream.seek((root - 1) * page_bytes + 10)
        second = stream.read(2)
        stream.write(second)
    yield [path, other]
