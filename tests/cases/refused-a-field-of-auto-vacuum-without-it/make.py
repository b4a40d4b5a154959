"""A header that asks for incremental vacuum in a file without pages that point at others."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES ('x');")
    content = bytearray(path.read_bytes())
    content[64:68] = b"\0\0\0\1"
    path.write_bytes(content)
    larger = "CREATE TABLE u (x); INSERT INTO u VALUES (zeroblob(50000));"
    yield [path, build_database(folder / "other.db", larger)]
