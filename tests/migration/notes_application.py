"""A small application on the standard library, with its backup and its unified file, to rehearse on."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unified_db import files
from unified_db.migration.config import MigrationConfig, parse_config
from unified_db.migration.records import Backup, Backups, UnifiedFile
from unified_db.migration.runs import RunFolder, create_run

TREE = Path(__file__).parent / "apps" / "notes"
UNIT = {"name": "unit", "command": "{python} -m pytest tests -q --junitxml {junit}", "timeout_s": 60}


@dataclass
class NotesApplication:
    """The application at *root*, not yet moved.

    Attributes:
        settings: Sections of its configuration that differ from the usual ones.
    """

    root: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, **settings: Any) -> NotesApplication:
        root = folder / "notes"
        shutil.copytree(TREE, root, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "data").mkdir()
        with closing(sqlite3.connect(root / "data" / "notes.db")) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
            connection.executemany("INSERT INTO notes (text) VALUES (?)", [("a",), ("b",), ("c",)])
        return cls(root, settings)

    @property
    def database(self) -> Path:
        return self.root / "data" / "notes.db"

    def config(self) -> MigrationConfig:
        values: dict[str, Any] = {
            "app": {"start": "{python} server.py {port}", "ready": "/ping", "python": sys.executable},
            "source": [{"path": "data/notes.db", "kind": "application"}],
            "target": {"path": "data/unified.db"},
            "edit": [{"file": ".env", "kind": "dotenv", "key": "DATABASE", "value": "data/unified.db"}],
            "suite": [UNIT],
            # Loading every plugin that is installed takes longer than the tests.
            "staging": {"reviewed": True, "env": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}},
        }
        return parse_config({**values, **self.settings}, file=self.root / "unify.toml")

    def rehearse(self) -> tuple[MigrationConfig, RunFolder, Backups, UnifiedFile]:
        """The configuration, a new run, and the backup and unified file that the run would have made."""
        config = self.config()
        run = create_run(config.state_folder)
        shutil.copyfile(self.database, run.backups / "notes.db")
        shutil.copyfile(self.database, run.unified)
        backup = Backup(
            label="data/notes.db",
            source=self.database,
            path=run.backups / "notes.db",
            kind="application",
            size_bytes=self.database.stat().st_size,
            sha256=files.digest_file(self.database),
            journal_mode="wal",
        )
        unified = UnifiedFile(
            path=run.unified,
            size_bytes=run.unified.stat().st_size,
            sha256=files.digest_file(run.unified),
            tables=(),
            seconds=0.1,
        )
        backups = Backups(taken_at=datetime.now(UTC), lock_ms=1, seconds=0.1, items=(backup,))
        return config, run, backups, unified
