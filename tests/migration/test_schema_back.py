"""A schema that changed since the switch goes back with the rows, into the one old file that it is of."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.sqlite import SqliteStore

from tests.conftest import build_database
from tests.migration.plain_move import PlainMove, execute, state
from unified_db import files
from unified_db.errors import RollbackError
from unified_db.migration import changes, plan, schema_changes, undo
from unified_db.migration.journal import Journal
from unified_db.migration.records import RollbackRecord

APP = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, extra);
CREATE INDEX by_text ON notes (text);
CREATE TABLE log (what TEXT);
CREATE TRIGGER logged AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.text); END;
CREATE VIEW texts AS SELECT text FROM notes;
INSERT INTO notes VALUES (1, 'a', 1), (7, 'b', -0.0), (9, NULL, x'00');
DELETE FROM log WHERE what = 'a';
"""
OTHER = """
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT UNIQUE);
CREATE VIEW newest AS SELECT max(id) FROM events;
INSERT INTO events VALUES (5, 'x'), (90, 'y'); DELETE FROM events WHERE id = 90;
"""
BATCH = """
CREATE TABLE _alembic_tmp_notes (id INTEGER NOT NULL PRIMARY KEY, text VARCHAR(10), size REAL DEFAULT 1.5);
INSERT INTO _alembic_tmp_notes (id, text) SELECT id, text FROM notes;
DROP TABLE notes;
ALTER TABLE _alembic_tmp_notes RENAME TO notes;
CREATE INDEX by_text ON notes (text, size);
"""
Kinds = tuple[str, str]


@pytest.fixture(autouse=True)
def without_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which packages an application's interpreter has is another test's matter, and takes a second.
    monkeypatch.setattr(plan, "_require_runtime", lambda _config: None)


def switched(
    folder: Path, app: str = APP, other: str = OTHER, *, kinds: Kinds = ("application", "other"), **more: Any
) -> PlainMove:
    """Two databases that one file has replaced."""
    sources = [
        build_database(folder / f"{name}.db", sql, wal=True) for name, sql in (("app", app), ("other", other))
    ]
    listed = [{"path": p.name, "kind": kind} for p, kind in zip(sources, kinds, strict=True)]
    move = PlainMove(folder, sources, source=listed, **more)
    assert move.prepare().failures == ()
    move.switch()
    return move


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(sql).fetchall()


def objects(paths: Sequence[Path]) -> list[tuple[Any, ...]]:
    """Everything that the schemas of *paths* define, SQLite's own left out."""
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    return sorted(row for path in paths for row in query(path, sql))


def rows(paths: Sequence[Path]) -> dict[str, list[tuple[Any, ...]]]:
    """Every cell of every table of *paths*, and every counter."""
    found = [state(path)[1] for path in paths]
    tables = {name: cells for each in found for name, cells in each.items() if name != "sqlite_sequence"}
    counters = [row for path in paths for row in _counters(path)]
    return {**tables, "sqlite_sequence": sorted(counters)}


