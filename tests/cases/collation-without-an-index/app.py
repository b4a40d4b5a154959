"""A collation that no row is kept in the order of: nothing has to be evaluated."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
        conn.executescript(
            """
            CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE BACKWARDS, n);
            INSERT INTO t VALUES (1, 'ab', 1), (2, 'ba', 1.0), (3, 'cc', -0.0);
            CREATE VIEW v AS SELECT * FROM t ORDER BY name;
            """
        )
