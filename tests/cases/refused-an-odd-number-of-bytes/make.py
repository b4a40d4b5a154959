"""A blob of three bytes whose record says that it is text, as no program but SQLite checks."""

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database


def make(folder: Path) -> Iterator[list[Path]]:
    sql = "PRAGMA encoding = 'UTF-16le'; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"
    path = build_database(folder / "app.db", f"{sql}; INSERT INTO users VALUES (7, x'410042')")
    blob, text = (bytes((3, 0, kind)) + b"\x41\x00\x42" for kind in (18, 19))
    assert path.read_bytes().count(blob) == 1
    path.write_bytes(path.read_bytes().replace(blob, text))
    yield [path, build_database(folder / "other.db", "CREATE TABLE other (x)")]