def _counters(path: Path) -> list[tuple[Any, ...]]:
    if not query(path, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'"):
        return []
    return query(path, "SELECT name, seq FROM sqlite_sequence")


def go_back(move: PlainMove) -> RollbackRecord:
    """Roll back, and see that the old files hold together what the unified file held."""
    wanted = objects([move.target]), rows([move.target])
    record = move.back()
    assert all(f.passed for f in record.findings)
    assert objects(move.sources) == wanted[0]
    assert rows(move.sources) == wanted[1]
    return record


def tables_of(path: Path) -> set[str]:
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return {name for (name,) in query(path, sql)}


CARRIED = [
    pytest.param(
        "ALTER TABLE notes ADD COLUMN tag TEXT NOT NULL DEFAULT 'x'; UPDATE notes SET tag = 'y' WHERE id = 7",
        "app.db: table notes was changed",
        id="a-column-more",
    ),
    pytest.param(
        "ALTER TABLE notes RENAME COLUMN text TO body; INSERT INTO notes (body) VALUES ('new');",
        "app.db: view texts was changed",
        id="a-column-under-another-name-in-index-view-and-trigger",
    ),
    pytest.param(
        "ALTER TABLE notes DROP COLUMN extra", "app.db: table notes was changed", id="a-column-less"
    ),
    pytest.param(
        "DROP TRIGGER logged; DROP VIEW texts;" + BATCH,
        "app.db: trigger logged is gone",
        id="a-table-that-alembic-made-anew",
    ),
    pytest.param(
        "CREATE TABLE tags (id INTEGER PRIMARY KEY AUTOINCREMENT, name); INSERT INTO tags VALUES (40, 'x');"
        "DELETE FROM tags; INSERT INTO tags (name) VALUES ('y');",
        "app.db: table tags is new",
        id="a-new-table-that-refers-to-nothing-and-its-counter",
    ),
    pytest.param(
        "CREATE TABLE seen (event REFERENCES events, at); CREATE INDEX by_at ON seen (at DESC);"
        "CREATE TABLE seers (seen REFERENCES seen, who); INSERT INTO seen VALUES (5, 1.0);",
        "other.db: table seers is new",
        id="new-tables-go-where-their-foreign-keys-lead",
    ),
    pytest.param(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name);"
        "CREATE TABLE seen (event REFERENCES events, by REFERENCES people);",
        "other.db: table people is new",
        id="a-new-table-goes-with-the-one-that-refers-to-it",
    ),
    pytest.param(
        "ALTER TABLE events RENAME TO happenings; INSERT INTO happenings (text) VALUES ('z');",
        "other.db: table happenings is new",
        id="a-table-under-another-name-stays-in-its-file",
    ),
    pytest.param(
        "ALTER TABLE events ADD COLUMN more; ALTER TABLE events RENAME TO happenings",
        "other.db: view newest was changed",
        id="a-table-that-what-was-there-before-refers-to-now",
    ),
    pytest.param("DROP TABLE log; DROP TRIGGER logged;", "app.db: table log is gone", id="a-table-less"),
    pytest.param(
        "DROP INDEX by_text; CREATE UNIQUE INDEX by_text ON notes (text COLLATE NOCASE) WHERE id > 1;"
        "CREATE INDEX by_length ON events (length(text));",
        "other.db: index by_length is new",
        id="indexes",
    ),
    pytest.param(
        "CREATE TRIGGER counted AFTER UPDATE OF text ON events WHEN new.text <> old.text "
        "BEGIN INSERT INTO events (text) SELECT 'of ' || t FROM (SELECT text AS t FROM events LIMIT 1); END",
        "other.db: trigger counted is new",
        id="a-trigger",
    ),
    pytest.param(
        "DROP VIEW texts; CREATE VIEW texts AS SELECT id, text FROM notes;"
        "CREATE TRIGGER written INSTEAD OF INSERT ON texts BEGIN INSERT INTO log VALUES (new.text); END;"
        "CREATE TRIGGER cut INSTEAD OF DELETE ON texts BEGIN DELETE FROM log WHERE what = old.text; END;"
        "CREATE VIEW deep AS SELECT * FROM texts JOIN log ON what = text; INSERT INTO texts VALUES (1, 'w');",
        "app.db: trigger written is new",
        id="views-with-triggers",
    ),
    pytest.param(
        "CREATE TABLE strict_one (a ANY, b INT, c TEXT AS (a || b) STORED, PRIMARY KEY (b, a)) STRICT, "
        "WITHOUT ROWID; INSERT INTO strict_one VALUES ('1', 1), (1, 1), (1.0, 2);"
        "CREATE TABLE checked (x CHECK (x > 1)); PRAGMA ignore_check_constraints=ON;"
        "INSERT INTO checked (rowid, x) VALUES (-5, 0), (9223372036854775807, 2);",
        "app.db: table strict_one is new",
        id="strict-without-rowid-generated-and-broken-checks",
    ),
    pytest.param(
        "CREATE VIRTUAL TABLE found USING fts5 (text, content='events', content_rowid='id');"
        "INSERT INTO found (found) VALUES ('rebuild');",
        "other.db: table found is new",
        id="a-full-text-index-goes-where-its-content-is",
    ),
    pytest.param("PRAGMA user_version=7", "app.db: user_version was set to 7", id="the-version-number"),
]


