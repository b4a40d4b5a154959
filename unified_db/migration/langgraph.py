"""What LangGraph's own tables look like, and the one upgrade that LangGraph makes to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

from unified_db import sqlite
from unified_db.errors import SourceError
from unified_db.migration.records import SchemaObject
from unified_db.sqlite import fold

# Releases since 3.1.2 have this column, and add it at every start to a file from before.
TASK_PATH_UPGRADE = "ALTER TABLE writes ADD COLUMN task_path TEXT NOT NULL DEFAULT ''"
# All that LangGraph and the proof name; a table that lacks one is another application's.
_CHECKPOINT_COLUMNS = {
    *("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id"),
    *("type", "checkpoint", "metadata"),
}
_OLD_CHECKPOINTS = {"thread_id", "thread_ts", "checkpoint"}
_OLD_WRITES = {"thread_id", "thread_ts", "task_id", "idx", "channel", "value"}
_WRITE_COLUMNS = {
    *("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"),
    *("channel", "type", "value"),
}

_STORE_COLUMNS = {"prefix", "key", "value", "created_at", "updated_at"}
Era = Literal["current", "before task_path", "before checkpoint_ns", ""]
_OWN_TABLES = {
    "checkpoints": _CHECKPOINT_COLUMNS,
    "writes": _WRITE_COLUMNS,
    "store": _STORE_COLUMNS,
    "store_vectors": {"prefix", "key", "field_name", "embedding"},
    "store_migrations": {"v"},
    "vector_migrations": {"v"},
}
_OLD_TABLES = {"checkpoints": _OLD_CHECKPOINTS, "writes": _OLD_WRITES}


def has_own_name(name: str) -> bool:
    """True for a name that LangGraph gives a table of its own."""
    return fold(name) in _OWN_TABLES


def has_own_columns(name: str, columns: AbstractSet[str]) -> bool:
    """True where a table *name* with *columns* (lower case) is LangGraph's, of whatever release."""
    known = (tables.get(fold(name)) for tables in (_OWN_TABLES, _OLD_TABLES))
    return any(needed is not None and needed <= columns for needed in known)


def read_era(columns: Mapping[str, AbstractSet[str]]) -> Era:
    """From which time the checkpoints are in a database with these tables; empty where there are none.

    Args:
        columns: Of each table, all in lower case.
    """
    checkpoints, writes = (columns.get(name, frozenset[str]()) for name in ("checkpoints", "writes"))
    if checkpoints >= _CHECKPOINT_COLUMNS and writes >= _WRITE_COLUMNS:
        return "current" if "task_path" in writes else "before task_path"
    return "before checkpoint_ns" if _is_old(checkpoints, _OLD_CHECKPOINTS) else ""


def _is_old(columns: AbstractSet[str], marks: AbstractSet[str]) -> bool:
    return marks <= columns and "checkpoint_ns" not in columns


def is_own_table(item: SchemaObject) -> bool:
    """True where *item* is a table of LangGraph's, by name and columns."""
    needed = _OWN_TABLES.get(fold(item.name))
    if needed is None or item.kind != "table":
        return False
    return needed <= _columns(str(item.sql))


def _columns(sql: str) -> set[str]:
    """The columns that the table definition *sql* gives; none where SQLite cannot make it here."""
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        try:
            scratch.execute(sql)
        except sqlite3.Error:
            return set()
        sql = "SELECT p.name FROM sqlite_schema AS s, pragma_table_info(s.name) AS p WHERE s.type = 'table'"
        return {name for (name,) in scratch.execute(sql)}


def upgraded_sql(item: SchemaObject) -> str:
    """The definition of table *item*, with LangGraph's own column upgrade where it lacks that."""
    if fold(item.name) != "writes" or not is_own_table(item) or "task_path" in _columns(str(item.sql)):
        return str(item.sql)
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(str(item.sql))
        scratch.execute(TASK_PATH_UPGRADE)
        return str(scratch.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchone()[0])


def holds_checkpoints(conn: sqlite3.Connection, schema: str = "main") -> bool:
    """True where both of LangGraph's tables are there with the columns of any release since 1.0."""
    for name, needed in (("checkpoints", _CHECKPOINT_COLUMNS), ("writes", _WRITE_COLUMNS)):
        if not sqlite.has_table(conn, name, schema):
            return False
        if not needed <= {c.name for c in sqlite.describe_table(conn, name, schema).columns}:
            return False
    return True


def require_current(conn: sqlite3.Connection, label: str) -> None:
    """Return unless *conn* holds LangGraph's tables from before they had `checkpoint_ns`.

    Raises:
        SourceError: Names the table. No release since langgraph-checkpoint-sqlite 1.0 reads such rows.
    """
    for name, marks in _OLD_TABLES.items():
        if not sqlite.has_table(conn, name):
            continue
        if _is_old({c.name for c in sqlite.describe_table(conn, name).columns}, marks):
            raise SourceError(
                f"{label} holds LangGraph's table {name} from before it had the column checkpoint_ns",
                hint="Nothing was written. No release of langgraph-checkpoint-sqlite since 1.0 can read "
                "such rows: move them with the release that wrote them, drop the tables, or leave this "
                "source out.",
            )


def upgrade_writes(conn: sqlite3.Connection) -> None:
    """Add `writes.task_path` in main where it is missing, as LangGraph does at every start."""
    if not holds_checkpoints(conn):
        return
    columns = {c.name for c in sqlite.describe_table(conn, "writes").columns}
    if "task_path" not in columns:
        conn.execute(TASK_PATH_UPGRADE)
