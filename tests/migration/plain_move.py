"""Databases without an application, moved by the phases of a run and taken back."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from unified_db.migration import cutover, phases, plan, rollback, validate
from unified_db.migration.config import MigrationConfig, parse_config
from unified_db.migration.records import RollbackRecord, Verdict
from unified_db.migration.runs import RunFolder, create_run

State = tuple[list[tuple[Any, ...]], dict[str, list[tuple[Any, ...]]]]


class PlainMove:
    """The *sources* in folder *root*, with the sections *settings* in their `unify.toml`."""

    def __init__(self, root: Path, sources: list[Path], **settings: Any) -> None:
        self.root = root
        self.sources = sources
        self.target = root / "unified.db"
        self.settings = settings

    def config(self) -> MigrationConfig:
        values = {
            "app": {"python": sys.executable},
            "source": [{"path": str(p.relative_to(self.root))} for p in self.sources],
            "target": {"path": "unified.db"},
            **self.settings,
        }
        return parse_config(values, file=self.root / "unify.toml")

    def prepare(self) -> Verdict:
        """Plan, back up, merge and prove; the verdict."""
        self.loaded = self.config()
        self.run: RunFolder = create_run(self.loaded.state_folder)
        made = plan.make_plan(self.loaded, self.run)
        self.run.save("plan", made)
        backups = phases.backup(self.run, made)
        return validate.validate(backups, phases.merge(self.run, backups))

    def switch(self) -> int:
        """Cut over; how many rows were written late."""
        return cutover.perform_cutover(self.loaded, self.run).late_rows

    def back(self) -> RollbackRecord:
        return rollback.roll_back(self.loaded, self.run)


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(sql)
        conn.commit()


def state(path: Path) -> State:
    """Schema, and every cell with its type and rowid, and the counters."""
    with closing(sqlite3.connect(path)) as conn:
        conn.text_factory = bytes
        schema = conn.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        ).fetchall()
        tables = [
            name.decode()
            for (name,) in conn.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
            )
        ]
        return schema, {name: _rows(conn, name) for name in tables}


def _rows(conn: sqlite3.Connection, name: str) -> list[tuple[Any, ...]]:
    quoted = '"' + name.replace('"', '""') + '"'
    columns = [r[1].decode() for r in conn.execute(f"PRAGMA table_xinfo({quoted})")]
    shown = ", ".join(f'quote("{c}"), typeof("{c}")' for c in columns)
    try:
        return conn.execute(f"SELECT _rowid_, {shown} FROM {quoted} ORDER BY 1").fetchall()
    except sqlite3.OperationalError:
        return conn.execute(f"SELECT {shown} FROM {quoted} ORDER BY 1, 3").fetchall()
