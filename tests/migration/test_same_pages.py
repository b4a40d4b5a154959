"""What lies in the same pages is the same: never a table that differs, and of a page-by-page copy all."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from tests.migration.ledger_application import integrity
from tests.migration.many_pages import TABLES, act, fill, rows
from unified_db.migration import backup, compare, merge, page_trees, same_pages, validate
from unified_db.migration.backup import PlainSource

_ALL = {"t", "large", "sequence", "keyed"}


def made(path: Path, *, seed: int = 1, count: int = 300, settings: str = "") -> Path:
    """A database with pages of every kind, free ones too."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(settings + TABLES)
        fill(conn, chance, count)
        for _ in range(chance.randrange(20)):
            act(conn, chance)
    return path


def content(path: Path) -> dict[str, object] | None:
    """The rows of each table; None where the file is damaged."""
    with closing(sqlite3.connect(path)) as conn:
        conn.text_factory = bytes
        try:
            if conn.execute("PRAGMA integrity_check").fetchall() != [(b"ok",)]:
                return None
            return {**rows(conn), "keyed": conn.execute("SELECT * FROM keyed").fetchall()}
        except sqlite3.DatabaseError:
            return None


def flip_a_bit(path: Path, chance: random.Random, page_bytes: int) -> None:
    changed = bytearray(path.read_bytes())
    # Behind the first page, whose header would say at once that something is wrong.
    changed[chance.randrange(page_bytes, len(changed))] ^= 1 << chance.randrange(8)
    path.write_bytes(changed)


@pytest.mark.parametrize("seed", range(60))
def test_no_table_that_differs_is_called_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    page_bytes = chance.choice([512, 1024, 4096, 65536])
    before = made(
        tmp_path / "before.db",
        seed=seed,
        count=chance.choice([0, 5, 100]),
        settings=f"PRAGMA page_size={page_bytes};",
    )
    after = Path(shutil.copyfile(before, tmp_path / "after.db"))
    with closing(sqlite3.connect(after, isolation_level=None)) as conn:
        conn.text_factory = bytes
        for _ in range(chance.randrange(4)):
            act(conn, chance)
        if chance.randrange(2):
            conn.execute("CREATE TABLE added (a PRIMARY KEY, b)")
            conn.executemany("INSERT INTO added VALUES (?, zeroblob(?))", [(n, n * 300) for n in range(60)])
    for _ in range(chance.randrange(3)):
        flip_a_bit(after, chance, page_bytes)
    mine, theirs = content(before), content(after)
    same = same_pages.find_same(before, after, _ALL).tables
    assert mine is not None
    if theirs is not None:
        assert {name for name in same & mine.keys() if mine[name] != theirs[name]} == set()


@pytest.mark.parametrize("first_byte", [None, 2, 5, 10, 13], ids=str)
def test_a_bit_anywhere_in_a_chain_of_overflow_pages_is_seen(tmp_path: Path, first_byte: int | None) -> None:
    """Where its first byte makes it look like a page of a tree, too."""
    before = made(tmp_path / "before.db", count=40)
    file, tree = tree_of(before, "large")
    pages = [p for p in tree.pages.tolist() if file.content[(p - 1) * file.page_bytes] == 0]
    assert len(pages) > 50
    after = Path(shutil.copyfile(before, tmp_path / "after.db"))
    assert same_pages.find_same(before, after, _ALL).tables == _ALL
    for page in random.Random(1).sample(pages, 25):
        changed = bytearray(before.read_bytes())
        begin = (page - 1) * file.page_bytes
        changed[begin + 4] ^= 1
        if first_byte is not None:
            changed[begin] = first_byte
        after.write_bytes(changed)
        assert "large" not in same_pages.find_same(before, after, _ALL).tables


def tree_of(path: Path, name: str) -> tuple[page_trees.PageFile, page_trees.Tree]:
    file = page_trees.PageFile(path)
    (root,) = (row.root for row in page_trees.schema_rows(path) if row.name == name)
    return file, file.walk(root)


def merged(tmp_path: Path, largest: Path, other: Path) -> tuple[backup.Backups, merge.UnifiedFile]:
    (tmp_path / "backups").mkdir()
    plain = [PlainSource(p, p.name) for p in (other, largest)]
    backups = backup.take_backups(plain, tmp_path / "backups")
    return backups, merge.merge_backups(backups, tmp_path / "unified.db")


def other_source(path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript("CREATE TABLE notes (k INTEGER PRIMARY KEY, v); CREATE INDEX by_v ON notes (v);")
        conn.executemany("INSERT INTO notes (v) VALUES (?)", [("note" * n,) for n in range(300)])
    return path


@pytest.mark.parametrize(
    ("page_bytes", "by_rows"),
    [pytest.param(4096, [], id="pages-alike"), pytest.param(8192, ["notes"], id="pages-of-another-size")],
)
def test_no_row_is_compared_where_the_pages_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_bytes: int, by_rows: list[str]
) -> None:
    compared = []
    find_differences = compare.find_differences

    def noted(conn: sqlite3.Connection, table: object, **options: object) -> object:
        compared.append(table.name)  # type: ignore[attr-defined]
        return find_differences(conn, table, **options)  # type: ignore[arg-type]

    largest = made(tmp_path / "large.db", settings=f"PRAGMA page_size={page_bytes};")
    backups, unified = merged(tmp_path, largest, other_source(tmp_path / "other.db"))
    monkeypatch.setattr(compare, "find_differences", noted)
    assert validate.validate(backups, unified).passed
    assert compared == by_rows


