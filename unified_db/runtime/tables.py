"""LangGraph's checkpoint tables as SQL: made where they are missing, brought up to date where old."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

# As langgraph-checkpoint-sqlite 3.1.2 creates them. Older releases have no `task_path`, and name
# their columns when they write, so they work on these tables too.
CREATE_TABLES = (
    """CREATE TABLE IF NOT EXISTS checkpoints (
                    thread_id TEXT NOT NULL,
                    checkpoint_ns TEXT NOT NULL DEFAULT '',
                    checkpoint_id TEXT NOT NULL,
                    parent_checkpoint_id TEXT,
                    type TEXT,
                    checkpoint BLOB,
                    metadata BLOB,
                    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
                )""",
    """CREATE TABLE IF NOT EXISTS writes (
                    thread_id TEXT NOT NULL,
                    checkpoint_ns TEXT NOT NULL DEFAULT '',
                    checkpoint_id TEXT NOT NULL,
                    task_id TEXT NOT NULL,
                    task_path TEXT NOT NULL DEFAULT '',
                    idx INTEGER NOT NULL,
                    channel TEXT NOT NULL,
                    type TEXT,
                    value BLOB,
                    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
                )""",
)
_ADD_TASK_PATH = "ALTER TABLE writes ADD COLUMN task_path TEXT NOT NULL DEFAULT ''"


def columns_of(conn: sqlite3.Connection, table: str) -> set[str]:
    """The columns of *table*; none where it does not exist."""
    cursor = conn.cursor()
    cursor.row_factory = None
    return {row[0] for row in cursor.execute("SELECT name FROM pragma_table_info(?)", (table,))}


class TableState(NamedTuple):
    """What a database has of LangGraph's checkpoint tables.

    Attributes:
        wal: True where nothing has to be done about the journal: WAL, or in memory.
        exist: Both tables are there.
        has_task_path: `writes` has the column that releases before 3.1.2 did not know.
    """

    wal: bool
    exist: bool
    has_task_path: bool

    @property
    def current(self) -> bool:
        """True where nothing has to be made."""
        return self.exist and self.has_task_path


def inspect_tables(conn: sqlite3.Connection) -> TableState:
    """Look at a database. Reads only, so a read-only one can be asked."""
    cursor = conn.cursor()
    cursor.row_factory = None
    mode = str(cursor.execute("PRAGMA journal_mode").fetchone()[0])
    columns = columns_of(conn, "writes")
    exist = bool(columns) and bool(columns_of(conn, "checkpoints"))
    return TableState(mode in ("wal", "memory"), exist, "task_path" in columns)


def set_wal(conn: sqlite3.Connection) -> None:
    """Switch to WAL, as the stock savers do, where the database can be written at all."""
    try:
        conn.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if not is_read_only_error(error):
            raise


def make_tables(conn: sqlite3.Connection) -> None:
    """Make LangGraph's tables where they are missing, add `task_path` to older ones.

    Runs inside the caller's transaction, or statement by statement without one.
    """
    for sql in CREATE_TABLES:
        conn.execute(sql)
    if "task_path" not in columns_of(conn, "writes"):
        try:
            conn.execute(_ADD_TASK_PATH)
        except sqlite3.OperationalError as error:
            # Another process that starts at the same moment was faster.
            if "duplicate column name" not in str(error):
                raise


def is_read_only_error(error: sqlite3.Error) -> bool:
    """Whether *error* says that the database, or its folder, cannot be written."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_READONLY
