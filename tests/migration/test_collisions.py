"""Names that two sources share: refused with ways out that work, or renamed with all that refers to them."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_database
from unified_db.errors import SourceError, UsageError
from unified_db.migration import definitions, layout, standalone
from unified_db.migration.records import Layout, Rename, SchemaObject

CASES = Path(__file__).parents[1] / "cases"
Make = Callable[..., Path]

CHECKPOINTS = """
CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
 checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
 PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
 checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT,
 value BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
"""


def schema(path: Path) -> dict[str, tuple[str, str | None]]:
    with closing(sqlite3.connect(path)) as conn:
        rows = conn.execute("SELECT name, tbl_name, sql FROM sqlite_schema")
        return {name: (table, sql) for name, table, sql in rows}


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(sql).fetchall()


def refusal(sources: list[Path], target: Path, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        standalone.merge_sources(sources, target, **options)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize("case", ["rename-with-all-that-refers-to-it", "rename-in-the-largest-source"])
def test_a_renamed_table_is_what_sqlites_own_rename_makes_of_it(case: str, tmp_path: Path) -> None:
    app, other = (
        build_database(tmp_path / f"{n}.db", (CASES / case / f"{n}.sql").read_text())
        for n in ("app", "other")
    )
    standalone.merge_sources(
        [app, other],
        tmp_path / "unified.db",
        renames=[f"{app}:users=app users", f"{app}:by_name=app_by_name", f"{app}:cleaned=app_cleaned"],
    )
    by_sqlite = Path(shutil.copy(app, tmp_path / "copy.db"))
    with closing(sqlite3.connect(by_sqlite)) as conn:
        # SQLite refuses as long as a view is broken, and knows no way to rename an index or a trigger.
        conn.executescript(
            "DROP VIEW broken; ALTER TABLE users RENAME TO [app users];"
            "DROP INDEX by_name; CREATE INDEX app_by_name ON [app users] (name, id);"
        )
    unified = schema(tmp_path / "unified.db")
    assert "app_cleaned" in unified
    for name, (table, sql) in schema(by_sqlite).items():
        if name not in ("cleaned", "app_by_name"):
            assert unified[name] == (table, sql)
    assert unified["app_by_name"] == ("app users", 'CREATE INDEX "app_by_name" ON "app users" (name, id)')
    assert unified["broken"][1] == "CREATE VIEW broken AS SELECT * FROM a_table_that_is_gone"
    assert query(tmp_path / "unified.db", "PRAGMA foreign_key_list(posts)")[0][2] == "app users"
    assert query(tmp_path / "unified.db", "SELECT seq FROM sqlite_sequence WHERE name = 'app users'") == [
        (77,)
    ]


@pytest.mark.parametrize("case", ["rename-with-all-that-refers-to-it", "rename-in-the-largest-source"])
def test_triggers_and_statistics_follow_a_renamed_table(case: str, tmp_path: Path) -> None:
    app, other = (
        build_database(tmp_path / f"{n}.db", (CASES / case / f"{n}.sql").read_text())
        for n in ("app", "other")
    )
    unified = tmp_path / "unified.db"
    renames = [f"{app}:users=people", f"{app}:by_name=app_by_name", f"{app}:cleaned=app_cleaned"]
    standalone.merge_sources([app, other], unified, renames=renames)
    statistics = set(query(unified, "SELECT tbl, idx FROM sqlite_stat1"))
    assert {("people", "app_by_name"), ("people", "sqlite_autoindex_people_1"), ("Users", "By_Name")} <= (
        statistics
    )
    assert not any(table == "users" for table, _ in statistics)
    with closing(sqlite3.connect(unified)) as conn:
        conn.execute("INSERT INTO people (name) VALUES ('eve')")
        assert conn.execute("SELECT author, body FROM posts ORDER BY id DESC").fetchone() == (
            78,
            "hello users",
        )
        conn.execute("DELETE FROM posts WHERE author = 78")
        assert conn.execute("SELECT count(*) FROM people WHERE id = 78").fetchone() == (0,)
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_renamed_virtual_tables_answer(tmp_path: Path) -> None:
    case = CASES / "rename-of-virtual-tables"
    app, other = (
        build_database(tmp_path / f"{n}.db", (case / f"{n}.sql").read_text()) for n in ("app", "other")
    )
    unified = tmp_path / "unified.db"
    standalone.merge_sources([app, other], unified, renames=[f"{app}:search=found", f"{app}:box=area"])
    assert query(unified, "SELECT body FROM found WHERE found MATCH 'hello'") == [("hello world",)]
    assert query(unified, "SELECT body FROM search WHERE search MATCH 'another'") == [("another",)]
    assert query(unified, "SELECT id FROM area WHERE x0 <= 0") == [(1,)]
    assert query(unified, "SELECT count(*) FROM hits") == [(2,)]


def test_functions_and_collations_that_only_the_application_has_do_not_stop_a_rename(tmp_path: Path) -> None:
    app = tmp_path / "app.db"
    with closing(sqlite3.connect(app)) as conn:
        conn.create_function("own", 1, lambda x: x, deterministic=True)
        conn.executescript(
            "CREATE TABLE t (x CHECK (own(x) > 0)); CREATE VIEW v AS SELECT own(x) AS y FROM t;"
            "INSERT INTO t VALUES (1);"
        )
    other = build_database(tmp_path / "other.db", "CREATE TABLE t (x);")
    unified = tmp_path / "unified.db"
    standalone.merge_sources([app, other], unified, renames=[f"{app}:t=mine"])
    assert schema(unified)["v"][1] == 'CREATE VIEW v AS SELECT own(x) AS y FROM "mine"'


def test_the_ways_out_of_a_refusal_are_ways_out(database: Make, tmp_path: Path) -> None:
    sources = [
        database("app.db", "CREATE TABLE users (id INTEGER PRIMARY KEY, x); CREATE INDEX ix ON users (x);"),
        database("other.db", "CREATE TABLE Users (id INTEGER PRIMARY KEY); CREATE TABLE IX (y);"),
    ]
    target = tmp_path / "unified.db"
    error = refusal(sources, target)
    assert "2 objects named users, ix" in error.message
    assert "CREATE TABLE users (id INTEGER PRIMARY KEY, x)" in error.message
    assert "CREATE TABLE Users (id INTEGER PRIMARY KEY)" in error.message
    assert "[[union]]" not in error.hint, "the definitions do not agree"
    asked = tomllib.loads(error.hint.partition(":\n")[2])["rename"]
    written = [f"{r['source']}:{r['object']}={r['to']}" for r in asked]
    options = re.findall(r"--rename (\S+)", error.hint)
    assert options == written
    assert standalone.merge_sources(sources, target, renames=options).changed


def test_the_ways_out_name_all_that_collides(database: Make, tmp_path: Path) -> None:
    """The definitions of the first few are enough to read; with some of the ways out, nothing is out."""
    names = [f"t{n}" for n in range(12)]
    sources = [
        database("app.db", "".join(f"CREATE TABLE {n} (x);" for n in names)),
        database("other.db", "".join(f"CREATE TABLE {n} (y);" for n in names)),
    ]
    target = tmp_path / "unified.db"
    options = re.findall(r"--rename (\S+)", refusal(sources, target).hint)
    assert len(options) == len(names)
    assert standalone.merge_sources(sources, target, renames=options).changed


def test_two_virtual_tables_of_one_name_are_one_collision(database: Make, tmp_path: Path) -> None:
    sql = "CREATE VIRTUAL TABLE search USING fts5(body);"
    sources = [database("a.db", sql), database("b.db", sql)]
    error = refusal(sources, tmp_path / "unified.db")
    assert "an object named search," in error.message
    assert "[[union]]" not in error.hint
    assert standalone.merge_sources(
        sources, tmp_path / "unified.db", renames=re.findall(r"--rename (\S+)", error.hint)
    ).changed


def test_a_default_that_may_be_a_secret_is_masked(database: Make, tmp_path: Path) -> None:
    sql = "CREATE TABLE keys (id INTEGER PRIMARY KEY, k TEXT DEFAULT 'sk-SECRET-4711')"
    sources = [database("a.db", sql), database("b.db", "CREATE TABLE keys (id);")]
    error = refusal(sources, tmp_path / "unified.db")
    assert "SECRET" not in error.message + error.hint
    assert "DEFAULT '***'" in error.message


def test_a_table_with_langgraphs_name_and_other_columns_is_to_be_renamed(
    database: Make, tmp_path: Path
) -> None:
    memory = database("memory.db", CHECKPOINTS)
    app = database("app.db", "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, place TEXT);")
    for sources in ([app, memory], [memory, app]):
        error = refusal(sources, tmp_path / "unified.db")
        assert f"checkpoints of {app} has one of LangGraph's names" in error.hint
        options = re.findall(r"--rename (\S+)", error.hint)
        assert [o.partition(":")[0] for o in options] == [str(app)]
    assert standalone.merge_sources([app, memory], tmp_path / "unified.db", renames=options).changed


def test_langgraphs_own_table_is_never_renamed(database: Make, tmp_path: Path) -> None:
    sources = [database("a.db", CHECKPOINTS), database("b.db", "CREATE TABLE x (y);")]
    with pytest.raises(UsageError, match="LangGraph's own table"):
        standalone.merge_sources(
            sources, tmp_path / "unified.db", renames=[f"{sources[0]}:checkpoints=moments"]
        )


def test_two_alembic_histories_get_a_version_table_each(database: Make, tmp_path: Path) -> None:
    sql = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num));"
    sources = [
        database("app.db", f"{sql} INSERT INTO alembic_version VALUES ('aaa');"),
        database("audit.db", f"{sql} INSERT INTO alembic_version VALUES ('bbb');"),
    ]
    error = refusal(sources, tmp_path / "unified.db")
    assert 'version_table="alembic_version_audit"' in error.hint
    options = re.findall(r"--rename (\S+)", error.hint)
    assert standalone.merge_sources(sources, tmp_path / "unified.db", renames=options).changed
    assert query(tmp_path / "unified.db", "SELECT * FROM alembic_version_audit") == [("bbb",)]


@pytest.mark.parametrize("text", ["users=people", "elsewhere.db:users=people", "{}:users", "{}:=x", "{}:x="])
def test_a_rename_option_of_another_form_is_wrong_use(text: str, database: Make, tmp_path: Path) -> None:
    source = database("app.db", "CREATE TABLE users (id);")
    with pytest.raises(UsageError, match="is not SOURCE:OLD=NEW"):
        standalone.merge_sources([source], tmp_path / "unified.db", renames=[text.format(source)])


def test_an_object_is_found_in_the_layout_by_its_name_in_any_case() -> None:
    item = SchemaObject(kind="table", name="Users", table="Users", sql="CREATE TABLE Users (x)")
    rename = Rename(source="a", object="USERS", to="people")
    places = layout.place("a", [item], Layout(renames=(rename,)))
    assert [places.name(n) for n in ("Users", "users", "other")] == ["people", "people", "other"]


def test_a_merge_is_not_the_same_under_another_name(database: Make, tmp_path: Path) -> None:
    sources = [database("a.db", "CREATE TABLE t (x);"), database("b.db", "CREATE TABLE u (x);")]
    target = tmp_path / "unified.db"
    renames = [f"{sources[0]}:t=v"]
    standalone.merge_sources(sources, target, renames=renames)
    assert standalone.merge_sources(sources, target, renames=renames).changed is False
    assert standalone.validate_sources(sources, target, renames=renames).verdicts[0].passed
    with pytest.raises(SourceError, match="does not hold what the sources hold"):
        standalone.merge_sources(sources, target)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param("CREATE TABLE a (x, y)", "create table A(Y,\n[x] -- c\n)", True, id="order-case-quotes"),
        pytest.param("CREATE TABLE a (x TEXT)", "CREATE TABLE a (x)", False, id="a-type-more"),
        pytest.param("CREATE TABLE a (x) STRICT", "CREATE TABLE a (x)", False, id="strict"),
        pytest.param("CREATE TABLE a (x DEFAULT 'A')", "CREATE TABLE a (x DEFAULT 'a')", False, id="default"),
        pytest.param(
            "CREATE TABLE a (x CHECK (x > (1 + 2)))",
            "CREATE TABLE a (x CHECK (x > (1 + 3)))",
            False,
            id="check",
        ),
        pytest.param("CREATE TABLE a (x, x2)", "CREATE TABLE a (x)", False, id="a-column-more"),
        pytest.param("CREATE TABLE a (x, UNIQUE (x))", "CREATE TABLE a (x)", False, id="a-constraint-more"),
    ],
)
def test_definitions_agree_by_what_they_say(one: str, other: str, expected: bool) -> None:
    assert definitions.agree(one, other) is expected
    assert definitions.agree(other, one) is expected


# ---- united tables -------------------------------------------------------------------------------

UNITED = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v, w); CREATE INDEX i ON t (v);"
KEYED = "CREATE TABLE k (name TEXT PRIMARY KEY, v);"


@pytest.fixture
def united(database: Make, tmp_path: Path) -> tuple[list[Path], Path, dict[str, Any]]:
    """Two sources of which t and k are united, the target, and the options that say so."""
    sources = [
        database(
            "a.db",
            f"{UNITED} {KEYED} INSERT INTO t VALUES (1, 'x', 1), (2, 'y', -0.0);"
            "INSERT INTO k (rowid, name, v) VALUES (40, 'one', 1), (7, 'both', 2);",
        ),
        database(
            "b.db",
            f"{UNITED} {KEYED} INSERT INTO t VALUES (1, 'x', 1), (9, 'z', NULL);"
            "INSERT INTO k VALUES ('both', 2), ('two', 'sk-SECRET');",
        ),
    ]
    options = {"unions": [f"{sources[0]}:t", f"{sources[0]}:k"]}
    standalone.merge_sources(sources, tmp_path / "unified.db", **options)
    return sources, tmp_path / "unified.db", options


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        pytest.param("DELETE FROM t WHERE id = 2", "a.db: t, united: missing", id="a-row-of-the-home-lost"),
        pytest.param("DELETE FROM t WHERE id = 9", "b.db: t, united: missing", id="a-row-of-another-lost"),
        pytest.param("UPDATE t SET w = 0.0 WHERE id = 2", "a.db: t, united: changed.*w", id="minus-zero"),
        pytest.param("UPDATE t SET w = 1.0 WHERE id = 1", "b.db: t, united: changed.*w", id="1-to-1.0"),
        pytest.param("UPDATE t SET w = '' WHERE id = 9", "b.db: t, united: changed.*w", id="null-to-empty"),
        pytest.param("INSERT INTO t VALUES (5, 5, 5)", "t: 1 of 4 rows are of none of them", id="a-stranger"),
        pytest.param("UPDATE sqlite_sequence SET seq = 8", "counter, the highest t: 8", id="a-counter-reset"),
        pytest.param(
            "UPDATE k SET rowid = 50 WHERE rowid = 40", "a.db: k, united: missing rowid 40", id="moved"
        ),
        pytest.param("UPDATE k SET name = 'x' WHERE name = 'two'", "b.db: k, united: missing key", id="key"),
        pytest.param("DROP INDEX i", "index i", id="an-index-lost"),
        pytest.param("CREATE TRIGGER n AFTER INSERT ON t BEGIN SELECT 1; END", "trigger n", id="a-trigger"),
        pytest.param("ALTER TABLE k ADD COLUMN x", "table k", id="a-new-column"),
        pytest.param("DROP TABLE k", "k: the table is not there", id="a-table-lost"),
    ],
)
def test_damage_to_a_united_table_closes_the_gate_and_is_named(
    united: tuple[list[Path], Path, dict[str, Any]], sql: str, place: str
) -> None:
    sources, target, options = united
    with closing(sqlite3.connect(target)) as conn:
        conn.executescript(sql)
    verdict = standalone.validate_sources(sources, target, **options).verdicts[0]
    assert not verdict.passed
    said = "\n".join(f"{f.check} {f.where}: {f.measured}" for f in verdict.failures)
    assert re.search(place, said), said
    assert "SECRET" not in said


def test_a_united_table_counts_what_each_source_brought(
    united: tuple[list[Path], Path, dict[str, Any]],
) -> None:
    sources, target, options = united
    report = standalone.validate_sources(sources, target, **options)
    assert report.verdicts[0].passed
    counted = {f.where: f.measured for f in report.verdicts[0].findings if "row" in f.check}
    assert counted[f"{sources[1]}: t, united"] == "2 rows, equal"
    assert counted["t"] == "3 rows from 2 sources, of no other"
    assert query(target, "SELECT rowid, name FROM k ORDER BY rowid") == [
        (7, "both"),
        (40, "one"),
        (41, "two"),
    ]


def test_the_union_of_a_refusal_is_a_way_out(database: Make, tmp_path: Path) -> None:
    sources = [database("a.db", CHECKPOINTS), database("b.db", CHECKPOINTS)]
    error = refusal(sources, tmp_path / "unified.db")
    assert "--rename" not in error.hint, "LangGraph's tables keep their names"
    asked = tomllib.loads(error.hint.partition(":\n")[2])["union"]
    assert [u["table"] for u in asked] == ["checkpoints", "writes"]
    options = re.findall(r"--union (\S+)", error.hint)
    assert standalone.merge_sources(sources, tmp_path / "unified.db", unions=options).changed


def test_a_union_without_a_home_is_at_home_in_the_first_source_that_has_it(
    database: Make, tmp_path: Path
) -> None:
    sources = [database("x.db", "CREATE TABLE x (y);"), database("a.db", KEYED), database("b.db", KEYED)]
    assert standalone.merge_sources(sources, tmp_path / "unified.db", unions=["K"]).changed
    with pytest.raises(UsageError, match="no source has a table nowhere"):
        standalone.merge_sources(sources, tmp_path / "other.db", unions=["nowhere"])


def test_what_differs_under_one_key_is_counted_and_never_shown(database: Make, tmp_path: Path) -> None:
    sources = [
        database("a.db", f"{KEYED} INSERT INTO k VALUES ('sk-SECRET-1', 1), ('b', 1), ('c', 1);"),
        database("b.db", f"{KEYED} INSERT INTO k VALUES ('sk-SECRET-1', 2), ('b', 'SECRET'), ('c', 1);"),
    ]
    error = refusal(sources, tmp_path / "unified.db", unions=["k"])
    assert re.search("2 keys have another row there: key [0-9a-f]{12}, key [0-9a-f]{12}", error.message)
    assert "SECRET" not in error.message + error.hint


def test_a_union_may_be_spelt_in_another_case_and_hold_a_table_without_rowid(
    database: Make, tmp_path: Path
) -> None:
    table = "CREATE TABLE Items (a TEXT, b INTEGER, v, PRIMARY KEY (a, b)) WITHOUT ROWID;"
    counted = "CREATE TABLE Counted (id INTEGER PRIMARY KEY AUTOINCREMENT, v);"
    sources = [
        database("a.db", f"{table} {counted} INSERT INTO Items VALUES ('x', 1, 1), ('x', 2, 2);"),
        database(
            "b.db",
            f"{table} {counted} INSERT INTO Items VALUES ('x', 1, 1), ('y', 1, 3);"
            "INSERT INTO Counted VALUES (70, 1);",
        ),
    ]
    unions = ["ITEMS", "COUNTED"]
    standalone.merge_sources(sources, tmp_path / "unified.db", unions=unions)
    assert query(tmp_path / "unified.db", "SELECT * FROM items") == [("x", 1, 1), ("x", 2, 2), ("y", 1, 3)]
    assert query(tmp_path / "unified.db", "SELECT * FROM sqlite_sequence") == [("Counted", 70)]


def test_sources_of_two_encodings_are_renamed_and_united(database: Make, tmp_path: Path) -> None:
    sql = f"{KEYED} CREATE TABLE u (x); INSERT INTO u VALUES ('ä');"
    sources = [
        database("a.db", f"PRAGMA encoding = 'UTF-16le'; {sql} INSERT INTO k VALUES ('ü', 1), ('a', 2);"),
        database("b.db", f"{sql} INSERT INTO k VALUES ('ü', 1), ('ö', 3), ('z', zeroblob(100000));"),
    ]
    renames, unions = [f"{sources[0]}:u=w"], [f"{sources[0]}:k"]
    target = tmp_path / "unified.db"
    standalone.merge_sources(sources, target, renames=renames, unions=unions)
    assert query(target, "SELECT name FROM k ORDER BY rowid") == [("ü",), ("a",), ("z",), ("ö",)]
    assert query(target, "SELECT x FROM w") == [("ä",)]
    assert standalone.validate_sources(sources, target, renames=renames, unions=unions).verdicts[0].passed


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        pytest.param("", "DELETE FROM sqlite_sequence", [("s", 5)], id="none-in-the-second"),
        pytest.param("DELETE FROM sqlite_sequence", "", [("s", 12)], id="none-in-the-first"),
        pytest.param("DELETE FROM sqlite_sequence", "DELETE FROM sqlite_sequence", [], id="none"),
        pytest.param("", "UPDATE sqlite_sequence SET seq = 3", [("s", 5)], id="below-the-rowids"),
        pytest.param("UPDATE sqlite_sequence SET seq = 99", "", [("s", 99)], id="above-the-rowids"),
        pytest.param("UPDATE sqlite_sequence SET seq = NULL", "", [("s", 12)], id="null"),
        pytest.param("", "UPDATE sqlite_sequence SET seq = '77 or so'", [("s", 77)], id="text"),
        pytest.param("", "UPDATE sqlite_sequence SET seq = x'09'", [("s", 5)], id="a-blob"),
    ],
)
def test_a_united_table_has_the_highest_counter_of_its_sources(
    one: str, two: str, expected: list[tuple[str, int]], database: Make, tmp_path: Path
) -> None:
    table = "CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT);"
    sources = [
        database("a.db", f"{table} INSERT INTO s VALUES (5); {one}"),
        database("b.db", f"{table} INSERT INTO s VALUES (12); {two}"),
    ]
    for home in (0, 1):
        target = tmp_path / f"{home}.db"
        standalone.merge_sources(sources, target, unions=[f"{sources[home]}:s"])
        assert query(target, "SELECT * FROM sqlite_sequence") == expected
        assert standalone.validate_sources(sources, target, unions=[f"{sources[home]}:s"]).verdicts[0].passed


def test_a_renamed_table_does_not_take_the_counter_of_one_that_is_gone(tmp_path: Path) -> None:
    sql = (CASES / "rename-to-the-name-of-a-sequence-that-is-left" / "app.sql").read_text()
    sources = [
        build_database(tmp_path / "app.db", sql),
        build_database(tmp_path / "other.db", "CREATE TABLE o (x)"),
    ]
    standalone.merge_sources(sources, tmp_path / "unified.db", renames=[f"{sources[0]}:old=new"])
    assert query(tmp_path / "unified.db", "SELECT * FROM sqlite_sequence") == [("new", 5)]


def test_a_message_shows_the_name_of_a_shadow_table_and_no_default() -> None:
    sql = "CREATE TABLE 'documents_data'(id INTEGER PRIMARY KEY, token TEXT DEFAULT 'a-password')"
    shown = definitions.shorten(sql)
    assert "'documents_data'" in shown
    assert "DEFAULT '***'" in shown


@pytest.mark.parametrize(
    ("virtual", "part"),
    [
        ("fts3(x)", "notes_stat"),
        ("FTS4(x, matchinfo=fts3)", "Notes_Docsize"),
        ("fts5(x, content='')", "notes_content"),
    ],
)
def test_a_table_that_anothers_virtual_table_would_take_for_its_own_is_a_collision(
    database: Make, tmp_path: Path, virtual: str, part: str
) -> None:
    one = database("a.db", f"CREATE VIRTUAL TABLE notes USING {virtual};")
    other = database(
        "b.db", f"CREATE TABLE {part} (id INTEGER PRIMARY KEY, n); INSERT INTO {part} VALUES (1, 2);"
    )
    error = refusal([one, other], tmp_path / "unified.db")
    assert f"takes {part.lower()} for a part of itself" in error.message
    renames = re.findall(r"--rename (\S+)", error.hint)
    assert standalone.merge_sources([one, other], tmp_path / "unified.db", renames=renames).changed
    with closing(sqlite3.connect(tmp_path / "unified.db")) as conn:
        conn.execute("DROP TABLE notes")
        assert conn.execute(f"SELECT * FROM b_{part}").fetchall() == [(1, 2)]


@pytest.mark.parametrize(
    ("view", "table", "asked"),
    [
        ("SELECT e.value FROM json_each('[1, 2]') e", "json_each (value)", [(1,), (2,)]),
        ("SELECT user_version FROM pragma_user_version", "Pragma_User_Version (user_version)", [(0,)]),
    ],
)
def test_a_table_named_like_a_function_that_another_schema_asks_is_a_collision(
    database: Make, tmp_path: Path, view: str, table: str, asked: list[tuple[int]]
) -> None:
    sources = [database("a.db", f"CREATE VIEW v AS {view};"), database("b.db", f"CREATE TABLE {table};")]
    error = refusal(sources, tmp_path / "unified.db")
    assert f"means SQLite's own {table.split(maxsplit=1)[0].lower()}" in error.message
    renames = re.findall(r"--rename (\S+)", error.hint)
    assert standalone.merge_sources(sources, tmp_path / "unified.db", renames=renames).changed
    assert query(tmp_path / "unified.db", "SELECT * FROM v") == asked


def test_a_table_named_like_a_function_that_no_other_schema_asks_is_taken(
    database: Make, tmp_path: Path
) -> None:
    sources = [database("a.db", "CREATE TABLE t (x);"), database("b.db", "CREATE TABLE json_each (value);")]
    assert standalone.merge_sources(sources, tmp_path / "unified.db").changed


@pytest.mark.parametrize(
    "other", ["CREATE UNIQUE INDEX i ON t (b);", "CREATE TRIGGER i AFTER DELETE ON t BEGIN SELECT 1; END;"]
)
def test_what_stands_on_a_united_table_under_one_name_is_not_to_be_renamed(
    database: Make, tmp_path: Path, other: str
) -> None:
    table = "CREATE TABLE t (a INTEGER PRIMARY KEY, b, c);"
    sources = [database("a.db", table + "CREATE UNIQUE INDEX i ON t (c);"), database("b.db", table + other)]
    error = refusal(sources, tmp_path / "unified.db", unions=["t"])
    assert "--rename" not in error.hint
    assert "bring i to one definition in all of them, or rename t in one instead" in error.hint
    assert standalone.merge_sources(
        sources, tmp_path / "unified.db", renames=[f"{sources[1]}:t=u", f"{sources[1]}:i=j"]
    ).changed