def test_a_whole_file_is_in_another_where_every_tree_is_and_nothing_else_is_used(tmp_path: Path) -> None:
    backups, unified = merged(tmp_path, made(tmp_path / "large.db"), other_source(tmp_path / "other.db"))
    found = [same_pages.find_same(b.path, unified.path, {*_ALL, "notes"}, whole=True) for b in backups.items]
    assert found == [same_pages.Same(frozenset({"notes"}), True), same_pages.Same(frozenset(_ALL), True)]


@pytest.mark.parametrize(
    "damage",
    ["DROP INDEX by_name", "UPDATE large SET name = name || 'x' WHERE rowid = 1", "DELETE FROM keyed"],
)
def test_one_tree_that_differs_is_enough_for_it_not_to_be_whole(tmp_path: Path, damage: str) -> None:
    before = made(tmp_path / "before.db")
    after = Path(shutil.copyfile(before, tmp_path / "after.db"))
    assert same_pages.find_same(before, after, _ALL, whole=True).whole
    with closing(sqlite3.connect(after, isolation_level=None)) as conn:
        conn.execute(damage)
    assert not same_pages.find_same(before, after, _ALL, whole=True).whole


def test_a_page_that_nothing_uses_keeps_a_file_from_being_whole(tmp_path: Path) -> None:
    before = made(tmp_path / "before.db")
    with before.open("ab") as stream:
        stream.write(bytes(4096))
    damaged(before, 28, struct.pack(">I", before.stat().st_size // 4096))
    assert integrity(before) != "ok"
    assert not same_pages.find_same(before, before, _ALL, whole=True).whole


def test_pages_that_point_at_others_are_accounted_for_by_sqlite_alone(tmp_path: Path) -> None:
    before = made(tmp_path / "before.db", settings="PRAGMA auto_vacuum=1;")
    assert same_pages.find_same(before, before, _ALL, whole=True) == same_pages.Same(frozenset(_ALL), False)


def test_a_table_that_begins_elsewhere_or_is_defined_otherwise_is_left_to_the_rows(tmp_path: Path) -> None:
    before = made(tmp_path / "before.db")
    after = Path(shutil.copyfile(before, tmp_path / "after.db"))
    with closing(sqlite3.connect(after, isolation_level=None)) as conn:
        conn.execute("ALTER TABLE t RENAME v TO w")
        conn.execute("DROP TABLE sequence")
        conn.execute("CREATE TABLE sequence (k INTEGER PRIMARY KEY AUTOINCREMENT, v)")
    assert same_pages.find_same(before, after, _ALL).tables == {"large", "keyed"}


def damaged(path: Path, place: int, content: bytes) -> Path:
    changed = bytearray(path.read_bytes())
    changed[place : place + len(content)] = content
    path.write_bytes(changed)
    return path


def test_where_sqlite_leaves_free_pages_out_of_its_check_being_free_excuses_nothing(tmp_path: Path) -> None:
    """A view that comes last keeps `integrity_check` from looking at them."""
    before = tmp_path / "before.db"
    with closing(sqlite3.connect(before, isolation_level=None)) as conn:
        conn.executescript(
            "CREATE TABLE large (name TEXT, body); INSERT INTO large VALUES ('x', zeroblob(30000));"
            "CREATE TABLE gone AS SELECT * FROM large; DROP TABLE gone;"
            "CREATE VIEW names AS SELECT name FROM large;"
        )
    content = before.read_bytes()
    (trunk,) = struct.unpack_from(">I", content, 32)
    # Page 3 is in the chain of the row, and said to be free.
    damaged(before, (trunk - 1) * 4096 + 8, struct.pack(">I", 3))
    after = damaged(Path(shutil.copyfile(before, tmp_path / "after.db")), 2 * 4096 + 100, b"x")
    assert integrity(after) == "ok"
    assert same_pages.find_same(before, after, {"large"}) == same_pages.Same()


def test_nothing_is_said_of_a_file_whose_last_page_is_cut_off(tmp_path: Path) -> None:
    """SQLite reads it with zeros behind it."""
    before = tmp_path / "before.db"
    with closing(sqlite3.connect(before, isolation_level=None)) as conn:
        conn.executescript("CREATE TABLE large (x); INSERT INTO large VALUES (zeroblob(30000));")
    before.write_bytes(before.read_bytes()[:-100])
    # SQLite believes the number of pages in the header only where these two say the same.
    damaged(before, 92, b"\0\0\0\0")
    after = damaged(Path(shutil.copyfile(before, tmp_path / "after.db")), before.stat().st_size - 900, b"x")
    assert integrity(after) == "ok"
    assert same_pages.find_same(before, after, {"large"}) == same_pages.Same()


@pytest.mark.parametrize(
    "row",
    [
        "('index', 'sqlite_autoindex_t_1', 't', {page}, NULL)",
        "('table', 'T', 'T', {page}, 'CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v, u UNIQUE)')",
        "('trigger', 'tr', 't', {page}, 'CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END')",
        "('table', 'v', 'v', {page}, 'CREATE VIRTUAL TABLE v USING fts5(x)')",
        "('index', 'sqlite_autoindex_keyed_1', 'keyed', {page}, NULL)",
        "('table', 'v', 'v', '{page}', 'CREATE TABLE v (x)')",
    ],
    ids=[
        "an-index-twice",
        "a-table-twice",
        "a-trigger",
        "a-virtual-table",
        "a-key-that-is-its-table",
        "text",
    ],
)
def test_nothing_is_said_where_a_row_of_the_schema_means_something_else(tmp_path: Path, row: str) -> None:
    before = made(tmp_path / "before.db")
    with closing(sqlite3.connect(before, isolation_level=None)) as conn:
        conn.execute("PRAGMA writable_schema=ON")
        conn.execute(f"INSERT INTO sqlite_schema VALUES {row.format(page=7)}")
    assert same_pages.find_same(before, before, _ALL) == same_pages.Same()
