"""What a whole run does with sources that are out of the ordinary."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import build_database, look_at, small_file_system, unify, used_by_another
from tests.prefect_side.tiny_application import TinyApplication

NOTES = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);"
    "INSERT INTO notes (text) VALUES ('ä')"
)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()


def test_a_plan_leaves_no_trace_at_sources_in_use_and_idle(tiny: TinyApplication) -> None:
    tiny.events.unlink()
    build_database(tiny.events, NOTES.replace("notes", "events"), wal=True)
    with used_by_another(tiny.notes, "PRAGMA journal_mode=WAL; INSERT INTO notes (text) VALUES ('later')"):
        before = look_at(tiny.notes.parent)
        done = unify("plan", cwd=tiny.root)
        assert done.exit_code == 0, done.told
        assert look_at(tiny.notes.parent) == before
        rows = {t["name"]: t["rows"] for s in done.answer["plan"]["sources"] for t in s["tables"]}
        assert rows == {"notes": 4, "events": 1}


def test_a_plan_says_how_long_writers_of_a_rollback_source_wait(tiny: TinyApplication) -> None:
    with closing(sqlite3.connect(tiny.notes)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
    risks = " ".join(r["sentence"] for r in unify("plan", cwd=tiny.root).answer["plan"]["risks"])
    assert "Writers of data/notes.db wait about 0.1 s while it is backed up" in risks


def test_different_encodings_are_refused_for_a_run_and_merged_without_one(tiny: TinyApplication) -> None:
    """Late rows and the way back go between attached files, which SQLite refuses here."""
    tiny.notes.unlink()
    build_database(tiny.notes, f"PRAGMA encoding='UTF-16le'; {NOTES}")
    refused = unify("plan", cwd=tiny.root)
    assert refused.exit_code == 4
    assert "data/notes.db as UTF-16le, data/events.db as UTF-8" in refused.answer["message"]
    assert "`unify-db merge`" in refused.answer["hint"]
    merged = unify("merge", tiny.notes, tiny.events, "--into", tiny.root / "merged.db")
    assert merged.exit_code == 0, merged.told
    with closing(sqlite3.connect(tiny.root / "merged.db")) as conn:
        assert conn.execute("SELECT text FROM notes").fetchall() == [("ä",)]


def test_tables_from_before_checkpoint_ns_are_refused_by_the_plan(tiny: TinyApplication) -> None:
    with closing(sqlite3.connect(tiny.events)) as conn:
        conn.execute(
            "CREATE TABLE checkpoints (thread_id TEXT, thread_ts TEXT, parent_ts TEXT, checkpoint BLOB)"
        )
    refused = unify("plan", cwd=tiny.root)
    assert refused.exit_code == 4
    assert "data/events.db holds LangGraph's table checkpoints from before" in refused.answer["message"]


def test_sources_on_another_file_system_are_moved_and_brought_back(tiny: TinyApplication) -> None:
    """There a move would be a copy, whose end drops the lock on the old file."""
    data = tiny.notes.parent
    before = {p: p.read_bytes() for p in (tiny.notes, tiny.events)}
    shutil.rmtree(data)
    with small_file_system(data, size="64m"):
        for path, content in before.items():
            path.write_bytes(content)
        done = unify("run", "--no-prefect", cwd=tiny.root)
        assert done.answer["state"] == "archived", done.told
        assert sorted(p.name for p in data.iterdir() if p.name.startswith(".")) == []
        assert b"This database moved to" in tiny.notes.read_bytes()
        back = unify("rollback", done.answer["run"], cwd=tiny.root)
        assert back.answer["state"] == "rolled_back", back.told
        with closing(sqlite3.connect(tiny.notes)) as conn:
            assert conn.execute("SELECT count(*) FROM notes").fetchone() == (3,)
        assert sorted(p.name for p in data.iterdir() if p.name.startswith(".")) == []
        tiny.stop()
