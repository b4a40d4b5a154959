"""Stand-ins for collations and functions that a schema names and this process does not have.

SQLite refuses to compile a statement that touches them, though nothing is computed with them when
rows are read in the order in which they lie. A stand-in lets such a statement compile, and tells
afterwards whether it was asked for a result, which it does not know.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

_LACKING = re.compile(
    r"no such (?P<collation>collation sequence): (?P<name>.+)"
    r"|(?:unknown|no such) function: (?P<function>.+?)(?:\(\))?$"
)


def what_is_lacking(error: sqlite3.Error) -> str | None:
    """The collation or function that *error* says is missing, such as "collation GERMAN"; else None."""
    found = _LACKING.search(str(error))
    if not found:
        return None
    return f"collation {found['name']}" if found["collation"] else f"function {found['function']}()"


def missing_collations(conn: sqlite3.Connection, table: str, schema: str = "main") -> list[str]:
    """The collations that indexes of *table* are in the order of and that *conn* does not have.

    Asked for ahead of a SELECT: where the table itself is in such an order, SQLite's only error is
    "no query solution".
    """
    rows = conn.execute(
        "SELECT DISTINCT x.coll FROM pragma_index_list(?1, ?2) i, pragma_index_xinfo(i.name, ?2) x "
        "WHERE upper(x.coll) NOT IN ('BINARY', 'NOCASE', 'RTRIM')",
        (table, schema),
    )
    return [name for (name,) in rows.fetchall() if not _has_collation(conn, name)]


def _has_collation(conn: sqlite3.Connection, name: str) -> bool:
    # pragma_collation_list also lists names that somebody asked for in vain.
    quoted = '"' + name.replace('"', '""') + '"'
    try:
        conn.execute(f"SELECT '' = '' COLLATE {quoted}")
    except sqlite3.OperationalError:
        return False
    return True


def reload_schema(conn: sqlite3.Connection | StandIns) -> None:
    """Have *conn* read its schemas again; what `writable_schema` was set to, it stays."""
    (was,) = conn.execute("PRAGMA writable_schema").fetchone()
    conn.execute("PRAGMA writable_schema=RESET")
    if was:
        conn.execute("PRAGMA writable_schema=ON")


class StandIns:
    """Runs statements on a connection and lends it what it lacks; :meth:`remove` takes it back.

    Attributes:
        connection: The connection that borrows.
        lent: What was lent, in the order in which it was asked for.
        needed: The first of them that was asked for a result, so that the result is worthless.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.connection = conn
        self.lent: list[str] = []
        self.needed: str | None = None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run *sql*, lending whatever it cannot be compiled without.

        Raises:
            sqlite3.Error: Anything else, and where a lent function was called.
        """
        while True:
            try:
                return self.connection.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                name = what_is_lacking(error)
                if name is None or name in self.lent:
                    raise
                self._lend(name)

    def lend_collations(self, names: Sequence[str]) -> None:
        """Lend the collations *names*."""
        for name in names:
            if f"collation {name}" not in self.lent:
                self._lend(f"collation {name}")

    def _lend(self, lacking: str) -> None:
        kind, name = lacking.split(" ", 1)
        if kind == "collation":
            self.connection.create_collation(name, lambda a, b: self._compare(lacking, a, b))
            # A table in the order of a collation that was not there when the schema was read stays
            # unreadable ("no query solution"); this makes SQLite read the schema again.
            reload_schema(self.connection)
        else:
            self.connection.create_function(name[:-2], -1, lambda *_: self._call(lacking), deterministic=True)
        self.lent.append(lacking)

    def _compare(self, lacking: str, a: str, b: str) -> int:
        # An exception in a collation is swallowed by sqlite3, so it is only noted.
        self.needed = self.needed or lacking
        return (a > b) - (a < b)

    def _call(self, lacking: str) -> None:
        self.needed = self.needed or lacking
        raise NotImplementedError(lacking)

    def remove(self) -> None:
        """Take everything back, so that later statements fail as they would have."""
        for lacking in self.lent:
            kind, name = lacking.split(" ", 1)
            if kind == "collation":
                self.connection.create_collation(name, None)
            else:
                self.connection.create_function(name[:-2], -1, None)
        self.lent = []