@pytest.mark.parametrize(("sql", "told"), CARRIED)
def test_what_changed_since_goes_into_the_file_that_it_belongs_to(
    sql: str, told: str, tmp_path: Path
) -> None:
    move = switched(tmp_path)
    execute(move.target, sql)
    record = go_back(move)
    assert told in [f"{source}: {what}" for source, what in record.schema_carried]
    assert move.prepare().failures == (), "the same run again works"
    move.switch()


def test_the_changed_schema_works_in_its_old_file(tmp_path: Path) -> None:
    move = switched(tmp_path)
    execute(
        move.target,
        "CREATE VIRTUAL TABLE found USING fts5 (text, content='notes', content_rowid='id');"
        "CREATE TRIGGER indexed AFTER INSERT ON notes BEGIN "
        "INSERT INTO found (rowid, text) VALUES (new.id, new.text); END;"
        "ALTER TABLE notes ADD COLUMN tag; INSERT INTO notes (text, tag) VALUES ('hello', 1);"
        "PRAGMA user_version=3",
    )
    go_back(move)
    app = move.sources[0]
    execute(app, "INSERT INTO notes (text, tag) VALUES ('hello world', 2)")
    assert query(app, "SELECT rowid FROM found WHERE found MATCH 'hello' ORDER BY 1") == [(10,), (11,)]
    assert query(app, "PRAGMA user_version") == [(3,)]
    assert query(move.sources[1], "PRAGMA user_version") == [(0,)]
    assert query(app, "PRAGMA journal_mode") == [("wal",)]


def test_rows_of_a_changed_table_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    move = switched(tmp_path)
    execute(
        move.target,
        "ALTER TABLE notes ADD COLUMN tag; UPDATE notes SET text = 'c' WHERE id = 1;"
        "UPDATE notes SET tag = 1;"
        "DELETE FROM notes WHERE id = 9; INSERT INTO notes (id) VALUES (20), (21); DROP TABLE log;",
    )
    assert ("notes", 2, 1, 1) in go_back(move).carried


def test_statistics_of_a_changed_table_come_along(tmp_path: Path) -> None:
    move = switched(tmp_path, APP + "ANALYZE;")
    execute(move.target, "ALTER TABLE notes ADD COLUMN tag")
    move.back()
    assert query(move.sources[0], "SELECT tbl, idx FROM sqlite_stat1 ORDER BY 1, 2") == [
        ("log", None),
        ("notes", "by_text"),
    ]


def test_tables_of_langgraph_s_own_go_to_the_file_that_has_such(tmp_path: Path) -> None:
    move = switched(tmp_path, kinds=("application", "checkpoints"))
    with SqliteStore.from_conn_string(str(move.target)) as store:
        store.setup()
        store.put(("a",), "k", {"v": 1})
    go_back(move)
    assert "store" in tables_of(move.sources[1])


def test_the_only_source_takes_everything(tmp_path: Path) -> None:
    path = build_database(tmp_path / "app.db", APP)
    move = PlainMove(tmp_path, [path], source=[{"path": "app.db", "kind": "other"}])
    move.prepare()
    move.switch()
    execute(move.target, "CREATE TABLE alone (x); CREATE VIEW one AS SELECT 1; PRAGMA user_version=2")
    go_back(move)
    assert query(path, "PRAGMA user_version") == [(2,)]


def test_a_change_of_a_renamed_table_returns_under_its_old_name(tmp_path: Path) -> None:
    other = "CREATE TABLE notes (x); INSERT INTO notes VALUES (1);"
    rename = [{"source": "other.db", "object": "notes", "to": "other_notes"}]
    move = switched(tmp_path, other=other, rename=rename)
    execute(
        move.target,
        'ALTER TABLE other_notes ADD COLUMN y; UPDATE other_notes SET y = "two";'
        "CREATE TABLE more (n REFERENCES other_notes); CREATE INDEX by_y ON other_notes (y);",
    )
    record = move.back()
    assert ("other.db", "table more is new") in record.schema_carried
    assert query(move.sources[1], "SELECT x, y FROM notes") == [(1, "two")]
    assert query(move.sources[1], "SELECT \"table\" FROM pragma_foreign_key_list('more')") == [("notes",)]
    assert query(move.sources[1], "SELECT name FROM pragma_index_list('notes')") == [("by_y",)]
    assert move.prepare().failures == ()


