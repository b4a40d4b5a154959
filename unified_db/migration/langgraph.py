"""What LangGraph's own tables look like, and the one upgrade that LangGraph makes to them."""

from __future__ import annotations

import sqlite3

from unified_db import sqlite

# Releases since 3.1.2 have this column, and add it at every start to a file from before.
TASK_PATH_UPGRADE = "ALTER TABLE writes ADD COLUMN task_path TEXT NOT NULL DEFAULT ''"
_CHECKPOINT_COLUMNS = {"thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "checkpoint"}
_WRITE_COLUMNS = {"thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel", "value"}


def holds_checkpoints(conn: sqlite3.Connection, schema: str = "main") -> bool:
    """True where both of LangGraph's tables are there with the columns of any release since 1.0."""
    for name, needed in (("checkpoints", _CHECKPOINT_COLUMNS), ("writes", _WRITE_COLUMNS)):
        if not sqlite.has_table(conn, name, schema):
            return False
        if not needed <= {c.name for c in sqlite.describe_table(conn, name, schema).columns}:
            return False
    return True


def upgrade_writes(conn: sqlite3.Connection) -> None:
    """Add `writes.task_path` in main where it is missing, as LangGraph does at every start."""
    if not holds_checkpoints(conn):
        return
    columns = {c.name for c in sqlite.describe_table(conn, "writes").columns}
    if "task_path" not in columns:
        conn.execute(TASK_PATH_UPGRADE)
