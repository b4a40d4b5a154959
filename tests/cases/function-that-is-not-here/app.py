"""Checks, indexes and generated columns with a function that only the application has."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
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
