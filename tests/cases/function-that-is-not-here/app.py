"""Checks, indexes and generated columns with a function that only the application has."""

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
        CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT,
          loud TEXT AS (shout(name)) STORED, quiet AS (shout(name)));
        INSERT INTO t (id, name) VALUES (1, 'ab'), (2, NULL), (3, 'x');
        CREATE INDEX t_loud ON t (shout(name), id) WHERE shout(name) <> 'Q';
        CREATE TABLE c (a CHECK (shout(a) = 'A'));
        INSERT INTO c VALUES ('a');
        """
    )
    conn.close()
