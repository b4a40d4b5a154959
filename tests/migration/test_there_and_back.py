"""Renamed and united tables through the whole run: late writes arrive, and a rollback brings all back."""

from __future__ import annotations

import sqlite3
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows import order
from flows.direct import Direct
from tests.conftest import build_database
from tests.migration.plain_move import PlainMove, execute, state
from unified_db.errors import CutoverUndoneError, RollbackError, SourceError, UsageError
from unified_db.migration import gates, phase_pages, plan, undo, union_changes
from unified_db.migration.config import load_config
from unified_db.migration.runs import create_run

CASES = Path(__file__).parents[1] / "cases"
RENAMES = [
    {"source": "app.db", "object": "users", "to": "people"},
    {"source": "app.db", "object": "by_name", "to": "app_by_name"},
    {"source": "app.db", "object": "cleaned", "to": "app_cleaned"},
]
KEYED = "CREATE TABLE t (k TEXT PRIMARY KEY, v, u UNIQUE);"


@pytest.fixture(autouse=True)
def without_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which packages an application's interpreter has is another test's matter, and takes a second.
    monkeypatch.setattr(plan, "_require_runtime", lambda _config: None)


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(sql).fetchall()


def renamed(folder: Path, case: str = "rename-with-all-that-refers-to-it") -> PlainMove:
    sources = [
        build_database(folder / f"{n}.db", (CASES / case / f"{n}.sql").read_text(), wal=True)
        for n in ("app", "other")
    ]
    return PlainMove(folder, sources, rename=RENAMES)


def united(folder: Path, one: str, two: str, *more: str, home: str = "one.db") -> PlainMove:
    names = ("one", "two", "three")
    sources = [
        build_database(folder / f"{n}.db", sql, wal=True)
        for n, sql in zip(names, (one, two, *more), strict=False)
    ]
    return PlainMove(folder, sources, union=[{"table": "t", "home": home}])


@pytest.mark.parametrize("case", ["rename-with-all-that-refers-to-it", "rename-in-the-largest-source"])
def test_renamed_tables_go_there_and_come_back_as_they_were(case: str, tmp_path: Path) -> None:
    move = renamed(tmp_path, case)
    before = [state(p) for p in move.sources]
    assert move.prepare().failures == ()
    assert move.switch() == 0
    assert query(move.target, "SELECT id, name FROM people") == [(5, "ada"), (9, "bob")]
    move.back()
    assert [state(p) for p in move.sources] == before


def test_late_rows_of_a_renamed_table_arrive_and_later_ones_return(tmp_path: Path) -> None:
    move = renamed(tmp_path)
    move.prepare()
    execute(move.sources[0], "DELETE FROM users WHERE id = 9; UPDATE users SET name = 'eda' WHERE id = 5;")
    assert move.switch() > 0
    assert query(move.target, "SELECT id, name FROM people") == [(5, "eda")]
    execute(move.target, "INSERT INTO people (name) VALUES ('new')")
    record = move.back()
    assert ("users", 1, 0, 0) in record.carried
    assert query(move.sources[0], "SELECT id, name FROM users") == [(5, "eda"), (78, "new")]
    assert query(move.sources[0], "SELECT seq FROM sqlite_sequence") == [(78,)]
    assert query(move.sources[0], "SELECT body FROM posts WHERE author = 78") == [("hello users",)]


def test_a_change_of_a_renamed_table_with_all_that_refers_to_it_goes_back(tmp_path: Path) -> None:
    move = renamed(tmp_path)
    move.prepare()
    before = state(move.sources[0])
    move.switch()
    execute(move.target, "ALTER TABLE people ADD COLUMN added")
    assert ("app.db", "table people was changed") in move.back().schema_carried
    after = state(move.sources[0])
    assert query(move.sources[0], "SELECT id, name, added FROM users") == [(5, "ada", None), (9, "bob", None)]
    others = [[row for row in found[0] if row[1] != b"users"] for found in (before, after)]
    assert others[0] == others[1]


