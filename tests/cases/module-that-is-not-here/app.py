"""A virtual table of a module that this process does not have, with the shadow tables it left."""

import sqlite3
from pathlib import Path


def build(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.executescript(
        """
        CREATE TABLE embeddings_chunks (id INTEGER PRIMARY KEY, vector BLOB);
        INSERT INTO embeddings_chunks VALUES (1, x'0000803f');
        PRAGMA writable_schema = ON;
        INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES
          ('table', 'embeddings', 'embeddings', 0, 'CREATE VIRTUAL TABLE embeddings USING vec0(v float[1])');
        PRAGMA writable_schema = RESET;
        """
    )
    conn.close()
