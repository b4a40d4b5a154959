"""Eighteen levels of inner pages, each of which leads three hundred times to the next: no walk of it ends."""

import itertools
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.conftest import build_database

_PAGE, _LEVELS, _CELLS = 4096, 18, 300


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(
        folder / "app.db",
        "CREATE TABLE t (x); INSERT INTO t VALUES ('x');"
        "CREATE TABLE room (b); INSERT INTO room VALUES (zeroblob(160000));",
    )
    with closing(sqlite3.connect(path)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()
    content = bytearray(path.read_bytes())
    leaf = content[(root - 1) * _PAGE : root * _PAGE]
    last = len(content) // _PAGE
    pages = [root, *(last - n for n in range(_LEVELS))]
    for page, child in itertools.pairwise(pages):
        content[(page - 1) * _PAGE : page * _PAGE] = inner(child)
    content[(pages[-1] - 1) * _PAGE : pages[-1] * _PAGE] = leaf
    path.write_bytes(content)
    yield [path, build_database(folder / "other.db", "CREATE TABLE u (x)")]


def inner(child: int) -> bytearray:
    page, places = bytearray(_PAGE), []
    for number in range(_CELLS):
        places.append(_PAGE - 5 * (number + 1))
        struct.pack_into(">IB", page, places[-1], child, 1 + number % 100)
    struct.pack_into(">BHHHBI", page, 0, 5, 0, _CELLS, places[-1], 0, child)
    struct.pack_into(f">{_CELLS}H", page, 12, *places)
    return page
