"""The proof is itself proven: every kind of damage closes the gate and its place is named."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from unified_db import files
from unified_db.migration import backup, merge, validate
from unified_db.migration.backup import PlainSource
from unified_db.migration.records import Backups, UnifiedFile

APP = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, note, n NUMERIC);
CREATE INDEX by_name ON users (name);
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER noted AFTER INSERT ON users BEGIN UPDATE users SET n = 1 WHERE id = new.id; END;
INSERT INTO users VALUES (1, 'ada', 1, 1), (2, 'bob', NULL, 2), (3, 'eve', -0.0, 3), (4, 'kim', 'text', 4);
CREATE TABLE log (line, place);
INSERT INTO log VALUES ('a', 'b'), ('c', 'd');
CREATE TABLE keyed (k TEXT PRIMARY KEY COLLATE NOCASE, v) WITHOUT ROWID;
INSERT INTO keyed VALUES ('one', 1), ('two', 2);
"""

DAMAGE = [
    pytest.param("UPDATE users SET note = 1.0 WHERE id = 1", "users: .*rowid 1 .note", id="1-becomes-1.0"),
    pytest.param("UPDATE users SET name = 'ADA' WHERE id = 1", "rowid 1 .name", id="case-under-nocase"),
    pytest.param("UPDATE users SET note = 0.0 WHERE id = 3", "rowid 3 .note", id="minus-zero-loses-its-sign"),
    pytest.param("UPDATE users SET note = '' WHERE id = 2", "rowid 2 .note", id="null-becomes-empty"),
    pytest.param("UPDATE users SET note = note || char(0) WHERE id = 4", "rowid 4 .note", id="trailing-nul"),
    pytest.param(
        "UPDATE users SET note = CAST(note AS BLOB) WHERE id = 4", "rowid 4", id="text-becomes-blob"
    ),
    pytest.param("DELETE FROM users WHERE id = 2", "missing rowid 2", id="a-row-lost"),
    pytest.param("INSERT INTO log VALUES ('a', 'b')", "extra rowid 3", id="a-row-doubled"),
    pytest.param("UPDATE log SET rowid = 9 WHERE rowid = 1", "missing rowid 1", id="moved-to-another-rowid"),
    pytest.param(
        "UPDATE log SET line = place, place = line", "rowid 1 .line, place", id="two-columns-swapped"
    ),
    pytest.param("UPDATE keyed SET k = 'ONE' WHERE k = 'one'", "keyed: .*changed key", id="case-of-a-key"),
    pytest.param("DELETE FROM keyed WHERE k = 'two'", "keyed: .*missing key", id="a-keyed-row-lost"),
    pytest.param("UPDATE sqlite_sequence SET seq = 1", "counters.*users", id="a-sequence-reset"),
    pytest.param("DROP INDEX by_name", "index by_name", id="an-index-lost"),
    pytest.param("DROP TRIGGER noted", "trigger noted", id="a-trigger-lost"),
    pytest.param(
        "DROP VIEW names; CREATE VIEW names AS SELECT id FROM users", "view names", id="a-view-changed"
    ),
    pytest.param("CREATE TABLE stranger (x)", "stranger", id="a-table-nobody-had"),
    pytest.param("DROP TABLE log", "log", id="a-table-lost"),
    pytest.param("PRAGMA user_version = 9", "user_version", id="user-version"),
    pytest.param(
        "UPDATE checkpoints SET checkpoint = CAST(substr(checkpoint, 1, 9) || x'00' || substr(checkpoint, 11)"
        " AS BLOB) WHERE rowid = 2",
        "checkpoints: .*rowid 2 .checkpoint",
        id="a-byte-in-a-checkpoint",
    ),
    pytest.param("DELETE FROM writes WHERE rowid = 1", "writes: .*missing rowid 1", id="a-write-lost"),
]


async def _converse(path: Path) -> None:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        for thread in ("a", "b"):
            config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
            for _ in range(3):
                checkpoint = empty_checkpoint() | {"channel_values": {"messages": ["hello"] * 20}}
                config = await saver.aput(config, checkpoint, {"step": 1}, {})
                await saver.aput_writes(config, [("messages", "x")], "task")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backups, UnifiedFile]:
    folder = tmp_path_factory.mktemp("merged")
    with closing(sqlite3.connect(folder / "app.db")) as conn:
        conn.executescript(APP)
    asyncio.run(_converse(folder / "memory.db"))
    (folder / "backup").mkdir()
    sources = [PlainSource(folder / "app.db", "app.db"), PlainSource(folder / "memory.db", "memory.db")]
    backups = backup.take_backups(sources, folder / "backup")
    return backups, merge.merge_backups(backups, folder / "unified.db")


@pytest.fixture
def unified(merged: tuple[Backups, UnifiedFile], tmp_path: Path) -> UnifiedFile:
    """A copy of the unified file that the test may damage."""
    copy = tmp_path / "unified.db"
    shutil.copyfile(merged[1].path, copy)
    return merged[1].model_copy(update={"path": copy})


def test_an_undamaged_file_is_open_and_every_table_was_checked(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile
) -> None:
    verdict = validate.validate(merged[0], unified)
    assert verdict.failures == ()
    checked = {f.where.split(": ")[1] for f in verdict.findings if f.check == "every row and cell"}
    assert checked == {"users", "log", "keyed", "checkpoints", "writes"}
    assert any("newest state of every thread" in f.check for f in verdict.findings)


@pytest.mark.parametrize(("sql", "place"), DAMAGE)
def test_damage_closes_the_gate_and_is_named(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile, sql: str, place: str
) -> None:
    import re

    with closing(sqlite3.connect(unified.path)) as conn:
        conn.executescript(sql)
    verdict = validate.validate(merged[0], unified)
    assert not verdict.passed
    said = "\n".join(f"{f.check} {f.where}: {f.measured}" for f in verdict.failures)
    assert re.search(place, said, re.DOTALL), said


def test_a_value_is_never_part_of_a_finding(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile
) -> None:
    with closing(sqlite3.connect(unified.path)) as conn:
        conn.execute("UPDATE users SET name = 'sk-SECRET-4711'")
        conn.execute("UPDATE keyed SET k = 'sk-SECRET-4711' WHERE k = 'one'")
        conn.commit()
    text = validate.validate(merged[0], unified).model_dump_json()
    assert "SECRET" not in text
    assert "ada" not in text


def test_a_damaged_backup_closes_the_gate(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile, tmp_path: Path
) -> None:
    item = merged[0].items[0]
    copy = tmp_path / "app.db"
    shutil.copyfile(item.path, copy)
    with closing(sqlite3.connect(copy)) as conn, conn:
        conn.execute("UPDATE users SET n = 9")
    backups = merged[0].model_copy(
        update={"items": (item.model_copy(update={"path": copy}), *merged[0].items[1:])}
    )
    assert files.digest_file(copy) != item.sha256
    failed = {f.check for f in validate.validate(backups, unified).failures}
    assert "backup is as it was taken" in failed
