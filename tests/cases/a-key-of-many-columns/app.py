"""A key of more columns than SQLite allows terms in a chain of AND."""

import sqlite3
from contextlib import closing
from pathlib import Path

_COLUMNS = 1_100


def build(path: Path) -> None:
    names = ", ".join(f"c{n}" for n in range(_COLUMNS))
    marks = ", ".join("?" * _COLUMNS)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(f"CREATE TABLE wide ({names}, PRIMARY KEY ({names})) WITHOUT ROWID")
        for last in (1, 1.5, "1", b"1"):
            conn.execute(f"INSERT INTO wide VALUES ({marks})", [*[1] * (_COLUMNS - 1), last])
