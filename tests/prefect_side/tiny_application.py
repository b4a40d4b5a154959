"""A small application on the standard library, with two databases and its `unify.toml`."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import tomlkit

from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.processes import free_port

_TREE = Path(__file__).parent / "apps" / "tiny"
_REPOSITORY = Path(__file__).parent.parent.parent
SECRET = "planted-secret-4711"


class TinyApplication:
    """The application at *root*, not yet moved and not running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes = root / "data" / "notes.db"
        self.events = root / "data" / "events.db"
        self.unified = root / "data" / "unified.db"
        self.toml = root / "unify.toml"

    @classmethod
    def create(cls, folder: Path, name: str = "tiny") -> TinyApplication:
        shutil.copytree(_TREE, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        application = cls(folder / name)
        (application.root / "data").mkdir()
        for path, table in ((application.notes, "notes"), (application.events, "events")):
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)")
                connection.executemany(f"INSERT INTO {table} (text) VALUES (?)", [("a",), ("b",), ("c",)])
        application.configure()
        return application

    def configure(self, **sections: object) -> None:
        """Write `unify.toml`, with *sections* in place of the usual ones."""
        edits = [
            {"file": ".env", "kind": "dotenv", "key": key, "value": "data/unified.db"}
            for key in ("NOTES", "EVENTS")
        ]
        usual: dict[str, object] = {
            "app": {
                "python": sys.executable,
                "start": "{python} server.py {port}",
                "stop": "{python} stop.py",
                "port": free_port(),
                "ready": "/",
                # Where the tests run from a checkout that is not installed.
                "env": {"PYTHONPATH": str(_REPOSITORY)},
            },
            "source": [
                {"path": "data/notes.db", "kind": "application"},
                {"path": "data/events.db", "kind": "other"},
            ],
            "target": {"path": "data/unified.db"},
            "edit": edits,
            "suite": [{"name": "all", "command": "{python} check_tiny.py", "timeout_s": 60}],
            "benchmark": {
                "budget_s": 60,
                "min_diff_ms": 500,
                "request": [{"name": "counts", "path": "/"}],
            },
            "staging": {"reviewed": True},
            "cutover": {"soak_s": 0.5},
        }
        self.toml.write_text(tomlkit.dumps({**usual, **sections}))

    def config(self) -> MigrationConfig:
        return load_config(self.toml)

    def stop(self) -> None:
        """Stop the server that a cut-over started, if there is one."""
        subprocess.run([sys.executable, self.root / "stop.py"], check=True, timeout=30)
