"""As many columns as SQLite allows: more than a chain of ANDs may be deep, or a result may be wide."""

import sqlite3
from pathlib import Path


def build(path: Path) -> None:
    conn = sqlite3.connect(path, isolation_level=None)
    for count in (1500, 1999, 2000):
        table = f"wide_{count}"
        names = [f"c{n}" for n in range(count)]
        values = [str(n) if n % 3 else "NULL" for n in range(count)]
        conn.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        conn.execute(
            f"INSERT INTO {table} (rowid, {', '.join(names[:-1])}) VALUES (9, {', '.join(values[:-1])})"
        )
        conn.execute(f"INSERT INTO {table} VALUES ({', '.join(values)})")
        conn.execute(f"UPDATE {table} SET {names[-1]} = 'last' WHERE rowid = 9")
    keyed = ", ".join(f"c{n}" for n in range(1998))
    conn.execute(f"CREATE TABLE wide_keyed (k, l, {keyed}, PRIMARY KEY (k, l)) WITHOUT ROWID")
    conn.execute("INSERT INTO wide_keyed (k, l, c7) VALUES ('a', 'b', 7)")
    with_id = ", ".join(f"c{n} NOT NULL DEFAULT 1" for n in range(1999))
    conn.execute(f"CREATE TABLE wide_id (id INTEGER PRIMARY KEY, {with_id})")
    conn.execute("INSERT INTO wide_id (id) VALUES (-3), (8)")
    conn.close()
