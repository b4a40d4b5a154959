"""Trees as text, and databases as LangGraph and applications make them, for what looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.conftest import build_database

CHECKPOINTS = """
CREATE TABLE checkpoints (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);
CREATE TABLE writes (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, value BLOB,
    task_path TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
INSERT INTO checkpoints (thread_id, checkpoint_id) VALUES ('t-1', 'c1'), ('t-1', 'c2'), ('t-2', 'c1');
"""
BEFORE_TASK_PATH = CHECKPOINTS.replace("    task_path TEXT NOT NULL DEFAULT '',\n", "")
BEFORE_NAMESPACES = """
CREATE TABLE checkpoints (thread_id TEXT, thread_ts TEXT, parent_ts TEXT, checkpoint BLOB, metadata BLOB);
CREATE TABLE writes (
    thread_id TEXT, thread_ts TEXT, task_id TEXT, idx INTEGER, channel TEXT, type TEXT, value BLOB
);
"""
STORE = """
CREATE TABLE store (
    prefix text NOT NULL, key text NOT NULL, value text NOT NULL, created_at TIMESTAMP, updated_at TIMESTAMP,
    expires_at TIMESTAMP, ttl_minutes REAL, PRIMARY KEY (prefix, key)
);
CREATE TABLE store_migrations (v INTEGER PRIMARY KEY);
"""
NOTES = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, thread_id TEXT);
INSERT INTO notes (text, thread_id) VALUES ('a', 't-1'), ('b', 't-2');
"""
ALEMBIC = NOTES + "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"


def plant(root: Path, texts: Mapping[str, str]) -> Path:
    """Write *texts*, by their places below *root*; returns *root*."""
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def plant_databases(root: Path, databases: Mapping[str, str]) -> Path:
    """Make *databases* of SQL, by their places below *root*; returns *root*."""
    for name, sql in databases.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        build_database(root / name, sql)
    return root
