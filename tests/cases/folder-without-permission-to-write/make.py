"""Sources that may be read, in a folder where no sidecar can be made."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

WITHOUT_PRIVILEGES = True


def make(folder: Path) -> Iterator[list[Path]]:
    closed = folder / "closed"
    closed.mkdir()
    sources = [
        build_database(closed / "wal.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)", wal=True),
        build_database(closed / "app.db", "CREATE TABLE u (x); INSERT INTO u VALUES (1)"),
    ]
    for path in sources:
        path.chmod(0o400)
    closed.chmod(0o500)
    yield sources
    closed.chmod(0o700)
