"""What tables, views and triggers refer to, as SQLite itself understands their definitions.

The schema is built without a row in memory, and SQLite compiles there what it would run; its
authorizer is asked for leave to touch every table and so tells which they are. Nobody's SQL is parsed here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.migration import copy, definitions
from unified_db.migration.records import SchemaObject
from unified_db.sqlite import fold, quote_name
from unified_db.standins import StandIns

Key = tuple[str, str]
_TOUCHES = (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


def key_of(item: SchemaObject) -> Key:
    """What tells *item* from all others: its kind, since a trigger may be called as a table, and its name."""
    return item.kind, fold(item.name)


@dataclass(frozen=True)
class References:
    """What one object refers to.

    Attributes:
        tables: Names in lower case, of tables and views, there or not; its own may be among them.
        unreadable: Why SQLite cannot tell; empty where it can.
    """

    tables: frozenset[str]
    unreadable: str = ""


def read_references(objects: Sequence[SchemaObject], asked: Iterable[SchemaObject]) -> dict[Key, References]:
    """What each of *asked*, which are among *objects*, refers to, by its key.

    A table refers to its foreign keys' parents and a virtual one to what its arguments name, a view to
    what it reads, a trigger to what it reads and writes. An index refers to nothing but its table.

    Args:
        objects: A whole schema, of which tables and views are needed.
        asked: Objects of any kind.
    """
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        schema = _EmptySchema(conn, objects)
        return {key_of(item): schema.references_of(item) for item in asked}


class _EmptySchema:
    """Tables and views of *objects* in the empty database *conn*, with stand-ins for what is not here."""

    def __init__(self, conn: sqlite3.Connection, objects: Sequence[SchemaObject]) -> None:
        self._conn = conn
        self._stand_ins = StandIns(conn)
        self._objects = objects
        self._touched: set[tuple[str, bool]] = set()
        self._not_made: dict[str, str] = {}
        conn.execute("PRAGMA foreign_keys=OFF")
        # Virtual tables first: they make their shadow tables themselves.
        for item in sorted(objects, key=lambda o: not copy.is_virtual(o)):
            if item.kind == "table" and not sqlite.has_table(conn, item.name):
                self._make(item)
        copy.write_schema_rows(conn, [o for o in objects if o.kind == "view"])
        conn.set_authorizer(self._note)

    def _make(self, item: SchemaObject) -> None:
        try:
            copy.create_tables(self._stand_ins, [item])
            if copy.is_virtual(item):
                self._stand_ins.execute(str(item.sql))
        except sqlite3.Error as error:
            # What names it cannot be read then, and says so.
            self._not_made[fold(item.name)] = str(error)

    def references_of(self, item: SchemaObject) -> References:
        try:
            return References(frozenset(self._names(item)))
        except sqlite3.Error as error:
            said = str(error)
            reasons = [why for name, why in self._not_made.items() if name in fold(said)]
            return References(frozenset(), unreadable=", ".join([said, *reasons]))

    def _names(self, item: SchemaObject) -> set[str]:
        if item.kind == "view":
            return self._compile(f"SELECT * FROM {quote_name(item.name)}")
        if item.kind == "trigger":
            return self._names_of_trigger(item)
        if copy.is_virtual(item):
            tables = [o.name for o in self._objects if o.kind in ("table", "view") and o.name != item.name]
            return {fold(name) for name in tables if definitions.mentions(item.sql, name)}
        return {fold(p) for p in sqlite.parents(self._conn, item.name)} if item.kind == "table" else set()

    def _names_of_trigger(self, item: SchemaObject) -> set[str]:
        self._stand_ins.execute(str(item.sql))
        try:
            return self._compile(self._firing(item), inner_only=True)
        finally:
            self._conn.execute(f"DROP TRIGGER {quote_name(item.name)}")

    def _firing(self, item: SchemaObject) -> str:
        """A statement that fires the trigger *item*."""
        table = quote_name(item.table)
        match _event_of(item):
            case "insert":
                return f"INSERT INTO {table} DEFAULT VALUES"
            case "delete":
                return f"DELETE FROM {table}"
            case _:
                sql = "SELECT name FROM pragma_table_info(?)"
                rows = self._stand_ins.execute(sql, (item.table,)).fetchall()
                names = [quote_name(name) for (name,) in rows]
                return f"UPDATE {table} SET {', '.join(f'{n} = {n}' for n in names)}"

    def _compile(self, sql: str, *, inner_only: bool = False) -> set[str]:
        """The tables that *sql* touches; with *inner_only* those that triggers and views touch for it."""
        self._touched.clear()
        # EXPLAIN compiles the statement and runs nothing of it.
        self._stand_ins.execute(f"EXPLAIN {sql}").fetchall()
        return {fold(name) for name, inner in self._touched if inner or not inner_only}

    def _note(
        self, action: int, name: str | None, _detail: str | None, _schema: str | None, within: str | None
    ) -> int:
        if action in _TOUCHES and name is not None:
            self._touched.add((name, within is not None))
        return sqlite3.SQLITE_OK


def _event_of(trigger: SchemaObject) -> str:
    """insert, update or delete; SQLite stores a trigger's statement without IF NOT EXISTS."""
    tokens = list(definitions.read_tokens(str(trigger.sql)))
    kind = next(i for i, t in enumerate(tokens) if t.normal == "trigger")
    # The name itself, which may be such a word, is the token after the kind.
    return next(t.normal for t in tokens[kind + 2 :] if t.normal in ("insert", "update", "delete"))
