"""What several test modules share: real SQLite files, built from SQL or by LangGraph's own savers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest


def build_database(path: Path, sql: str, *, wal: bool = False) -> Path:
    """A database at *path* with what *sql* makes of it; all connections are closed."""
    with closing(sqlite3.connect(path)) as conn:
        # `encoding` counts only before anything is written, which journal_mode=WAL would do.
        conn.executescript(sql)
        conn.commit()
        if wal:
            conn.execute("PRAGMA journal_mode=WAL")
    return path


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Path]:
    """Makes `NAME` in the test's folder from SQL."""

    def make(name: str, sql: str, *, wal: bool = False) -> Path:
        return build_database(tmp_path / name, sql, wal=wal)

    return make