def test_united_tables_go_there_and_come_back_as_they_were(tmp_path: Path) -> None:
    rows = "INSERT INTO t (rowid, k, v) VALUES (7, 'a', 1), (-3, 'b', -0.0);"
    move = united(
        tmp_path, KEYED + rows, KEYED + "INSERT INTO t VALUES ('c', x'00', 4), ('a', 1, NULL);", KEYED
    )
    before = [state(p) for p in move.sources]
    assert move.prepare().failures == ()
    assert move.switch() == 0
    assert query(move.target, "SELECT k FROM t ORDER BY k") == [("a",), ("b",), ("c",)]
    record = move.back()
    assert record.carried == ()
    assert [state(p) for p in move.sources] == before


def test_late_rows_of_a_united_table_arrive_from_every_source(tmp_path: Path) -> None:
    move = united(
        tmp_path,
        KEYED + "INSERT INTO t VALUES ('a', 1, 1), ('b', 1, 2);",
        KEYED + "INSERT INTO t VALUES ('c', 1, 3), ('d', 1, 4);",
    )
    move.prepare()
    execute(move.sources[0], "INSERT INTO t VALUES ('e', 2, 5); UPDATE t SET v = 3 WHERE k = 'a';")
    execute(move.sources[1], "INSERT INTO t VALUES ('f', 2, 6); DELETE FROM t WHERE k = 'c';")
    # A unique value is swapped between two rows.
    execute(
        move.sources[1],
        "INSERT INTO t VALUES ('g', 9, 9); UPDATE t SET u = 40 WHERE k = 'd';"
        "UPDATE t SET u = 4 WHERE k = 'g';",
    )
    assert move.switch() == 6
    assert query(move.target, "SELECT k, v, u FROM t ORDER BY k") == [
        ("a", 3, 1),
        ("b", 1, 2),
        ("d", 1, 40),
        ("e", 2, 5),
        ("f", 2, 6),
        ("g", 9, 4),
    ]


def test_a_row_that_two_sources_have_stays_until_both_have_lost_it(tmp_path: Path) -> None:
    rows = KEYED + "INSERT INTO t VALUES ('a', 1, 1), ('b', 1, 2);"
    move = united(tmp_path, rows, rows)
    move.prepare()
    execute(move.sources[0], "DELETE FROM t")
    execute(move.sources[1], "DELETE FROM t WHERE k = 'b'")
    assert move.switch() == 1
    assert query(move.target, "SELECT k FROM t") == [("a",)]
    move.back()
    assert query(move.sources[0], "SELECT count(*) FROM t") == [(0,)]
    assert query(move.sources[1], "SELECT k FROM t") == [("a",)]


def test_late_writes_that_differ_under_one_key_take_the_cut_over_back(tmp_path: Path) -> None:
    rows = KEYED + "INSERT INTO t VALUES ('a', 1, 1);"
    move = united(tmp_path, rows, rows)
    move.prepare()
    execute(move.sources[1], "UPDATE t SET v = 2")
    before = [state(p) for p in move.sources]
    with pytest.raises(CutoverUndoneError, match="under one key, it must be the same row"):
        move.switch()
    assert [state(p) for p in move.sources] == before
    assert not move.target.exists()


def test_what_was_written_to_a_united_table_returns_to_whom_it_belongs(tmp_path: Path) -> None:
    move = united(
        tmp_path,
        KEYED + "INSERT INTO t VALUES ('both', 1, 1), ('gone', 1, 2), ('one', 1, 3);",
        KEYED + "INSERT INTO t VALUES ('both', 1, 1), ('gone', 1, 2), ('two', 1, 4), ('key', 1, 5);",
    )
    move.prepare()
    move.switch()
    execute(
        move.target,
        "UPDATE t SET v = 2 WHERE k IN ('both', 'two'); DELETE FROM t WHERE k = 'gone';"
        "INSERT INTO t VALUES ('new', 7, 7); UPDATE t SET k = 'other key' WHERE k = 'key';",
    )
    record = move.back()
    assert record.carried == (("t", 2, 1, 1), ("t", 0, 2, 2))
    assert query(move.sources[0], "SELECT rowid, k, v FROM t ORDER BY rowid") == [
        (1, "both", 2),
        (3, "one", 1),
        (4, "new", 7),
        (5, "other key", 1),
    ]
    assert query(move.sources[1], "SELECT rowid, k, v FROM t ORDER BY rowid") == [
        (1, "both", 2),
        (3, "two", 2),
    ]


