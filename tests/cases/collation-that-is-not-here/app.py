"""Indexes and a table in an order that only the application knows."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
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
