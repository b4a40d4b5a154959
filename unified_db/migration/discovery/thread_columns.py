"""Columns of the application's tables that name LangGraph threads: by their names, and by what they hold.

Values are compared inside of this process; none is told.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from unified_db import sources as access
from unified_db import sqlite
from unified_db.errors import UnifyError
from unified_db.migration.langgraph import has_own_name
from unified_db.sqlite import quote_name

_WAIT_S = 1.0
_MOST_VALUES = 200
_MOST_THREADS = 50_000
_SURE_NAME = re.compile(r"^(?:langgraph_|graph_|lg_)?thread_?id$", re.IGNORECASE)
_LIKELY_NAME = re.compile(
    r"(?:thread|conversation|session|chat|dialog)(?:_?(?:id|uuid|key))?$", re.IGNORECASE
)
_LIKELY_TABLE = re.compile(r"thread|conversation|session|chat|dialog", re.IGNORECASE)


def find_thread_columns(application: Path, checkpoints: Path) -> tuple[str, ...]:
    """Columns of *application*, each as "table.column", whose values are threads in *checkpoints*.

    A column called thread_id counts where its table is empty, too; any other where at least half of
    what it holds (of 200 values) has checkpoints. Nothing where one of the files cannot be read.
    """
    try:
        with access.reading(checkpoints, timeout_s=_WAIT_S) as conn:
            rows = conn.execute("SELECT DISTINCT thread_id FROM checkpoints LIMIT ?", (_MOST_THREADS,))
            threads = {str(thread) for (thread,) in rows}
        with access.reading(application, timeout_s=_WAIT_S) as conn:
            return tuple(
                sorted(_columns(conn, threads), key=lambda c: not _SURE_NAME.match(c.rpartition(".")[2]))
            )
    except (UnifyError, sqlite3.Error, OSError):
        return ()


def _columns(conn: sqlite3.Connection, threads: set[str]) -> Iterator[str]:
    for table in sqlite.tables(conn):
        if has_own_name(table):
            continue
        for column in sqlite.describe_table(conn, table).columns:
            is_likely = _LIKELY_NAME.search(column.name) or (
                column.name.lower() in {"id", "uuid", "key"} and _LIKELY_TABLE.search(table)
            )
            if is_likely and _names_threads(conn, table, column.name, threads):
                yield f"{table}.{column.name}"


def _names_threads(conn: sqlite3.Connection, table: str, column: str, threads: set[str]) -> bool:
    rows = conn.execute(
        f"SELECT DISTINCT CAST({quote_name(column)} AS TEXT) FROM {quote_name(table)} "
        f"WHERE {quote_name(column)} IS NOT NULL LIMIT {_MOST_VALUES}"
    )
    values = [value for (value,) in rows]
    if not values:
        return bool(_SURE_NAME.match(column))
    known = sum(value in threads for value in values)
    return bool(known) and (bool(_SURE_NAME.match(column)) or 2 * known >= len(values))
