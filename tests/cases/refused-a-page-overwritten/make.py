"""A page in the middle that holds something else."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    rows = ", ".join(f"('{i:0200}')" for i in range(500))
    path = build_database(
        folder / "app.db", f"CREATE TABLE t (x); CREATE INDEX i ON t (x); INSERT INTO t VALUES {rows}"
    )
    content = bytearray(path.read_bytes())
    content[9 * 4096 : 10 * 4096] = b"\xee" * 4096
    path.write_bytes(content)
    yield [path]
