"""A check is not evaluated when rows are kept that are there already."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
        conn.executescript(
            """
            CREATE TABLE c (a CHECK (shout(a) = 'A'), d DEFAULT (shout('d')));
            INSERT INTO c VALUES ('a', 1);
            """
        )
