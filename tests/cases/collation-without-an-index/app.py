"""A collation that no row is kept in the order of: nothing has to be evaluated."""

import sqlite3
from pathlib import Path


def _backwards(a: str, b: str) -> int:
    return (a[::-1] > b[::-1]) - (a[::-1] < b[::-1])


def build(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.create_collation("BACKWARDS", _backwards)
    conn.create_function("shout", 1, lambda text: text and text.upper(), deterministic=True)
    conn.executescript(
        """
        CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE BACKWARDS, n);
        INSERT INTO t VALUES (1, 'ab', 1), (2, 'ba', 1.0), (3, 'cc', -0.0);
        CREATE VIEW v AS SELECT * FROM t ORDER BY name;
        """
    )
    conn.close()
