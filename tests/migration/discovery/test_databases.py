import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import look_at, used_by_another
from tests.migration.discovery.trees import (
    ALEMBIC,
    BEFORE_NAMESPACES,
    BEFORE_TASK_PATH,
    CHECKPOINTS,
    NOTES,
    STORE,
    plant,
    plant_databases,
)
from unified_db.migration.discovery.databases import find_databases


def find_one(root: Path, name: str, sql: str):
    plant_databases(root, {name: sql})
    (found,) = find_databases(root)
    assert str(found.path) == name
    return found


@pytest.mark.parametrize(
    ("sql", "kind", "era", "said"),
    [
        pytest.param(CHECKPOINTS, "checkpoints", "current", "LangGraph's tables", id="checkpoints"),
        pytest.param(
            BEFORE_TASK_PATH, "checkpoints", "before task_path", "before task_path", id="old-checkpoints"
        ),
        pytest.param(
            BEFORE_NAMESPACES,
            "checkpoints",
            "before checkpoint_ns",
            "before checkpoint_ns",
            id="too-old-checkpoints",
        ),
        pytest.param(CHECKPOINTS + STORE, "checkpoints", "current", "store", id="checkpoints-and-store"),
        pytest.param(STORE, "store", "", "LangGraph's table store", id="a-store"),
        pytest.param(NOTES, "application", "", "notes", id="an-application"),
        pytest.param(
            NOTES + CHECKPOINTS, "application", "current", "and tables of an application", id="both"
        ),
        pytest.param(
            "CREATE TABLE checkpoints (id INTEGER, city TEXT)",
            "application",
            "",
            "its table checkpoints is the application's own",
            id="a-business-table-called-checkpoints",
        ),
    ],
)
def test_a_file_is_told_by_what_is_in_it(tmp_path, sql, kind, era, said):
    found = find_one(tmp_path, "data/any.bin", sql)
    assert (found.kind, found.era, found.decoy, found.problem) == (kind, era, "", "")
    assert said in "; ".join(found.why)


def test_alembics_schema_is_told_from_one_without(tmp_path):
    plant_databases(tmp_path, {"a.db": ALEMBIC, "b.db": NOTES})
    assert [f.alembic for f in find_databases(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    ("name", "sql", "said"),
    [
        pytest.param("checkpoints.db", NOTES, "LangGraph's tables are not in it", id="named-checkpoints"),
        pytest.param("test.db", NOTES, "a test database", id="a-test-database"),
        pytest.param("tests/data/app.db", NOTES, "a test database", id="in-the-tests"),
        pytest.param("app.db.bak", NOTES, "an old copy", id="a-copy-by-its-end"),
        pytest.param("app_20240131.db", NOTES, "an old copy", id="a-copy-by-its-date"),
        pytest.param("backups/app.db", NOTES, "an old copy", id="in-a-folder-of-backups"),
        pytest.param(
            "chroma.sqlite3",
            "CREATE TABLE embeddings (id); CREATE TABLE collections (id); CREATE TABLE segments (id)",
            "Chroma",
            id="a-vector-store",
        ),
        pytest.param("x.db", "CREATE TABLE full_llm_cache (prompt)", "cache", id="a-cache"),
        pytest.param("x.db", "CREATE TABLE t (a); DROP TABLE t", "no tables", id="no-tables"),
    ],
)
def test_a_decoy_is_told_as_one_with_the_reason(tmp_path, name, sql, said):
    assert said in find_one(tmp_path, name, sql).decoy


@pytest.mark.parametrize("name", ["latest.db", "contest.sqlite", "attestation.db", "folder.db"])
def test_a_word_that_only_holds_such_a_name_is_no_decoy(tmp_path, name):
    assert find_one(tmp_path, name, NOTES).decoy == ""


def test_an_empty_file_with_a_databases_name_is_told(tmp_path):
    (tmp_path / "app.db").touch()
    (tmp_path / "empty.txt").touch()
    (found,) = find_databases(tmp_path)
    assert "empty" in found.decoy


def test_what_only_the_wal_holds_is_counted(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA wal_autocheckpoint=0")
        conn.executescript(NOTES)
        conn.commit()
        kept = {p.name: p.read_bytes() for p in tmp_path.iterdir() if not p.name.endswith("-shm")}
    other = tmp_path / "crashed"
    other.mkdir()
    for name, content in kept.items():
        (other / name).write_bytes(content)
    (found,) = find_databases(other)
    assert (found.tables, found.rows) == (1, 2)
    assert found.table_names == ("notes",)


def test_a_wal_without_its_file_is_told_as_a_problem(tmp_path):
    (tmp_path / "app.db-wal").write_bytes(b"x" * 64)
    (found,) = find_databases(tmp_path)
    assert "its WAL app.db-wal is there" in found.problem


def test_what_no_database_can_be_read_from_is_told_as_a_problem(tmp_path):
    (tmp_path / "app.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 50)
    (found,) = find_databases(tmp_path)
    assert "truncated" in found.problem


def test_tools_and_environments_are_passed_over(tmp_path):
    places = (".git/a.db", "node_modules/b.db", ".unify-db/c.db", "env/d.db")
    plant_databases(tmp_path, dict.fromkeys(places, NOTES))
    plant(tmp_path, {"env/pyvenv.cfg": ""})
    assert find_databases(tmp_path) == ()


def test_a_database_in_use_is_read_without_a_trace(tmp_path):
    plant_databases(tmp_path, {"app.db": NOTES})
    with used_by_another(
        tmp_path / "app.db", "PRAGMA journal_mode=WAL; INSERT INTO notes (text) VALUES ('c')"
    ):
        before = look_at(tmp_path)
        (found,) = find_databases(tmp_path)
        assert found.rows == 3
        assert look_at(tmp_path) == before
