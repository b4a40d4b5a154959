"""What is given to a writer: rows for one insert, or a function. No threads, no files.

Most of what a saver writes is rows for one of three inserts, so rows of several callers can go
to SQLite in one `executemany`. Everything else is a function of a connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert statement and the table it fills.

    Attributes:
        sql: With one `?` for each column.
        table: Inserts into different tables may change places within a batch.
    """

    sql: str
    table: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one insert."""

    insert: Insert
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Call:
    """A function that reads and writes inside the writer's transaction.

    It may run more than once (a batch that fails is repeated job by job), each time on rows as
    they were before, and must neither begin nor commit.
    """

    function: Callable[[sqlite3.Connection], Any]


Work = Rows | Call


@dataclass(slots=True)
class _Waiting:
    insert: Insert
    rows: list[Row] = field(default_factory=list)


def execute_all(conn: sqlite3.Connection, works: Iterable[Work]) -> list[Any]:
    """Execute *works* in order inside the caller's transaction; rows of one insert go together.

    Returns:
        What each function returned; None for rows.
    """
    results: list[Any] = []
    waiting: dict[str, _Waiting] = {}
    for work in works:
        if isinstance(work, Rows):
            _collect(conn, waiting, work)
            results.append(None)
        else:
            _send(conn, waiting)
            results.append(work.function(conn))
    _send(conn, waiting)
    return results


def _collect(conn: sqlite3.Connection, waiting: dict[str, _Waiting], work: Rows) -> None:
    found = waiting.get(work.insert.table)
    if found is not None and found.insert is not work.insert:
        # OR IGNORE and OR REPLACE on one table: which comes first decides what stays.
        conn.executemany(found.insert.sql, found.rows)
        found = None
    if found is None:
        found = waiting[work.insert.table] = _Waiting(work.insert)
    found.rows.extend(work.rows)


def _send(conn: sqlite3.Connection, waiting: dict[str, _Waiting]) -> None:
    for found in waiting.values():
        conn.executemany(found.insert.sql, found.rows)
    waiting.clear()


def execute(conn: sqlite3.Connection, work: Work) -> Any:
    """Execute one *work* inside the caller's transaction."""
    if isinstance(work, Rows):
        conn.executemany(work.insert.sql, work.rows)
        return None
    return work.function(conn)
