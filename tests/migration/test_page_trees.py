"""Trees that are appended to another file are sound there and hold the same; what differs is not the same."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.migration.ledger_application import integrity
from tests.migration.many_pages import TABLES, act, fill, rows
from unified_db.migration import backup, copy, merge, page_trees, same_pages
from unified_db.migration.backup import PlainSource
from unified_db.migration.btree import UnknownError

_ALL = {"t", "large", "sequence", "keyed"}


def source(path: Path, chance: random.Random, *, page_bytes: int, count: int) -> Path:
    """A database with pages of every kind."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(f"PRAGMA page_size={page_bytes}; {TABLES} CREATE INDEX by_body ON large (body);")
        fill(conn, chance, count)
        for _ in range(chance.randrange(20)):
            act(conn, chance)
    return path


def largest(path: Path, *, page_bytes: int, size_bytes: int) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(f"PRAGMA page_size={page_bytes}; PRAGMA journal_mode=OFF; CREATE TABLE room (b);")
        # SQLite takes no value of more than 1,000,000,000 bytes.
        conn.executemany("INSERT INTO room VALUES (zeroblob(?))", [(size_bytes // 2,)] * 2)
    return path


def appended(folder: Path, other: Path, base: Path) -> tuple[Path, Path]:
    """The backup of *other*, and the unified file that its trees were appended to."""
    (folder / "backups").mkdir()
    backups = backup.take_backups([PlainSource(p, p.name) for p in (other, base)], folder / "backups")
    merge.merge_backups(backups, folder / "unified.db")
    return backups.items[0].path, folder / "unified.db"


def content(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as conn:
        conn.text_factory = bytes
        schema = (
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name IN ('t', 'large', 'keyed')"
        )
        return {
            **rows(conn),
            "keyed": conn.execute("SELECT * FROM keyed").fetchall(),
            "schema": sorted(conn.execute(schema).fetchall(), key=str),
        }


@pytest.mark.parametrize("page_bytes", [512, 1024, 4096, 32768, 65536])
@pytest.mark.parametrize("count", [0, 7, 300])
def test_what_is_appended_is_sound_and_the_same(tmp_path: Path, page_bytes: int, count: int) -> None:
    other = source(tmp_path / "other.db", random.Random(count), page_bytes=page_bytes, count=count)
    base = largest(tmp_path / "large.db", page_bytes=page_bytes, size_bytes=other.stat().st_size + 99_999)
    before, unified = appended(tmp_path, other, base)
    assert integrity(unified) == "ok"
    assert content(unified) == content(before)
    assert same_pages.find_same(before, unified, _ALL, whole=True) == same_pages.Same(frozenset(_ALL), True)
    with closing(sqlite3.connect(unified, isolation_level=None)) as conn:
        for seed in range(30):
            act(conn, random.Random(seed))
    assert integrity(unified) == "ok", "it can be written to"


def test_the_page_where_sqlite_puts_its_locks_stays_empty(tmp_path: Path) -> None:
    other = source(tmp_path / "other.db", random.Random(1), page_bytes=65536, count=300)
    base = largest(tmp_path / "large.db", page_bytes=65536, size_bytes=0)
    # A gigabyte that takes no room on the disk: three pages are left before that page.
    pages = (1 << 30) // 65536 - 3
    with base.open("r+b") as stream:
        stream.truncate(pages * 65536)
        stream.seek(28)
        stream.write(struct.pack(">I", pages))
    rows_there = page_trees.schema_rows(other)
    moved_rows = [row for row in rows_there if row.name != "sqlite_sequence"]
    appender = page_trees.Appender(base, base)
    moved = appender.append(other, [row.root for row in moved_rows])
    appender.finish()
    appended_pages = range(pages + 1, page_trees.PageFile(base).pages + 1)
    assert (1 << 30) // 65536 + 1 in appended_pages
    with closing(sqlite3.connect(base, isolation_level=None)) as conn:
        copy.make_counters(conn)
        with closing(sqlite3.connect(other)) as theirs:
            objects = copy.read_objects(theirs)
        copy.adopt_trees(
            conn, [replace(r, root=moved[r.root]) for r in moved_rows], [(o, o) for o in objects]
        )
        checked = {name: conn.execute(f"PRAGMA integrity_check({name})").fetchall() for name in _ALL}
    assert checked == {name: [("ok",)] for name in _ALL}
    assert content(base) == content(other)
    assert same_pages.find_same(other, base, _ALL).tables == _ALL


def is_sound(path: Path) -> bool:
    try:
        return integrity(path) == "ok"
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False


@pytest.mark.parametrize("seed", range(60))
def test_no_table_that_differs_is_called_the_same(tmp_path: Path, seed: int) -> None:
    """Bits are flipped anywhere in what was appended; where SQLite finds it sound, nothing is hidden."""
    chance = random.Random(seed)
    page_bytes = chance.choice([512, 4096])
    other = source(tmp_path / "other.db", chance, page_bytes=page_bytes, count=chance.choice([5, 60]))
    base = largest(tmp_path / "large.db", page_bytes=page_bytes, size_bytes=other.stat().st_size)
    before, unified = appended(tmp_path, other, base)
    whole = unified.read_bytes()
    for _ in range(20):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3])):
            changed[chance.randrange(base.stat().st_size, len(changed))] ^= 1 << chance.randrange(8)
        unified.write_bytes(changed)
        same = same_pages.find_same(before, unified, _ALL).tables
        if is_sound(unified):
            wanted, found = content(before), content(unified)
            assert {name for name in same if wanted[name] != found[name]} == set()


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_source_is_appended_as_it_is_or_not_at_all(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    other = source(tmp_path / "other.db", chance, page_bytes=512, count=40)
    base = largest(tmp_path / "large.db", page_bytes=512, size_bytes=other.stat().st_size)
    roots = [row.root for row in page_trees.schema_rows(other)]
    target = Path(shutil.copyfile(base, tmp_path / "copy.db"))
    for _ in range(20):
        changed = bytearray(other.read_bytes())
        for _ in range(chance.choice([1, 1, 9])):
            changed[chance.randrange(512, len(changed))] ^= 1 << chance.randrange(8)
        (tmp_path / "damaged.db").write_bytes(changed)
        appender = page_trees.Appender(base, target)
        try:
            moved = appender.append(tmp_path / "damaged.db", roots)
        except UnknownError:
            appender.finish()
            assert target.read_bytes() == base.read_bytes()
            continue
        appender.finish()
        mine, theirs = page_trees.PageFile(tmp_path / "damaged.db"), page_trees.PageFile(target)
        for root in roots:
            one, other_one = mine.walk(root), theirs.walk(moved[root])
            assert page_trees.same_elsewhere(mine, one, theirs, other_one)
        del mine, theirs
        shutil.copyfile(base, target)


def test_a_chain_that_leads_to_itself_is_followed_only_as_far_as_its_record_goes(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000));")
    whole = bytearray(path.read_bytes())
    whole[2 * 4096 : 2 * 4096 + 4] = struct.pack(">I", 3)
    path.write_bytes(whole)
    tree = page_trees.PageFile(path).walk(2)
    assert len(tree.pages) == 25
    with pytest.raises(UnknownError):
        page_trees.Appender(path, path).append(path, [2])


@pytest.mark.parametrize(
    ("place", "content"),
    [
        pytest.param(8, struct.pack(">I", 1 << 20), id="a-page-behind-the-end"),
        pytest.param(8, struct.pack(">I", 0), id="no-page"),
        pytest.param(8, struct.pack(">I", 2), id="itself"),
        pytest.param(0, b"\x07", id="a-page-of-no-kind"),
        pytest.param(3, b"\xff\xff", id="more-cells-than-fit"),
        pytest.param(12, b"\xff\xff", id="a-cell-behind-the-page"),
        pytest.param(12, b"\0\1", id="a-cell-in-the-header"),
    ],
)
def test_an_inner_page_that_makes_no_sense_is_no_tree(tmp_path: Path, place: int, content: bytes) -> None:
    path = tmp_path / "tree.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.executemany("INSERT INTO t VALUES (?)", [("x" * 900,) for _ in range(50)])
    assert len(page_trees.PageFile(path).walk(2).pages) == 14
    whole = bytearray(path.read_bytes())
    whole[4096 + place : 4096 + place + len(content)] = content
    path.write_bytes(whole)
    with pytest.raises(UnknownError):
        page_trees.PageFile(path).walk(2)


def test_trees_are_not_appended_where_pages_mean_something_else(tmp_path: Path) -> None:
    other = source(tmp_path / "other.db", random.Random(1), page_bytes=1024, count=9)
    base = largest(tmp_path / "large.db", page_bytes=4096, size_bytes=other.stat().st_size)
    assert not page_trees.can_append(other, base)
    before = base.read_bytes()
    with pytest.raises(UnknownError):
        page_trees.Appender(base, base).append(other, [2])
    assert base.read_bytes() == before
