"""The proof is itself proven: every kind of damage closes the gate and its place is named."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import backwards
from unified_db import files
from unified_db.migration import backup, merge, validate
from unified_db.migration.backup import PlainSource
from unified_db.migration.records import Backups, UnifiedFile

APP = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, note, n NUMERIC);
CREATE INDEX by_name ON users (name);
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER noted AFTER INSERT ON users BEGIN UPDATE users SET n = 1 WHERE id = new.id; END;
INSERT INTO users VALUES
    (1, 'Ada Lovelace', 1, 1), (2, 'bob', NULL, 2), (3, 'eve', -0.0, 3), (4, 'kim', 'text', 4);
CREATE TABLE log (line, place);
INSERT INTO log VALUES ('a', 'b'), ('c', 'd');
CREATE TABLE keyed (k TEXT PRIMARY KEY COLLATE NOCASE, v) WITHOUT ROWID;
INSERT INTO keyed VALUES ('one', 1), ('two', 2);
CREATE INDEX keyed_covered ON keyed (v, k);
CREATE TABLE files (id INTEGER PRIMARY KEY, body BLOB, size AS (length(body)) STORED, name AS ('f' || id));
INSERT INTO files (id, body) VALUES (1, randomblob(5000)), (2, x''), (3, zeroblob(3));
CREATE TABLE narrow (only);
INSERT INTO narrow VALUES (1);
CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES users (id));
INSERT INTO child VALUES (1, 1), (2, 99);
INSERT INTO sqlite_sequence VALUES ('gone', 4);
ANALYZE;
PRAGMA application_id = 77;
"""
PADDING = "CREATE TABLE padding (b BLOB); INSERT INTO padding VALUES (zeroblob(400000));"