def test_keys_in_another_order_than_their_columns_go_there_and_back(tmp_path: Path) -> None:
    table = """
        CREATE TABLE keyed (a TEXT COLLATE NOCASE, b, PRIMARY KEY (a COLLATE BINARY)) WITHOUT ROWID;
        INSERT INTO keyed VALUES ('a', 1), ('A', 2), ('b', 3), ('B', 4), ('c', 5), ('C', 6);
        CREATE TABLE loose (a TEXT, b, PRIMARY KEY (a COLLATE NOCASE)) WITHOUT ROWID;
        INSERT INTO loose VALUES ('a', 1), ('B', 2);
    """
    move = switched(tmp_path, APP + table)
    execute(
        move.target,
        "UPDATE keyed SET b = 10 WHERE a = 'a' COLLATE BINARY;"
        "DELETE FROM keyed WHERE a = 'B' COLLATE BINARY;"
        "INSERT INTO keyed VALUES ('d', 7), ('D', 8); UPDATE loose SET a = 'A' WHERE a = 'a';",
    )
    carried = go_back(move).carried
    assert ("keyed", 2, 1, 1) in carried
    assert query(move.sources[0], "SELECT a, b FROM keyed ORDER BY a COLLATE BINARY") == [
        *(("A", 2), ("C", 6), ("D", 8)),
        *(("a", 10), ("b", 3), ("c", 5), ("d", 7)),
    ]


def test_what_names_main_goes_there_and_back(tmp_path: Path) -> None:
    app = (
        APP
        + """
        CREATE VIEW all_notes AS SELECT * FROM main.notes;
        CREATE TRIGGER shortened AFTER UPDATE ON notes BEGIN
            DELETE FROM log WHERE what NOT IN (SELECT text FROM main.notes);
        END;
    """
    )
    other = OTHER + "CREATE VIEW all_events AS SELECT * FROM main.events;"
    move = switched(tmp_path, app, other)
    execute(
        move.target,
        "INSERT INTO notes (text) VALUES ('new'); INSERT INTO events (text) VALUES ('new');"
        "CREATE VIEW since AS SELECT * FROM main.notes WHERE id > 9; ALTER TABLE events ADD COLUMN more;",
    )
    assert ("notes", 1, 0, 0) in go_back(move).carried
    assert query(move.sources[0], "SELECT text FROM since") == [("new",)]


def test_a_renamed_table_that_was_dropped_is_dropped_and_going_back_again_changes_nothing(
    tmp_path: Path,
) -> None:
    other = "CREATE TABLE notes (x); CREATE TABLE kept (x);"
    rename = [{"source": "other.db", "object": "notes", "to": "other_notes"}]
    move = switched(tmp_path, other=other, rename=rename)
    execute(move.target, "DROP TABLE other_notes")
    assert undo.carry_back(move.loaded, move.run).schema == (("other.db", "table other_notes is gone"),)
    assert undo.carry_back(move.loaded, move.run).schema == ()
    move.back()
    assert tables_of(move.sources[1]) == {"kept"}


ENV_PY = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade():
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String(20)),
        sa.Column("done", sa.Boolean(create_constraint=True, name="is_done")),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    with op.batch_alter_table("notes", recreate="always") as batch:
        batch.add_column(sa.Column("tag", sa.String(5), nullable=False, server_default="none"))
        batch.alter_column("text", type_=sa.Text(), nullable=False)
        batch.create_index("by_tag", ["tag"])
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note_id", sa.Integer, sa.ForeignKey("notes.id"), nullable=False),
    )
    op.create_index("by_note", "comments", ["note_id"])
