"""Definitions in Latin-1, as somebody's editor left them in a file that SQLite finds intact."""

import sqlite3
from pathlib import Path


def build(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.executescript(
        """
        CREATE TABLE t (x DEFAULT 'zzzz' /* zzzz */);
        INSERT INTO t VALUES ('a'), ('b');
        CREATE INDEX i ON t (x) WHERE x <> 'zzzz';
        CREATE VIEW v AS SELECT 'zzzz' AS q FROM t;
        """
    )
    conn.close()
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"Gr\xfc\xdf"))
