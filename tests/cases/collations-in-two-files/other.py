"""Two such files, whose pages are not of one size: only one can be carried by its pages."""

from pathlib import Path

from tests.conftest import connected_as_the_application


def build(path: Path) -> None:
    with connected_as_the_application(path) as conn:
        conn.execute("PRAGMA page_size=8192")
        conn.executescript(
            """
            CREATE TABLE u (name TEXT COLLATE BACKWARDS UNIQUE);
            INSERT INTO u VALUES ('ab'), ('ba');
            """
        )