"""


def test_an_alembic_revision_made_since_goes_back_with_its_number_and_its_rows(tmp_path: Path) -> None:
    scripts = tmp_path / "migrations" / "versions"
    scripts.mkdir(parents=True)
    (scripts.parent / "env.py").write_text(ENV_PY)
    (scripts / "0001_first.py").write_text(FIRST)
    (tmp_path / ".env").write_text("# ours\nDB=app.db\n")
    alembic = Config()
    alembic.set_main_option("script_location", str(scripts.parent))

    def at(path: Path, verb: Callable[..., object], *arguments: str) -> None:
        alembic.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
        verb(alembic, *arguments)

    at(tmp_path / "app.db", command.upgrade, "head")
    execute(tmp_path / "app.db", "INSERT INTO notes (text, done) VALUES ('a', 0)")
    edit = {"file": ".env", "kind": "dotenv", "key": "DB", "value": "unified.db"}
    move = switched(tmp_path, "", edit=[edit])
    assert (tmp_path / ".env").read_text() == "# ours\nDB=unified.db\n"
    (scripts / "0002_second.py").write_text(SECOND)
    at(move.target, command.upgrade, "head")
    execute(
        move.target,
        "INSERT INTO notes (text, done, tag) VALUES ('b', 1, 'new');"
        "INSERT INTO comments (note_id) VALUES (2);",
    )
    record = go_back(move)
    assert (tmp_path / ".env").read_text() == "# ours\nDB=app.db\n"
    assert [source for source, _ in record.schema_carried] == ["app.db"] * 4
    app = move.sources[0]
    assert query(app, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert query(app, "SELECT text, tag FROM notes") == [("a", "none"), ("b", "new")]
    at(app, command.upgrade, "head")
    assert query(app, "SELECT count(*) FROM comments") == [(1,)]
    assert move.prepare().failures == ()
    move.switch()


# ---- what belongs to no single file ----------------------------------------------------------------

REFUSED = [
    pytest.param(
        "CREATE VIEW both AS SELECT count(*) FROM notes, events",
        "view both is new and has to do with tables of app.db and other.db",
        "DROP VIEW both",
        id="a-view-over-both",
    ),
    pytest.param(
        "CREATE TRIGGER told AFTER INSERT ON notes BEGIN INSERT INTO events (text) VALUES (new.text); END",
        "trigger told is new and has to do with tables of app.db and other.db",
        "DROP TRIGGER told",
        id="a-trigger-that-writes-into-the-other",
    ),
    pytest.param(
        "CREATE VIEW deep AS SELECT * FROM newest, texts",
        "view deep is new",
        "DROP VIEW deep",
        id="a-view-over-views",
    ),
    pytest.param(
        "CREATE TABLE links (note REFERENCES notes, event REFERENCES events); CREATE INDEX i ON links (note)",
        "table links is new and has to do with tables of app.db and other.db",
        "DROP TABLE links",
        id="a-table-that-refers-to-both",
    ),
    pytest.param(
        "ALTER TABLE notes ADD COLUMN event REFERENCES events",
        "table notes of app.db refers to events now, which belongs to other.db",
        "ALTER TABLE notes DROP COLUMN event",
        id="a-foreign-key-into-the-other",
    ),
    pytest.param(
        "CREATE TABLE gone (x); CREATE VIEW broken AS SELECT x FROM gone; DROP TABLE gone",
        "view broken is new, and SQLite cannot read it (no such table",
        "DROP VIEW broken",
        id="a-view-that-sqlite-cannot-read",
    ),
]


@pytest.mark.parametrize(("sql", "said", "way_out"), REFUSED)
def test_what_belongs_to_two_files_is_refused_by_name_until_it_is_gone(
    sql: str, said: str, way_out: str, tmp_path: Path
) -> None:
    move = switched(tmp_path)
    execute(move.target, sql)
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*.db")) if p.is_file()}
    with pytest.raises(RollbackError) as caught:
        move.back()
    assert said in caught.value.message
    assert "Nothing was changed" in caught.value.hint
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*.db")) if p.is_file()} == before
    execute(move.target, way_out)
    go_back(move)


def test_without_one_application_a_table_that_refers_to_nothing_is_refused(tmp_path: Path) -> None:
    move = switched(tmp_path, kinds=("application", "application"))
    execute(move.target, "CREATE TABLE stray (x); PRAGMA user_version=4")
    with pytest.raises(RollbackError, match=r"table stray is new and refers to no table.*; user_version was"):
        move.back()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("ALTER TABLE t ADD COLUMN more", "table t was changed, which is united from app.db and other.db"),
        ("CREATE INDEX i ON t (v)", "index i is new and has to do with tables of app.db and other.db"),
        ("DROP TABLE t", "table t is gone, which is united from app.db and other.db"),
    ],
    ids=["a-column", "an-index", "dropped"],
)
def test_a_change_of_a_united_table_is_refused(sql: str, said: str, tmp_path: Path) -> None:
    table = "CREATE TABLE t (k TEXT PRIMARY KEY, v);"
    move = switched(tmp_path, table, table, union=[{"table": "t", "home": "app.db"}])
    execute(move.target, sql)
    with pytest.raises(RollbackError) as caught:
        move.back()
    assert said in caught.value.message


def test_a_switch_that_is_taken_back_by_itself_leaves_what_it_cannot_carry_and_says_so(
    tmp_path: Path,
) -> None:
    move = switched(tmp_path)
    execute(
        move.target,
        "CREATE VIEW both AS SELECT * FROM notes, events; CREATE TABLE tags (x);"
        "INSERT INTO notes (id) VALUES (30);",
    )
    # As if the process had been killed before it could call the switch finished.
    Journal(move.run).write("cutover", "begin")
    carried = undo.undo_acts(move.loaded, move.run, Journal(move.run))
    assert [what.partition(" and ")[0] for what in carried.left] == ["view both is new"]
    assert "view both is new" in undo.describe_rest(move.run, carried)
    assert tables_of(move.sources[0]) == {"notes", "log", "tags"}
    assert query(move.sources[0], "SELECT count(*) FROM notes") == [(4,)]
    kept = move.run.path / undo.KEPT_NAME
    assert query(kept, "SELECT count(*) FROM sqlite_schema WHERE name = 'both'") == [(1,)]


# ---- what only the application has, and room -------------------------------------------------------


def execute_as_the_application(path: Path, sql: str) -> None:
    """As :func:`execute`, with a function and a collation that no other process has."""
    with closing(sqlite3.connect(path)) as conn:
        conn.create_function("fold", 1, lambda text: text and text.lower(), deterministic=True)
        conn.create_collation("BACKWARDS", lambda a, b: (a < b) - (a > b))
        conn.executescript(sql)
        conn.commit()


def untouched(move: PlainMove) -> dict[Path, bytes]:
    """Every file below the root but logs, the journal of the run among them."""
    found = [p for p in sorted(move.root.rglob("*")) if p.is_file()]
    return {p: p.read_bytes() for p in found if p.suffix not in (".log", ".lock")}


@pytest.mark.parametrize(
    ("sql", "said", "way_out"),
    [
        pytest.param(
            "CREATE INDEX folded ON notes (fold(text))",
            r"app\.db \(index folded is new\): .* it needs function fold\(\)",
            "DROP INDEX folded",
            id="an-index-on-a-function",
        ),
        pytest.param(
            "CREATE TABLE kept (a, b AS (fold(a)) STORED, e REFERENCES events);"
            "INSERT INTO kept VALUES ('A', 5);",
            r"other\.db \(table kept is new\): .* it needs function fold\(\)",
            "DROP TABLE kept",
            id="a-column-that-a-function-fills",
        ),
        pytest.param(
            "CREATE TABLE named (n TEXT COLLATE BACKWARDS UNIQUE); INSERT INTO named VALUES ('a'), ('b')",
            r"app\.db \(table named is new\): .* it needs collation BACKWARDS",
            "DROP TABLE named",
            id="an-order-of-its-own",
        ),
        pytest.param(
            "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES "
            "('table', 'near', 'near', 0, 'CREATE VIRTUAL TABLE near USING not_here (x)');"
            "PRAGMA writable_schema=RESET; CREATE TRIGGER kept AFTER INSERT ON notes "
            "BEGIN INSERT INTO near VALUES (new.text); END",
            "trigger kept is new, and SQLite cannot read it .*, no such module: not_here",
            "DROP TRIGGER kept",
            id="a-trigger-that-writes-through-a-module",
        ),
    ],
)
def test_what_only_the_application_has_is_refused_by_name_with_nothing_touched(
    sql: str, said: str, way_out: str, tmp_path: Path
) -> None:
    move = switched(tmp_path)
    execute_as_the_application(move.target, sql)
    before = untouched(move)
    with pytest.raises(RollbackError, match=said) as caught:
        move.back()
    assert "Nothing was changed" in caught.value.hint
    assert untouched(move) == before
    execute(move.target, way_out)
    move.back()
    assert query(move.sources[0], "SELECT count(*) FROM notes") == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(
            "CREATE TABLE kept (a CHECK (fold(a) = 'a')); INSERT INTO kept VALUES ('A')", id="check"
        ),
        pytest.param("CREATE TABLE kept (n TEXT COLLATE BACKWARDS)", id="a-collation-without-an-index"),
        pytest.param("CREATE INDEX some ON notes (id) WHERE id > 99 AND fold(text) > ''", id="no-such-row"),
    ],
)
def test_what_is_named_and_not_asked_for_keeps_nobody_from_going_back(sql: str, tmp_path: Path) -> None:
    move = switched(tmp_path)
    execute_as_the_application(move.target, sql)
    wanted = objects([move.target])
    move.back()
    assert objects(move.sources) == wanted


def test_rows_that_only_the_application_can_index_are_refused_before_the_stop(tmp_path: Path) -> None:
    move = switched(tmp_path)
    for path in (move.target, *move.run.originals.glob("*app.db")):
        execute_as_the_application(path, "CREATE INDEX folded ON notes (fold(text))")
    execute_as_the_application(move.target, "INSERT INTO notes (text) VALUES ('C')")
    before = untouched(move)
    with pytest.raises(RollbackError, match=r"into app\.db: that needs function fold\(\), which only"):
        move.back()
    assert untouched(move) == before


def test_a_table_that_is_made_anew_needs_room_before_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = switched(tmp_path)
    execute(
        move.target,
        "WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)"
        "INSERT INTO notes (text) SELECT hex(randomblob(2500)) FROM n; ALTER TABLE notes ADD COLUMN tag;",
    )
    before = untouched(move)
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 1_000_000)
    with pytest.raises(RollbackError, match=r"not enough space at .* 1,000,000 are free") as caught:
        move.back()
    assert caught.value.exit_code == 4
    assert "the application was not stopped" in caught.value.hint
    assert untouched(move) == before
    needed = int(re.findall(r"([\d,]+) bytes are needed", caught.value.message)[0].replace(",", ""))
    monkeypatch.undo()
    monkeypatch.setattr(plan, "_require_runtime", lambda _config: None)
    (old,) = move.run.originals.glob("*app.db")
    size_bytes = old.stat().st_size
    go_back(move)
    grown = move.sources[0].stat().st_size - size_bytes
    assert grown > 4_000_000, "by the table and its index"
    assert grown < needed < 3 * grown


# ---- killed on the way -----------------------------------------------------------------------------

CHANGED = (
    "ALTER TABLE notes ADD COLUMN tag; UPDATE notes SET tag = id; INSERT INTO notes (text) VALUES ('new');"
    "CREATE TABLE seen (event REFERENCES events); INSERT INTO seen VALUES (5); DROP TABLE log;"
    "DROP TRIGGER logged;"
)


def die_in(place: Any, name: str, call: int, work: Callable[[], object]) -> None:
    """Do *work* in a process of its own, which is killed before call number *call* of *name* of *place*."""
    child = os.fork()
    if child == 0:
        original, calls = getattr(place, name), iter(range(1, 1000))

        def killed(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        setattr(place, name, killed)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the place was not reached"


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param(schema_changes, "_make", id="before-tables-are-made"),
        pytest.param(schema_changes, "_require_made", id="before-the-proof"),
        pytest.param(changes, "carry_all", id="before-rows-are-carried"),
        pytest.param(files, "fsync_file", id="after-the-commit"),
        pytest.param(files, "move_durably", id="on-the-way-to-their-places"),
    ],
)
def test_a_way_back_that_is_killed_is_finished_by_the_next(
    place: Any, name: str, call: int, tmp_path: Path
) -> None:
    move = switched(tmp_path)
    execute(move.target, CHANGED)
    wanted = objects([move.target]), rows([move.target])
    die_in(place, name, call, move.back)
    record = move.back()
    assert objects(move.sources) == wanted[0]
    assert rows(move.sources) == wanted[1]
    assert move.prepare().failures == ()
    if name == "move_durably":
        assert ("notes", 1, 0, 0) in record.carried, "what was carried before the kill is told too"


def test_a_united_table_is_not_carried_anew_once_an_old_file_is_back_in_its_place(tmp_path: Path) -> None:
    table = "CREATE TABLE t (k TEXT PRIMARY KEY, v);"
    union = [{"table": "t", "home": "app.db"}]
    one, two = table + "INSERT INTO t VALUES ('a', 1)", table + "INSERT INTO t VALUES ('b', 2)"
    move = switched(tmp_path, one, two, union=union)
    # other.db is moved back first; app.db is the home, which takes every row that no old file has.
    die_in(files, "move_durably", 2, move.back)
    move.back()
    assert query(move.sources[0], "SELECT k FROM t") == [("a",)]
    assert query(move.sources[1], "SELECT k FROM t") == [("b",)]


def test_rows_written_into_an_old_file_that_is_back_in_its_place_stay(tmp_path: Path) -> None:
    move = switched(tmp_path)
    die_in(files, "move_durably", 2, move.back)
    assert not list(move.run.originals.glob("*other.db")), "it is back, and may be in use"
    execute(move.sources[1], "INSERT INTO events (text) VALUES ('here already')")
    move.back()
    assert query(move.sources[1], "SELECT text FROM events") == [("x",), ("here already",)]


def test_rows_written_between_a_kill_and_the_next_try_are_carried_too(tmp_path: Path) -> None:
    move = switched(tmp_path)
    die_in(files, "move_durably", 2, move.back)
    execute(move.target, "INSERT INTO events (text) VALUES ('between'); CREATE TABLE tags (x)")
    go_back(move)


# ---- for whatever is changed -----------------------------------------------------------------------

_STATEMENTS = (
    "ALTER TABLE notes ADD COLUMN a{n} DEFAULT {n}",
    "ALTER TABLE events ADD COLUMN a{n} TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE notes RENAME COLUMN extra TO e{n}",
    "ALTER TABLE notes DROP COLUMN extra",
    "ALTER TABLE events RENAME TO events_{n}",
    "ALTER TABLE log RENAME TO log_{n}",
    "CREATE TABLE t{n} (x, y REFERENCES notes)",
    "CREATE TABLE u{n} (x PRIMARY KEY, y REFERENCES t1, z REFERENCES events) WITHOUT ROWID",
    "CREATE INDEX i{n} ON notes (id, text)",
    "CREATE VIEW v{n} AS SELECT * FROM events",
    "CREATE VIEW w{n} AS SELECT n.id FROM notes n, events e",
    "CREATE TRIGGER tr{n} AFTER DELETE ON notes BEGIN DELETE FROM log WHERE what = old.text; END",
    "DROP TRIGGER logged",
    "DROP INDEX by_text",
    "DROP VIEW texts",
    "DROP TABLE log",
    "DROP TABLE events",
    "INSERT INTO notes (text) VALUES ('n{n}')",
    "INSERT INTO events (text) VALUES ('n{n}')",
    "DELETE FROM notes WHERE id = 7",
    "INSERT INTO t{n} VALUES ({n}, NULL)",
    "PRAGMA user_version={n}",
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(st.tuples(st.sampled_from(_STATEMENTS), st.integers(1, 2)), min_size=1, max_size=7))
def test_any_change_is_carried_whole_or_refused_with_nothing_changed(
    drawn: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    move = switched(tmp_path_factory.mktemp("drift"))
    with closing(sqlite3.connect(move.target)) as conn:
        for sql, number in drawn:
            try:
                conn.execute(sql.format(n=number))
            except sqlite3.OperationalError:
                continue  # what SQLite does not do is no change
            except sqlite3.IntegrityError:
                continue
        conn.commit()
    kept = sorted(move.run.originals.iterdir())
    before = [p.read_bytes() for p in kept]
    try:
        go_back(move)
    except RollbackError:
        assert [p.read_bytes() for p in kept] == before
    else:
        assert move.prepare().failures == ()
