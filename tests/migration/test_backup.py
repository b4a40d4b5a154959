"""Backups show one instant, include the WAL, leave no trace, and refuse what is no database."""

from __future__ import annotations

import sqlite3
import struct
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import build_database
from unified_db import files, sources, sqlite
from unified_db.errors import ExitCode, SourceBusyError, SourceError
from unified_db.migration import backup
from unified_db.migration.backup import PlainSource


def source(path: Path) -> PlainSource:
    return PlainSource(path, path.name)


def count(path: Path, table: str = "t") -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith("-shm")}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def busy_wal(tmp_path: Path) -> sqlite3.Connection:
    """An open WAL database `wal.db` with 100 committed rows that are still in the WAL alone."""
    folder = tmp_path / "in"
    folder.mkdir()
    conn = sqlite3.connect(folder / "wal.db", isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA wal_autocheckpoint=0")
    conn.execute("CREATE TABLE t (x)")
    conn.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(100)])
    return conn


def test_rows_that_are_still_in_the_wal_are_in_the_backup(
    busy_wal: sqlite3.Connection, tmp_path: Path, out: Path
) -> None:
    backups = backup.take_backups([source(tmp_path / "in" / "wal.db")], out)
    assert count(backups.items[0].path) == 100
    assert backups.items[0].journal_mode == "wal"
    assert backups.items[0].sha256 == files.digest_file(out / "wal.db")
    busy_wal.close()


def test_a_source_in_use_keeps_its_wal(busy_wal: sqlite3.Connection, tmp_path: Path, out: Path) -> None:
    before = snapshot(tmp_path / "in")
    backup.take_backups([source(tmp_path / "in" / "wal.db")], out)
    assert snapshot(tmp_path / "in") == before
    busy_wal.close()


def test_a_wal_that_nobody_has_open_stays_and_no_sidecar_appears(
    busy_wal: sqlite3.Connection, tmp_path: Path, out: Path
) -> None:
    left = tmp_path / "left"
    left.mkdir()
    for name in ("wal.db", "wal.db-wal"):
        (left / name).write_bytes((tmp_path / "in" / name).read_bytes())
    busy_wal.close()
    before = snapshot(left)
    backups = backup.take_backups([source(left / "wal.db")], out)
    assert count(backups.items[0].path) == 100
    assert snapshot(left) == before
    assert sorted(p.name for p in left.iterdir()) == ["wal.db", "wal.db-wal"]


def test_an_idle_wal_database_gets_no_sidecars(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "idle"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "a.db")) as conn:
        conn.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    backup.take_backups([source(folder / "a.db")], out)
    assert [p.name for p in folder.iterdir()] == ["a.db"]


def test_a_hot_journal_is_honoured_and_left_alone(tmp_path: Path, out: Path) -> None:
    """A crashed writer leaves pages of an uncommitted transaction in the file; the journal undoes them."""
    folder = tmp_path / "hot"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "live.db", isolation_level=None)) as conn:
        conn.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        conn.execute("PRAGMA cache_size=1")
        conn.execute("BEGIN")
        conn.executemany("INSERT INTO t VALUES (randomblob(2000))", [()] * 50)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("live.db", "live.db-journal"):
            (crashed / name).write_bytes((folder / name).read_bytes())
        conn.execute("ROLLBACK")
    before = snapshot(crashed)
    backups = backup.take_backups([source(crashed / "live.db")], out)
    assert count(backups.items[0].path) == 1
    assert snapshot(crashed) == before


def test_all_backups_show_one_instant(tmp_path: Path, out: Path) -> None:
    """A writer adds a row to both files in turn; no backup pair may be further apart than that."""
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    conns = [sqlite3.connect(p, isolation_level=None, check_same_thread=False, timeout=10) for p in paths]
    for conn in conns:
        conn.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x)")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for conn in conns:
                conn.execute("INSERT INTO t VALUES (randomblob(500))")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            time.sleep(0.02)
            (out / str(number)).mkdir()
            backups = backup.take_backups([source(p) for p in paths], out / str(number))
            first, second = (count(b.path) for b in backups.items)
            assert 0 <= first - second <= 1
            assert writer.is_alive()
    finally:
        stop.set()
        writer.join()
        for conn in conns:
            conn.close()