def test_carrying_a_united_table_back_twice_is_carrying_it_once(tmp_path: Path) -> None:
    move = united(
        tmp_path, KEYED + "INSERT INTO t VALUES ('a', 1, 1);", KEYED + "INSERT INTO t VALUES ('b', 1, 2);"
    )
    move.prepare()
    move.switch()
    execute(move.target, "INSERT INTO t VALUES ('new', 7, 7); DELETE FROM t WHERE k = 'b'")
    assert len(undo.carry_back(move.loaded, move.run).rows) == 2
    assert undo.carry_back(move.loaded, move.run).rows == ()
    move.back()
    assert query(move.sources[0], "SELECT k FROM t ORDER BY k") == [("a",), ("new",)]
    assert query(move.sources[1], "SELECT k FROM t") == []


@pytest.mark.parametrize("call", [1, 3, 4])
def test_a_way_back_that_stops_between_two_old_files_is_finished_by_the_next(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "INSERT INTO t VALUES ('both', 1, 1), ('gone', 1, 2);"
    move = united(tmp_path, KEYED + rows, KEYED + rows)
    move.prepare()
    move.switch()
    execute(move.target, "INSERT INTO t VALUES ('new', 7, 7); DELETE FROM t WHERE k = 'gone'")
    calls = iter(range(1, 100))  # one for each old file, then one for each part of the united table

    def stop(path: Path) -> None:
        if next(calls) == call:
            raise RollbackError("stopped here by the test")

    with monkeypatch.context() as patched:
        patched.setattr(union_changes.files, "fsync_file", stop)
        with pytest.raises(RollbackError, match="stopped here"):
            undo.carry_back(move.loaded, move.run)
    move.back()
    assert query(move.sources[0], "SELECT k FROM t ORDER BY k") == [("both",), ("new",)]
    assert query(move.sources[1], "SELECT k FROM t ORDER BY k") == [("both",)]


def test_counters_of_a_united_table_are_the_highest_and_only_an_advance_returns(tmp_path: Path) -> None:
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v);"
    move = united(
        tmp_path, table + "INSERT INTO t VALUES (3, 'x');", table + "INSERT INTO t VALUES (90, 'y');"
    )
    move.prepare()
    move.switch()
    assert query(move.target, "SELECT seq FROM sqlite_sequence") == [(90,)]
    move.back()
    assert query(move.sources[0], "SELECT seq FROM sqlite_sequence") == [(3,)]
    move.prepare()
    move.switch()
    execute(move.target, "INSERT INTO t (v) VALUES ('new')")
    move.back()
    assert query(move.sources[0], "SELECT id FROM t") == [(3,), (91,)]
    assert query(move.sources[0], "SELECT seq FROM sqlite_sequence") == [(91,)]
    assert query(move.sources[1], "SELECT seq FROM sqlite_sequence") == [(90,)]


