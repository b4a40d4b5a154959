"""Every folder under tests/cases is a set of databases: merged and proven, or refused as it says.

A folder holds NAME.sql for each database, or NAME.py with `build(path)` where SQL alone cannot make
it; or `make.py` where even the files are odd, see `test_made_case`. Each case is run with its first
database as the largest, which is copied by its pages; as a smaller one, whose trees are appended where they
can be; and as one that is inserted row by row. What the unified file must hold is said by `tests/oracle.py`,
which owes nothing to the proof. Optional files:

* expect_failure: what the refusal says (a regular expression);
* expect_failure_by_rows: the same, where rows would have to be inserted;
* lend_collations, lend_functions: names that the databases need and this process does not have.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import shutil
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Done, build_database, look_at, unify, unify_without_privileges
from tests.oracle import account_for, combine
from unified_db.errors import SourceError, UsageError
from unified_db.migration import page_trees, standalone
from unified_db.migration.btree import UnknownError

FOLDERS = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.is_dir())
CASES = [p for p in FOLDERS if not (p / "make.py").exists()]
MADE = [p for p in FOLDERS if (p / "make.py").exists()]
PADDING = "CREATE TABLE {name} (b BLOB); INSERT INTO {name} VALUES (zeroblob({size}));"


@pytest.mark.parametrize(
    ("position", "wal"),
    # How a file is copied and how its rows are carried have nothing to do with each other.
    [("by-pages", False), ("by-pages", True), ("appended", True), ("by-rows", False)],
    ids=["by-pages", "by-pages-wal", "appended-wal", "by-rows"],
)
@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_case(case: Path, wal: bool, position: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if position == "by-rows":
        # As where pages mean something else in the largest file.
        monkeypatch.setattr(page_trees.Appender, "append", _refuse)
    sources = _build_sources(case, tmp_path, wal=wal, position=position)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    target = tmp_path / "out" / "unified.db"
    target.parent.mkdir()
    expected = case / "expect_failure"
    if position == "by-rows" and (case / "expect_failure_by_rows").exists():
        expected = case / "expect_failure_by_rows"
    options = read_layout(case, tmp_path)
    if expected.exists():
        with pytest.raises((SourceError, UsageError), match=expected.read_text().strip()):
            standalone.merge_sources(sources, target, **options)
        assert list(target.parent.iterdir()) == []
    else:
        report = standalone.merge_sources(sources, target, **options)
        assert [v.sentence() for v in report.verdicts if not v.passed] == []
        assert standalone.merge_sources(sources, target, **options).changed is False
        if not any(options.values()):
            _require_the_same(case, sources, target, tmp_path / "out")
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def _refuse(*_: object) -> None:
    raise UnknownError


def _build_sources(case: Path, folder: Path, *, wal: bool, position: str) -> list[Path]:
    scripts = sorted(p for p in case.iterdir() if p.suffix in (".sql", ".py"))
    sources = []
    for script in scripts:
        path = folder / f"{script.stem}.db"
        if script.suffix == ".sql":
            build_database(path, script.read_text(), wal=wal)
        else:
            runpy.run_path(str(script))["build"](path)
            build_database(path, "", wal=wal)
        sources.append(path)
    if len(sources) == 1:
        sources.append(build_database(folder / "other.db", "CREATE TABLE other (x)", wal=wal))
    larger, rest = (0, sources[1:]) if position == "by-pages" else (1, [sources[0], *sources[2:]])
    size = max(p.stat().st_size for p in rest) + (1 << 16)
    build_database(sources[larger], PADDING.format(name="unify_padding", size=size), wal=wal)
    assert sources[larger] == max(sources, key=lambda p: p.stat().st_size)
    return sources


def _require_the_same(case: Path, sources: list[Path], target: Path, folder: Path) -> None:
    lend = {kind: _names(case / f"lend_{kind}") for kind in ("collations", "functions")}
    accounts = []
    for source in sources:
        copy = folder / source.name
        shutil.copyfile(source, copy)
        _upgrade_as_langgraph_does(copy)
        accounts.append(account_for(copy, **lend))
    wanted, found = combine(accounts), account_for(target, **lend)
    assert set(found) == set(wanted)
    for name, entries in wanted.items():
        assert found[name] == entries, name


def _names(listed: Path) -> list[str]:
    return listed.read_text().split() if listed.exists() else []


def _upgrade_as_langgraph_does(path: Path) -> None:
    from langgraph.checkpoint.sqlite import SqliteSaver

    with closing(sqlite3.connect(path)) as conn:
        sql = "SELECT count(*) FROM sqlite_schema WHERE name IN ('checkpoints', 'writes') AND type = 'table'"
        if conn.execute(sql).fetchone() == (2,):
            SqliteSaver(conn).setup()
        conn.commit()
        conn.execute("PRAGMA journal_mode=DELETE")


@pytest.mark.parametrize("case", MADE, ids=lambda p: p.name)
def test_made_case(case: Path, tmp_path: Path) -> None:
    """What SQL cannot make, `make.py` does; it is merged by the command itself, or refused by it."""
    made = runpy.run_path(str(case / "make.py"))
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "unified.db"
    run = unify_without_privileges if made.get("WITHOUT_PRIVILEGES") else unify
    with contextlib.contextmanager(made["make"])(tmp_path) as sources:
        arguments = ("merge", "--into", target, *(["--"] if "--backups" not in map(str, sources) else []))
        before = {} if made.get("CHANGES_BY_ITSELF") else look_at(tmp_path)
        done = run(*arguments, *sources)
        after = {} if made.get("CHANGES_BY_ITSELF") else look_at(tmp_path)
        if (case / "expect_failure").exists():
            assert_refused(case, done)
            assert after == before
            assert [p for p in target.parent.iterdir() if p.name.startswith(".")] == []
            return
        assert done.exit_code == 0, done.told
        assert {k: v for k, v in after.items() if not k.startswith("out")} == {
            k: v for k, v in before.items() if not k.startswith("out")
        }
        again = run(*arguments, *sources)
        assert (again.exit_code, again.answer["changed"]) == (0, False)
        assert sum(t["rows"] for t in done.answer["tables"]) >= len(sources)


def assert_refused(case: Path, done: Done) -> None:
    expected = case / "expect_exit"
    assert done.exit_code == (int(expected.read_text()) if expected.exists() else 4), done.told
    assert re.search((case / "expect_failure").read_text().strip(), done.answer["message"], re.DOTALL)
    assert done.answer["hint"]
    assert "Traceback" not in done.told


def read_layout(case: Path, folder: Path) -> dict[str, list[str]]:
    """What `layout.toml` asks for, as options; it names the files by their stems."""
    file = case / "layout.toml"
    asked = tomllib.loads(file.read_text()) if file.exists() else {}
    return {
        "renames": [f"{folder / r['source']}.db:{r['object']}={r['to']}" for r in asked.get("rename", [])],
        "unions": [f"{folder / u['home']}.db:{u['table']}" for u in asked.get("union", [])],
    }


def test_virtual_tables_answer_after_the_merge(tmp_path: Path) -> None:
    case = Path(__file__).parent / "cases" / "every-kind-of-object"
    sources = [build_database(tmp_path / f"{n}.db", (case / f"{n}.sql").read_text()) for n in ("app", "big")]
    standalone.merge_sources(sources, tmp_path / "unified.db")
    with closing(sqlite3.connect(tmp_path / "unified.db")) as conn:
        assert conn.execute("SELECT body FROM search WHERE search MATCH 'hello'").fetchall() == [
            ("hello world",)
        ]
        assert conn.execute("SELECT id FROM box WHERE x0 <= 0").fetchall() == [(1,)]
        assert conn.execute("SELECT total FROM summed WHERE name = 'bob'").fetchall() == [(6,)]
        conn.execute("INSERT INTO p (name) VALUES ('new')")
        assert conn.execute("SELECT n FROM p WHERE name = 'new'").fetchall() == [(4,)], "the trigger works"
