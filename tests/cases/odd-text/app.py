"""Text that is no UTF-8, NULs, lone surrogates as UTF-8 writes them, and a byte order mark."""

import sqlite3
from pathlib import Path

RAW = [
    b"",
    b"\x00",
    b"a\x00b",
    b"a\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xef\xbb\xbfx",
    b"\xf4\x90\x80\x80",
    b"e\xcc\x81",
]


def build(path: Path) -> None:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT, b)")
    conn.execute("CREATE TABLE k (k TEXT PRIMARY KEY, n) WITHOUT ROWID")
    conn.execute("CREATE TABLE u (u TEXT UNIQUE COLLATE NOCASE)")
    for raw in RAW:
        conn.execute("INSERT INTO t (t, b) VALUES (CAST(? AS TEXT), ?)", (raw, raw))
        conn.execute("INSERT INTO k VALUES (CAST(? AS TEXT), 1)", (raw,))
        conn.execute("INSERT INTO u VALUES (CAST(? AS TEXT))", (raw,))
    conn.close()
