"""Two such files, whose pages are not of one size: only one can be carried by its pages."""

import sqlite3
from pathlib import Path


def _backwards(a: str, b: str) -> int:
    return (a[::-1] > b[::-1]) - (a[::-1] < b[::-1])


def build(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA page_size=8192")
    conn.create_collation("BACKWARDS", _backwards)
    conn.create_function("shout", 1, lambda text: text and text.upper(), deterministic=True)
    conn.executescript(
        """
        CREATE TABLE u (name TEXT COLLATE BACKWARDS UNIQUE);
        INSERT INTO u VALUES ('ab'), ('ba');
        """
    )
    conn.close()