def test_a_locked_source_is_given_up_after_the_timeout(tmp_path: Path, out: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as conn:
        conn.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x)")
        conn.execute("BEGIN IMMEDIATE")
        with pytest.raises(SourceBusyError, match="locked by a writer"):
            backup.take_backups([source(tmp_path / "a.db")], out, timeout_s=0.2)
    assert list(out.iterdir()) == []


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda d: d / "none.db", "does not exist", id="missing"),
        pytest.param(lambda d: _write(d / "a.db", b""), "is empty", id="zero-length"),
        pytest.param(lambda d: _write(d / "a.db", b"x" * 5000), "not a SQLite database", id="not-a-database"),
        pytest.param(lambda d: d, "is a folder", id="a-folder"),
        pytest.param(
            lambda d: _write(d / "a.db-wal", b"x") and d / "a.db",
            "its WAL a.db-wal is there",
            id="only-a-wal",
        ),
    ],
)
def test_what_is_no_database_is_refused_and_nothing_is_written(
    make: object, said: str, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = make(folder)  # type: ignore[operator]
    before = snapshot(folder)
    with pytest.raises(SourceError, match=said) as caught:
        backup.take_backups([source(path)], out)
    missing = said == "does not exist"
    assert caught.value.exit_code == (ExitCode.USAGE if missing else ExitCode.SOURCE_UNUSABLE)
    assert snapshot(folder) == before
    assert list(out.iterdir()) == []


def test_a_damaged_source_is_refused(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript("CREATE TABLE t (x); CREATE INDEX i ON t (x)")
        conn.executemany("INSERT INTO t VALUES (?)", [(f"{i:0100}",) for i in range(500)])
        conn.commit()
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 6 * 4096] = b"\xee" * 4096
    path.write_bytes(content)
    with pytest.raises(SourceError):
        backup.take_backups([source(path)], out)


@pytest.mark.parametrize(
    ("place", "number", "said"),
    [
        (36, 7, "size is 23 but should be 7"),
        (None, 9999, "invalid page number 9999"),
        (None, 13, "2nd reference to page 13"),
    ],
    ids=["how-many", "no-page", "twice"],
)
def test_a_damaged_list_of_free_pages_is_refused_behind_a_view(
    place: int | None, number: int, said: str, tmp_path: Path, out: Path
) -> None:
    """Where a view comes last `integrity_check` by itself calls such a file sound."""
    path = build_database(
        tmp_path / "a.db",
        "CREATE TABLE t (x); CREATE TABLE gone (x); INSERT INTO gone VALUES (zeroblob(90000));"
        "DROP TABLE gone; CREATE VIEW v AS SELECT x FROM t;",
    )
    content = bytearray(path.read_bytes())
    (trunk,) = struct.unpack_from(">I", content, 32)
    struct.pack_into(">I", content, (trunk - 1) * 4096 + 8 if place is None else place, number)
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with pytest.raises(SourceError, match=f"is damaged: Main freelist: {said}"):
        backup.take_backups([source(path)], out)


def test_no_folder_is_named_as_a_database(tmp_path: Path) -> None:
    """What SQLite says while a folder is in use is about a file in it, or about another one."""
    said = sqlite3.OperationalError("no such column: type")
    with (
        pytest.raises(SourceError, match="SQLite could not go on: no such column: type") as of_none,
        backup.made_folder(tmp_path / "backups"),
    ):
        raise said
    assert str(tmp_path) not in of_none.value.message
    with (
        pytest.raises(SourceError, match=r"app\.db cannot be read as a database: no such column: type"),
        backup.made_folder(tmp_path / "backups", read=tmp_path / "app.db"),
    ):
        raise said
    assert list(tmp_path.iterdir()) == []


def test_restore_never_mixes_the_new_file_with_old_sidecars(
    busy_wal: sqlite3.Connection, tmp_path: Path
) -> None:
    live = tmp_path / "in" / "wal.db"
    taken = backup.backup_file(live, tmp_path / "kept")
    assert count(taken.path) == 100
    busy_wal.execute("DELETE FROM t")
    with pytest.raises(SourceBusyError, match="in use"):
        backup.restore_file(taken.path, live)
    left = files.sidecar(live, "-wal").read_bytes()
    busy_wal.close()
    files.sidecar(live, "-wal").write_bytes(left)
    backup.restore_file(taken.path, live)
    assert files.sidecars(live) == []
    with sources.reading(live) as conn:
        assert sqlite.count_rows(conn, "t") == 100
    assert len([p for p in live.parent.iterdir() if "before-restore" in p.name]) == 2