DAMAGE = [
    pytest.param("UPDATE users SET note = 1.0 WHERE id = 1", "users: .*rowid 1 .note", id="1-becomes-1.0"),
    pytest.param("UPDATE users SET name = 'ADA' WHERE id = 1", "rowid 1 .name", id="case-under-nocase"),
    pytest.param("UPDATE users SET note = 0.0 WHERE id = 3", "rowid 3 .note", id="minus-zero-loses-its-sign"),
    pytest.param("UPDATE users SET note = '' WHERE id = 2", "rowid 2 .note", id="null-becomes-empty"),
    pytest.param("UPDATE users SET note = note || char(0) WHERE id = 4", "rowid 4 .note", id="trailing-nul"),
    pytest.param(
        "UPDATE users SET note = CAST(note AS BLOB) WHERE id = 4", "rowid 4", id="text-becomes-blob"
    ),
    pytest.param("UPDATE narrow SET only = '1'", "narrow: .*rowid 1 .only", id="the-only-column"),
    pytest.param("DELETE FROM users WHERE id = 2", "missing rowid 2", id="a-row-lost"),
    pytest.param("INSERT INTO log VALUES ('a', 'b')", "extra rowid 3", id="a-row-doubled"),
    pytest.param("UPDATE log SET rowid = 9 WHERE rowid = 1", "missing rowid 1", id="moved-to-another-rowid"),
    pytest.param(
        "UPDATE log SET line = place, place = line", "rowid 1 .line, place", id="two-columns-swapped"
    ),
    pytest.param("UPDATE keyed SET k = 'ONE' WHERE k = 'one'", "keyed: .*changed key", id="case-of-a-key"),
    pytest.param("DELETE FROM keyed WHERE k = 'two'", "keyed: .*missing key", id="a-keyed-row-lost"),
    pytest.param("UPDATE sqlite_sequence SET seq = 1", "counters.*users", id="a-sequence-reset"),
    pytest.param(
        "UPDATE sqlite_sequence SET seq = 4.0 WHERE name = 'users'",
        "counters.*users",
        id="a-sequence-becomes-a-real",
    ),
    pytest.param("INSERT INTO sqlite_sequence VALUES ('users', 9)", "counters.*users", id="a-sequence-twice"),
    pytest.param("DELETE FROM sqlite_sequence WHERE name = 'gone'", "counters.*gone", id="an-orphan-lost"),
    pytest.param(
        "DELETE FROM sqlite_stat1 WHERE idx = 'by_name'", "stat1.*users.by_name", id="a-statistic-lost"
    ),
    pytest.param(
        "UPDATE sqlite_stat1 SET stat = '1 1'", "stat1.*keyed.keyed_covered", id="a-statistic-changed"
    ),
    pytest.param("DROP TABLE sqlite_stat1", "stat1.*keyed.keyed_covered", id="all-statistics-lost"),
    pytest.param(
        "UPDATE files SET body = CAST(substr(body, 1, 4000) || x'00' || substr(body, 4002) AS BLOB)"
        " WHERE id = 1",
        "files: .*rowid 1 .body",
        id="a-byte-in-a-blob",
    ),
    pytest.param(
        "UPDATE files SET body = NULL WHERE id = 2", "files: .*rowid 2 .body", id="blob-becomes-null"
    ),
    pytest.param(
        "UPDATE files SET body = x'0000' WHERE id = 3", "files: .*rowid 3 .body", id="a-blob-shortened"
    ),
    pytest.param("UPDATE files SET body = '' WHERE id = 2", "files: .*rowid 2 .body", id="blob-becomes-text"),
    pytest.param("UPDATE users SET note = NULL WHERE id = 4", "rowid 4 .note", id="text-becomes-null"),
    pytest.param("UPDATE users SET note = '1' WHERE id = 1", "rowid 1 .note", id="1-becomes-text"),
    pytest.param("UPDATE users SET n = n + 1e-9 WHERE id = 2", "rowid 2 .n", id="2-becomes-almost-2"),
    pytest.param(
        "INSERT INTO users (id, name) VALUES (9, 'new')", "users: .*extra rowid 9", id="an-extra-row"
    ),
    pytest.param("INSERT INTO keyed VALUES ('new', 3)", "keyed: .*extra key", id="an-extra-keyed-row"),
    pytest.param("UPDATE keyed SET v = 1.0 WHERE k = 'one'", "keyed: .*changed key .*v", id="a-keyed-cell"),
    pytest.param("DROP TABLE child; CREATE TABLE child (x)", "child", id="a-table-made-anew"),
    pytest.param(
        "UPDATE child SET parent = 98 WHERE id = 1", "child: 2 instead of 1", id="a-reference-broken"
    ),
    pytest.param("PRAGMA application_id = 78", "application_id", id="application-id"),
    pytest.param(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema"
        " SET sql = replace(sql, 'length(body)', 'length(id)') WHERE name = 'files'",
        "table files",
        id="a-generated-column-redefined",
    ),
    pytest.param(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema"
        " SET sql = replace(sql, 'NOCASE, note', 'BINARY, note') WHERE name = 'users'",
        "table users",
        id="a-collation-redefined",
    ),
    pytest.param("DROP VIEW names", "view names", id="a-view-lost"),
    pytest.param(
        "DROP INDEX by_name; CREATE INDEX by_name ON users (id)", "index by_name", id="another-index"
    ),
    pytest.param("CREATE INDEX more ON users (id)", "index more", id="an-index-nobody-had"),
    pytest.param(
        "DROP TRIGGER noted; CREATE TRIGGER noted AFTER INSERT ON users BEGIN SELECT 1; END",
        "trigger noted",
        id="a-trigger-changed",
    ),
    pytest.param(
        "UPDATE users SET id = 40 WHERE id = 4", "missing rowid 4.*extra rowid 40", id="an-id-changed"
    ),
    pytest.param(
        "UPDATE checkpoints SET parent_checkpoint_id = checkpoint_id WHERE rowid = 2",
        "checkpoints: .*rowid 2 .parent_checkpoint_id",
        id="a-parent-changed",
    ),
    pytest.param(
        """UPDATE checkpoints SET metadata = CAST('{"step": 1, "source": "x"}' AS BLOB) WHERE rowid = 3""",
        "checkpoints: .*rowid 3 .metadata",
        id="metadata-in-another-order",
    ),
    pytest.param("UPDATE checkpoints SET type = 'json' WHERE rowid = 1", "rowid 1 .type", id="another-type"),
    pytest.param(
        "UPDATE writes SET idx = idx + 10 WHERE rowid = 1", "writes: .*rowid 1 .idx", id="a-write-moved"
    ),
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
                config = await saver.aput(config, checkpoint, {"source": "x", "step": 1}, {})
                await saver.aput_writes(config, [("messages", "x")], "task")


@pytest.fixture(
    scope="module", params=["application-by-pages", "application-appended", "application-by-rows"]
)
def merged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Backups, UnifiedFile]:
    """All ways in which a file is carried: the larger by its pages, the other tree by tree or row by row."""
    folder = tmp_path_factory.mktemp("merged")
    with closing(sqlite3.connect(folder / "app.db")) as conn:
        if request.param == "application-by-rows":
            # Not that of the other file.
            conn.execute("PRAGMA page_size=8192")
        conn.executescript(APP)
    asyncio.run(_converse(folder / "memory.db"))
    larger = "app.db" if request.param == "application-by-pages" else "memory.db"
    with closing(sqlite3.connect(folder / larger)) as conn:
        conn.executescript(PADDING)
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
    assert checked == {
        "users",
        "log",
        "keyed",
        "files",
        "child",
        "narrow",
        "padding",
        "checkpoints",
        "writes",
    }
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
    verdict = validate.validate(merged[0], unified)
    assert [f.where for f in verdict.failures] == ["app.db: users", "app.db: keyed"]
    text = verdict.model_dump_json()
    assert "SECRET" not in text
    assert "Ada Lovelace" not in text  # "ada" alone can stand in a digest


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


