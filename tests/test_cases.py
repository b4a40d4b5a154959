"""Every folder under tests/cases is a database pair: merged and proven, or refused as it says."""

from __future__ import annotations

import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import build_database
from unified_db.errors import SourceError, UsageError
from unified_db.migration import standalone

CASES = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
@pytest.mark.parametrize("wal", [False, True], ids=["rollback-journal", "wal"])
def test_case(case: Path, wal: bool, tmp_path: Path) -> None:
    sources = [
        build_database(tmp_path / f"{sql.stem}.db", sql.read_text(), wal=wal)
        for sql in sorted(case.glob("*.sql"))
    ]
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    target = tmp_path / "out" / "unified.db"
    target.parent.mkdir()
    expected = case / "expect_failure"
    options = read_layout(case, tmp_path)
    if expected.exists():
        with pytest.raises((SourceError, UsageError), match=expected.read_text().strip()):
            standalone.merge_sources(sources, target, **options)
        assert not target.exists()
    else:
        report = standalone.merge_sources(sources, target, **options)
        assert [v.sentence() for v in report.verdicts if not v.passed] == []
        assert standalone.merge_sources(sources, target, **options).changed is False
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


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
