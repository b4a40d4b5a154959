"""Indexes and a table in an order that only the application knows."""

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
        CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE BACKWARDS UNIQUE, n);
        INSERT INTO t VALUES (1, 'ab', 1), (2, 'ba', 1.0), (3, 'cc', -0.0);
        CREATE INDEX t_n ON t (n, name);
        CREATE TABLE k (k TEXT COLLATE BACKWARDS PRIMARY KEY, v) WITHOUT ROWID;
        INSERT INTO k VALUES ('xa', 1), ('ax', 2), ('mm', NULL);
        CREATE TABLE c (p TEXT REFERENCES t (name));
        INSERT INTO c VALUES ('ab'), ('nobody');
        """
    )
    conn.close()