def test_checkpoint_files_of_two_eras_are_united_and_return_with_their_own_columns(tmp_path: Path) -> None:
    case = CASES / "union-of-two-checkpoint-files"
    sources = [build_database(tmp_path / f"{n}.db", (case / f"{n}.sql").read_text()) for n in ("one", "two")]
    unions = [{"table": t, "home": "one.db"} for t in ("checkpoints", "writes")]
    move = PlainMove(tmp_path, sources, union=unions)
    before = [state(p) for p in sources]
    verdict = move.prepare()
    assert verdict.failures == ()
    assert sum("newest state of every thread" in f.check for f in verdict.findings) == 2
    move.switch()
    move.back()
    assert [state(p) for p in sources] == before, "the older file has no task_path, since no row needs it"
    move.prepare()
    move.switch()
    execute(move.target, "UPDATE writes SET task_path = '~set' WHERE thread_id = 'shared'")
    move.back()
    assert query(sources[1], "SELECT DISTINCT task_path FROM writes") == [("~set",)]


def test_a_united_table_with_an_index_that_only_one_source_has_returns_without_it(tmp_path: Path) -> None:
    move = united(
        tmp_path, KEYED, KEYED + "CREATE INDEX only_two ON t (v); INSERT INTO t VALUES ('a', 1, 1);"
    )
    before = [state(p) for p in move.sources]
    assert move.prepare().failures == ()
    move.switch()
    move.back()
    assert [state(p) for p in move.sources] == before


def test_a_run_waits_until_edits_cover_every_place_that_names_what_is_renamed(tmp_path: Path) -> None:
    move = renamed(tmp_path)
    (tmp_path / "models.py").write_text('__tablename__ = "users"\n')
    (tmp_path / "other.py").write_text('__tablename__ = "users"  # the other source\n')
    move.settings["rename"] = [{**RENAMES[0], "ignore": ["other.py"]}, *RENAMES[1:]]
    found = plan.make_plan(move.config(), create_run(move.config().state_folder))
    assert found.mentions == (("users", "models.py:1"),)
    with pytest.raises(UsageError, match=r"still names what is renamed: users at models\.py:1"):
        gates.require_covered(found)
    edit = {"file": "models.py", "kind": "text", "old": '"users"', "new": '"people"'}
    move.settings["edit"] = [edit]
    run = create_run(move.config().state_folder)
    found = plan.make_plan(move.config(), run)
    assert found.mentions == ()
    gates.require_covered(found)
    assert "users of app.db to people" in run.schema.read_text()


def test_a_dry_run_begins_no_work_while_a_place_is_not_covered(tmp_path: Path) -> None:
    move = renamed(tmp_path)
    (tmp_path / "models.py").write_text('__tablename__ = "users"\n')
    (tmp_path / "unify.toml").write_text(
        tomlkit.dumps(
            {
                "app": {"python": sys.executable},
                "source": [{"path": p.name} for p in move.sources],
                "target": {"path": "unified.db"},
                "rename": RENAMES,
            }
        )
    )
    loaded = load_config(tmp_path)
    run = order.begin(loaded, dry_run=True)
    with pytest.raises(UsageError, match="still names what is renamed"):
        order.migrate(Direct(), loaded, run, dry_run=True)
    assert list(run.backups.iterdir()) == []
    page = phase_pages.phase_markdown("plan", run)
    assert "Renamed and united" in page
    assert "models.py:1" in page


def test_a_renamed_alembic_version_table_needs_an_env_py_that_says_so(tmp_path: Path) -> None:
    sql = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num));"
    sources = [build_database(tmp_path / f"{n}.db", sql) for n in ("app", "audit")]
    env = tmp_path / "env.py"
    env.write_text("context.configure(connection=c)\n")
    rename = {"source": "audit.db", "object": "alembic_version", "to": "alembic_version_audit"}
    move = PlainMove(tmp_path, sources, rename=[rename])
    found = plan.make_plan(move.config(), create_run(move.config().state_folder))
    with pytest.raises(UsageError, match=r'env\.py, which has to say version_table="alembic_version_audit"'):
        gates.require_covered(found)
    new = 'connection=c, version_table="alembic_version_audit"'
    move.settings["edit"] = [{"file": "env.py", "kind": "text", "old": "connection=c", "new": new}]
    gates.require_covered(plan.make_plan(move.config(), create_run(move.config().state_folder)))


