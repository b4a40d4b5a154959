"""A check is not evaluated when rows are kept that are there already."""

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
        CREATE TABLE c (a CHECK (shout(a) = 'A'), d DEFAULT (shout('d')));
        INSERT INTO c VALUES ('a', 1);
        """
    )
    conn.close()
