"""UTF-16 sources become UTF-8 exactly, or are refused; Python's own decoder is the judge."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import build_database
from unified_db import files
from unified_db.errors import SourceError
from unified_db.migration import backup, standalone, transcode
from unified_db.migration.backup import PlainSource
from unified_db.migration.records import Backup

TEXTS = ["", "a", "ä€", "😀", "ﬀ\U0010ffff", "\ufeffbom", "\ufffe\uffff", "a\0b\0", "\u0301e", "12", "1.0"]
SCHEMA = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, x);"
    "CREATE TABLE k (x TEXT PRIMARY KEY, y) WITHOUT ROWID; CREATE INDEX i ON t (x);"
)


def utf16(path: Path, order: str, texts: list[str]) -> Path:
    build_database(path, f"PRAGMA encoding='UTF-16{order}'; {SCHEMA}")
    # As bytes, and literal ones: what SQLite converts itself loses U+FFFE and U+FFFF on the way.
    raw = [f"CAST(x'{t.encode(f'utf-16-{order}').hex()}' AS TEXT)" for t in texts]
    with closing(sqlite3.connect(path)) as conn, conn:
        for text in raw:
            conn.execute(f"INSERT INTO t (x) VALUES ({text})")
            conn.execute(f"INSERT INTO k VALUES ({text}, 1)")
    return path


def take(path: Path, folder: Path) -> Backup:
    folder.mkdir(exist_ok=True)
    return backup.take_backups([PlainSource(path, path.name)], folder).items[0]


def stored(path: Path, table: str, codec: str) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return [
            raw.decode(codec) for (raw,) in conn.execute(f"SELECT CAST(x AS BLOB) FROM {table} ORDER BY 1")
        ]


@pytest.mark.parametrize("order", ["le", "be"])
def test_every_character_arrives(order: str, tmp_path: Path) -> None:
    item = take(utf16(tmp_path / "a.db", order, TEXTS), tmp_path / "kept")
    source = (tmp_path / "a.db").read_bytes()
    other = take(build_database(tmp_path / "b.db", "CREATE TABLE b (x)"), tmp_path / "other")
    (working, same), (finding,) = transcode.to_one_encoding([item, other], tmp_path / "kept")
    assert same == other
    assert finding.passed
    for table in ("t", "k"):
        assert sorted(stored(working.path, table, "utf-8")) == sorted(TEXTS)
        assert sorted(stored(item.path, table, f"utf-16-{order}")) == sorted(TEXTS)
    # SQLite's own copy counts as a change of the file, which its header tells; all else is the source.
    assert item.path.read_bytes()[100:] == source[100:]
    assert files.digest_file(item.path) == item.sha256


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=10, unique=True)
)
def test_any_text_arrives(texts: list[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    item = take(utf16(tmp_path / "a.db", "le", texts), tmp_path / "kept")
    working = transcode.transcode(item, tmp_path / "working.db")
    assert transcode.check_same_text(item, working).passed
    assert sorted(stored(working.path, "t", "utf-8")) == sorted(texts)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE t SET x = x || char(0) WHERE id = 3", id="a-trailing-nul"),
        pytest.param("UPDATE t SET x = CAST(x AS BLOB) WHERE id = 3", id="text-to-blob"),
        pytest.param("UPDATE t SET x = char(233) WHERE id = 9", id="another-normal-form"),
        pytest.param("DELETE FROM t WHERE id = 3", id="a-row-lost"),
        pytest.param("UPDATE t SET id = 99 WHERE id = 3", id="another-rowid"),
        pytest.param("UPDATE k SET y = 1.0 WHERE x = 'a'", id="1-to-1.0"),
        pytest.param("UPDATE k SET x = 'b' WHERE x = 'a'", id="another-key"),
        pytest.param("INSERT INTO k VALUES ('new', 1)", id="a-keyed-row-more"),
        pytest.param("DROP INDEX i", id="an-index-lost"),
    ],
)
def test_any_difference_is_found(damage: str, tmp_path: Path) -> None:
    item = take(utf16(tmp_path / "a.db", "le", TEXTS), tmp_path / "kept")
    working = transcode.transcode(item, tmp_path / "working.db")
    with closing(sqlite3.connect(working.path)) as conn:
        conn.executescript(damage)
    assert not transcode.check_same_text(item, working).passed


def test_full_text_search_answers_after_the_merge(tmp_path: Path) -> None:
    app = build_database(
        tmp_path / "a.db",
        "PRAGMA encoding='UTF-16be'; CREATE VIRTUAL TABLE f USING fts5(body); CREATE VIRTUAL TABLE g USING "
        "fts4(body); INSERT INTO f VALUES ('hällo wörld'); INSERT INTO g VALUES ('hällo wörld')",
    )
    other = build_database(tmp_path / "b.db", "CREATE TABLE b (x)")
    standalone.merge_sources([app, other], tmp_path / "u.db")
    with closing(sqlite3.connect(tmp_path / "u.db")) as conn:
        for table in ("f", "g"):
            found = conn.execute(f"SELECT body FROM {table} WHERE {table} MATCH 'wörld'").fetchall()
            assert found == [("hällo wörld",)]
            conn.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")
        assert conn.execute("PRAGMA encoding").fetchone() == ("UTF-8",)


def test_a_definition_that_would_not_survive_is_refused(tmp_path: Path) -> None:
    app = build_database(
        tmp_path / "a.db",
        "PRAGMA encoding='UTF-16le'; CREATE TABLE a (x); PRAGMA writable_schema=ON;"
        "UPDATE sqlite_schema SET sql = sql || CAST(x'2d002d0000d8' AS TEXT)",
    )
    other = build_database(tmp_path / "b.db", "CREATE TABLE b (x)")
    with pytest.raises(SourceError, match="definition at rowid 1 of sqlite_schema is no valid UTF-16-LE"):
        standalone.merge_sources([app, other], tmp_path / "u.db")
    assert {p.name for p in tmp_path.iterdir()} == {"a.db", "b.db"}
