"""Two such files: both are carried by their pages, which are of one size."""

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
        CREATE TABLE t (name TEXT COLLATE BACKWARDS UNIQUE);
        INSERT INTO t VALUES ('ab'), ('ba');
        """
    )
    conn.close()