@pytest.mark.parametrize("bit", [0, 7, 23, 31])
def test_one_bit_of_a_blob(merged: tuple[Backups, UnifiedFile], unified: UnifiedFile, bit: int) -> None:
    """The bit is turned in the file itself, as a disk would do it, where no checksum is."""
    with closing(sqlite3.connect(unified.path)) as conn:
        (body,) = conn.execute("SELECT body FROM files WHERE id = 1").fetchone()
        conn.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(unified.path.read_bytes())
    # A piece of the blob that lies whole on one page.
    place = content.index(body[1000:1004]) + bit // 8
    content[place] ^= 1 << (bit % 8)
    unified.path.write_bytes(content)
    failures = validate.validate(merged[0], unified).failures
    assert [f.measured for f in failures] == ["changed rowid 1 (body)"]


def test_a_row_that_a_covering_index_does_not_have(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile
) -> None:
    """SQLite likes to read the index instead of the table, and would never see the row."""
    with closing(sqlite3.connect(unified.path)) as conn:
        conn.execute("PRAGMA writable_schema=ON")
        entry = conn.execute("SELECT * FROM sqlite_schema WHERE name = 'keyed_covered'").fetchone()
        conn.execute("DELETE FROM sqlite_schema WHERE name = 'keyed_covered'")
        conn.execute("PRAGMA writable_schema=RESET")
        conn.execute("INSERT INTO keyed VALUES ('three', 3)")
        conn.execute("PRAGMA writable_schema=ON")
        conn.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", entry)
        conn.execute("PRAGMA writable_schema=RESET")
        conn.commit()
        assert len(conn.execute("SELECT * FROM keyed").fetchall()) == 2, "the index answers"
    said = "\n".join(f.measured for f in validate.validate(merged[0], unified).failures)
    assert "extra key" in said
    assert "missing from index keyed_covered" in said or "wrong # of entries in index" in said


def test_a_stored_generated_value_is_compared(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile
) -> None:
    """What is stored can differ although all that it is computed from is the same."""
    with closing(sqlite3.connect(unified.path)) as conn:
        sql = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'files'").fetchone()[0]
        for text in (sql.replace("length(body)", "12345"), sql):
            conn.execute("PRAGMA writable_schema=ON")
            conn.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'files'", (text,))
            conn.execute("PRAGMA writable_schema=RESET")
            if text != sql:
                conn.execute("UPDATE files SET id = id")
            conn.commit()
    said = [f.measured for f in validate.validate(merged[0], unified).failures]
    assert any("changed rowid 1 (size)" in m for m in said), said


def test_a_digest_of_a_key_cannot_be_guessed_but_finds_the_row(
    merged: tuple[Backups, UnifiedFile], unified: UnifiedFile
) -> None:
    import hashlib

    with closing(sqlite3.connect(unified.path)) as conn:
        conn.execute("DELETE FROM keyed WHERE k = 'two'")
        conn.commit()
    (place,) = [f.measured for f in validate.validate(merged[0], unified).failures if "key" in f.measured]
    assert "number 2 in the order of the key" in place
    for guess in ("two", "('two',)", "(b'two',)"):
        assert hashlib.sha256(guess.encode()).hexdigest()[:12] not in place


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        pytest.param("UPDATE k SET v = 1.0 WHERE k = 'xa'", r"k: changed row number \d .*\(v\)", id="1.0"),
        pytest.param("UPDATE k SET v = x'' WHERE k = 'mm'", r"k: changed row number \d .*\(v\)", id="blob"),
        pytest.param("DELETE FROM k WHERE k = 'mm'", r"k: .*missing row number 3", id="a-row-lost"),
        pytest.param("INSERT INTO k VALUES ('zzz', 1)", r"k: extra row number 4", id="an-extra-row"),
        pytest.param("UPDATE t SET n = 0.0 WHERE id = 3", r"t: changed rowid 3 \(n\)", id="minus-zero"),
        pytest.param("UPDATE t SET name = 'ab ' WHERE id = 1", r"t: changed rowid 1 \(name\)", id="its-key"),
    ],
)
def test_damage_in_the_order_of_a_collation_that_only_the_application_has(
    tmp_path: Path, sql: str, place: str
) -> None:
    import re
    import runpy

    case = Path(__file__).parent.parent / "cases" / "collation-that-is-not-here" / "app.py"
    runpy.run_path(str(case))["build"](tmp_path / "app.db")
    (tmp_path / "backup").mkdir()
    backups = backup.take_backups([PlainSource(tmp_path / "app.db", "app.db")], tmp_path / "backup")
    unified = merge.merge_backups(backups, tmp_path / "unified.db")
    verdict = validate.validate(backups, unified)
    assert verdict.failures == ()
    assert any("only the structure" in f.measured for f in verdict.findings)
    with closing(sqlite3.connect(unified.path)) as conn:
        conn.create_collation("BACKWARDS", backwards)
        conn.execute(sql)
        conn.commit()
    said = "\n".join(f"{f.where}: {f.measured}" for f in validate.validate(backups, unified).failures)
    assert re.search(place, said), said
