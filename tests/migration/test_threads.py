"""Rows that name threads, and threads that rows name: only what is missing since closes the gate."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from unified_db.errors import ConfigError
from unified_db.migration import backup, merge
from unified_db.migration.backup import PlainSource
from unified_db.migration.config import parse_config
from unified_db.migration.records import Backups, Finding, Layout, Rename
from unified_db.migration.threads import check_threads, require_columns

CHECKPOINTS = """
CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
  checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
  PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
  checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL,
  task_path TEXT NOT NULL DEFAULT '', type TEXT, value BLOB,
  PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
INSERT INTO checkpoints (thread_id, checkpoint_id) VALUES ('1', 'x'), ('1', 'y'), ('secret', 'x'), ('c', 'x');
"""
APP = """
CREATE TABLE conversations (id INTEGER PRIMARY KEY, thread COLLATE NOCASE);
INSERT INTO conversations VALUES (1, 1), (2, 'secret'), (3, NULL), (4, 'never started'), (5, 'SECRET');
"""


@pytest.fixture
def moved(database: Callable[..., Path], tmp_path: Path) -> Callable[..., list[Finding]]:
    """Merges both files, has *damage* done to the unified one, and gives what is found."""

    def move(damage: str = "", layout: Layout | None = None) -> list[Finding]:
        (tmp_path / "backup").mkdir()
        sources = [
            PlainSource(database("app.db", APP), "app.db", threads=("conversations.thread",)),
            PlainSource(database("memory.db", CHECKPOINTS), "memory.db"),
        ]
        backups: Backups = backup.take_backups(sources, tmp_path / "backup")
        backups = backups.model_copy(update={"layout": layout or Layout()})
        built = merge.merge_backups(backups, tmp_path / "unified.db").path
        copy = Path(shutil.copyfile(built, tmp_path / "damaged.db"))
        with closing(sqlite3.connect(copy)) as conn:
            conn.executescript(damage)
        return list(check_threads(backups, copy))

    return move


def test_what_was_missing_before_is_counted_and_closes_nothing(moved: Callable[..., list[Finding]]) -> None:
    rows, threads = moved()
    assert (rows.passed, rows.measured) == (True, "2 missing, 0 of them new")
    assert rows.where == "app.db: conversations.thread"
    assert (threads.passed, threads.measured) == (True, "1 missing, 0 of them new")


def test_a_thread_that_lost_its_checkpoints_closes(moved: Callable[..., list[Finding]]) -> None:
    rows, threads = moved("DELETE FROM checkpoints WHERE thread_id = 'secret'")
    assert (rows.passed, rows.measured) == (False, "3 missing, 1 of them new")
    assert threads.passed
    assert "secret" not in rows.model_dump_json()


def test_a_checkpoint_that_lost_its_row_closes(moved: Callable[..., list[Finding]]) -> None:
    rows, threads = moved("DELETE FROM conversations WHERE id = 1")
    assert rows.passed
    assert (threads.passed, threads.measured) == (False, "2 missing, 1 of them new")


def test_a_renamed_table_is_found_under_its_new_name(moved: Callable[..., list[Finding]]) -> None:
    renamed = Layout(renames=(Rename(source="app.db", object="conversations", to="talks"),))
    assert [f.measured for f in moved(layout=renamed)] == [
        "2 missing, 0 of them new",
        "1 missing, 0 of them new",
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        pytest.param("talks.thread", "there is no table 'talks'", id="no-such-table"),
        pytest.param("conversations.thread_id", "has no column 'thread_id'", id="no-such-column"),
    ],
)
def test_a_column_that_is_not_there(database: Callable[..., Path], column: str, message: str) -> None:
    with closing(sqlite3.connect(database("app.db", APP))) as conn, pytest.raises(ConfigError, match=message):
        require_columns(conn, [column], "app.db")


def test_a_column_without_its_table_is_refused(tmp_path: Path) -> None:
    values = {
        "app": {},
        "source": [{"path": "a.db", "threads": ["thread_id"]}],
        "target": {"path": "u.db"},
    }
    with pytest.raises(ConfigError, match=r'no "table\.column"'):
        parse_config(values, file=tmp_path / "unify.toml")