def test_a_lost_record_of_the_backups_stops_a_rollback_before_anything_is_carried(tmp_path: Path) -> None:
    move = united(tmp_path, KEYED + "INSERT INTO t VALUES ('a', 1, 1);", KEYED)
    move.prepare()
    move.switch()
    record = move.run.evidence / "backup.json"
    kept = record.rename(tmp_path / "kept.json")
    with pytest.raises(RollbackError, match="record of the backups"):
        move.back()
    kept.rename(record)
    move.back()
    assert query(move.sources[1], "SELECT count(*) FROM t") == [(0,)]


# ---- for all schemas -----------------------------------------------------------------------------

_NAMES = st.sampled_from(["users", "Users", "t 1", 'odd "name', "posts", "log"])
_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=5),
)
_KINDS = ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", "TEXT UNIQUE", "NUMERIC")


@st.composite
def databases(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, tuple[Any, ...]]]]:
    """Statements that make a schema in which everything refers to everything, and rows for it."""
    names = draw(st.lists(_NAMES, min_size=1, max_size=3, unique_by=str.lower))
    schema, rows = [], []
    for name in names:
        table = sqlite_name(name)
        kind = draw(st.sampled_from(_KINDS))
        parent = sqlite_name(draw(st.sampled_from(names)))
        schema.append(f"CREATE TABLE {table} (a {kind}, b, c REFERENCES {parent})")
        schema.append(f"CREATE INDEX {sqlite_name('ix ' + name)} ON {table} (b, a)")
        schema.append(f"CREATE VIEW {sqlite_name('v ' + name)} AS SELECT x.b FROM {table} x, {parent} AS y")
        schema.append(
            f"CREATE TRIGGER {sqlite_name('tr ' + name)} AFTER DELETE ON {table} "
            f"BEGIN UPDATE {parent} SET b = old.b WHERE a IN (SELECT {table}.a FROM {table}); END"
        )
        for number in range(draw(st.integers(0, 3))):
            key = number * 7 + 1 if "KEY" in kind else draw(_VALUES)
            rows.append(
                (f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)", (key, draw(_VALUES), draw(_VALUES)))
            )
    return schema, rows


def sqlite_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def build(path: Path, content: tuple[list[str], list[tuple[str, tuple[Any, ...]]]]) -> Path:
    with closing(sqlite3.connect(path)) as conn, conn:
        for sql in content[0]:
            conn.execute(sql)
        for sql, values in content[1]:
            conn.execute(sql, values)
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=databases(), two=databases(), written=st.lists(_VALUES, max_size=2))
def test_whatever_collides_can_be_renamed_and_returns_exactly(
    one: Any, two: Any, written: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    sources = [build(folder / "one.db", one), build(folder / "two.db", two)]
    move = PlainMove(folder, sources)
    try:
        move.prepare()
    except SourceError as error:
        move.settings["rename"] = tomllib.loads(error.hint.partition(":\n")[2])["rename"]
        assert move.prepare().failures == ()
    before = [state(p) for p in sources]
    move.switch()
    now = {(r["source"], r["object"].lower()): r["to"] for r in move.settings.get("rename", [])}
    tables = [(p, name) for p, found in zip(sources, before, strict=True) for name in found[1]]
    own = [(p, n, now.get((p.name, n.lower()), n)) for p, n in tables if not n.startswith("sqlite_")]
    with closing(sqlite3.connect(move.target)) as conn, conn:
        for value in written:
            for _, _, table in own:
                conn.execute(f"UPDATE {sqlite_name(table)} SET b = ? WHERE rowid % 2", (value,))
                conn.execute(f"DELETE FROM {sqlite_name(table)} WHERE rowid % 5 = 3")
    unified = state(move.target)[1]
    move.back()
    after = [state(p) for p in sources]
    if not written:
        assert after == before
    assert [found[0] for found in after] == [found[0] for found in before]
    for path, old, table in own:
        assert after[sources.index(path)][1][old] == unified[table]
