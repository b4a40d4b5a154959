"""Two such files, whose pages are not of one size: only one can be carried by its pages."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
        conn.executescript(
            """
            CREATE TABLE t (name TEXT COLLATE BACKWARDS UNIQUE);
            INSERT INTO t VALUES ('ab'), ('ba');
            """
        )
