"""Whether the threads that an application's rows name have checkpoints, and the reverse.

Only asked where `unify.toml` says which columns name threads. A thread that was missing before is
counted; one that is missing only now closes the gate. Thread ids are values, so none is told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from unified_db import sqlite
from unified_db.errors import ConfigError
from unified_db.migration.langgraph import holds_checkpoints
from unified_db.migration.layout import place_backup
from unified_db.migration.records import Backups, Finding
from unified_db.sqlite import fold, quote_name


def split_column(column: str) -> tuple[str, str]:
    """The table and the column of "table.column"; the last dot counts."""
    table, _, name = column.rpartition(".")
    return table, name


def require_columns(conn: sqlite3.Connection, columns: Sequence[str], label: str) -> None:
    """Return where each of *columns*, as "table.column", is in main.

    Raises:
        ConfigError: Names the first that is not, with the columns that there are.
    """
    for column in columns:
        table, name = split_column(column)
        if not sqlite.has_table(conn, table):
            raise ConfigError(
                f"source {label}: threads names {column!r}, but there is no table {table!r}",
                hint=f"Nothing was written. It is TABLE.COLUMN; tables: {', '.join(sqlite.tables(conn))}",
            )
        there = [c.name for c in sqlite.describe_table(conn, table).columns]
        if fold(name) not in {fold(c) for c in there}:
            raise ConfigError(
                f"source {label}: threads names {column!r}, but {table} has no column {name!r}",
                hint=f"Nothing was written. Its columns are: {', '.join(there)}",
            )


def check_threads(backups: Backups, unified: Path) -> Iterator[Finding]:
    """Findings about every column that is said to name threads, both ways; none without one."""
    if not any(b.threads for b in backups.items):
        return
    before = frozenset[str]().union(*(_threads_of(b.path) for b in backups.items))
    after = _threads_of(unified)
    named_before, named_after = frozenset[str](), frozenset[str]()
    for backup in backups.items:
        places = place_backup(backup, backups.layout)
        for column in backup.threads:
            table, name = split_column(column)
            old = _named(backup.path, table, name)
            new = _named(unified, places.name(table), name)
            yield _finding(
                "threads that rows name have a checkpoint",
                f"{backup.label}: {column}",
                missing_before=old - before,
                missing_after=new - after,
                total=len(new),
            )
            named_before |= old
            named_after |= new
    yield _finding(
        "threads with a checkpoint are named by a row",
        ", ".join(f"{b.label}: {c}" for b in backups.items for c in b.threads),
        missing_before=before - named_before,
        missing_after=after - named_after,
        total=len(after),
    )


def _finding(
    check: str, where: str, *, missing_before: frozenset[str], missing_after: frozenset[str], total: int
) -> Finding:
    new = len(missing_after - missing_before)
    return Finding(
        check=check,
        where=where,
        required=f"none of {total:,} missing beyond the {len(missing_before):,} of before",
        measured=f"{len(missing_after):,} missing, {new:,} of them new",
        passed=not new,
    )


def _threads_of(path: Path) -> frozenset[str]:
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        if not holds_checkpoints(conn):
            return frozenset()
        return frozenset(t for (t,) in conn.execute("SELECT DISTINCT thread_id FROM checkpoints"))


def _named(path: Path, table: str, column: str) -> frozenset[str]:
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        if not sqlite.has_table(conn, table):
            return frozenset()
        # LangGraph keeps thread ids as text, whatever the application keeps its own as.
        chosen = f"CAST({quote_name(column)} AS TEXT)"
        rows = conn.execute(
            f"SELECT DISTINCT {chosen} COLLATE BINARY FROM {quote_name(table)} "
            f"WHERE {quote_name(column)} IS NOT NULL"
        )
        return frozenset(t for (t,) in rows)
