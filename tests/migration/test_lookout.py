"""What is known of other people's commits to a source, and what SQLite's `data_version` is worth for that."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import build_database, used_by_another
from unified_db import files, sqlite
from unified_db.errors import CutoverRefusedError, SourceChangedError, SourceError
from unified_db.migration.journal import Journal, standing_acts
from unified_db.migration.lookout import Lookout, Lookouts
from unified_db.migration.runs import create_run

_ROWS = "CREATE TABLE t (x); INSERT INTO t VALUES ('a'), ('b'), ('c'); "
# Leaves page 1 as it is, so that in WAL mode the counter in the header stays as well.
_UPDATE = "UPDATE t SET x = 'late' WHERE rowid = 2"
_ANOTHER = """
import os, sqlite3, sys
# A checkpoint that a reader holds up is given up, and not waited for.
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.2)
for statement in sys.argv[2].split(";"):
    conn.execute(statement).fetchall()
if len(sys.argv) > 3:
    os.kill(os.getpid(), 9)
conn.close()
"""

Make = Callable[..., Path]


def another(path: Path, sql: str, *, killed: bool = False) -> None:
    """Another process executes *sql* on *path* and closes it, or is killed with it open."""
    command = [sys.executable, "-c", _ANOTHER, path, sql, *["killed"] * killed]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr


@pytest.fixture(params=["wal", "delete", "truncate", "persist"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(folder: Path, mode: str) -> Path:
    path = folder / "source.db"
    build_database(path, _ROWS, wal=mode == "wal")
    if mode in ("truncate", "persist"):
        another(path, f"PRAGMA journal_mode={mode}; UPDATE t SET x = x")
    return path


@contextmanager
def watched(path: Path) -> Iterator[tuple[Lookout, Journal]]:
    """A lookout on *path* that has noted it, and a journal to take its lock with."""
    journal = Journal(create_run(path.parent / "state"))
    with Lookouts([path]) as lookouts:
        lookouts.each[0].note()
        yield lookouts.each[0], journal


QUIET = {
    "nothing": "SELECT 1",
    "a-reader": "SELECT count(*) FROM t",
    "a-transaction-rolled-back": f"BEGIN; {_UPDATE}; ROLLBACK",
    "a-checkpoint-of-nothing": "PRAGMA wal_checkpoint",
}
WRITTEN = {
    "a-commit": _UPDATE,
    "fifty-commits-and-a-checkpoint": f"{';'.join([_UPDATE] * 50)}; PRAGMA wal_checkpoint",
    "a-commit-and-an-emptied-wal": f"{_UPDATE}; PRAGMA wal_checkpoint(TRUNCATE)",
    "a-restarted-wal": f"{_UPDATE}; PRAGMA wal_checkpoint(RESTART); {_UPDATE}",
    "vacuum": "VACUUM",
    "a-commit-undone-by-the-next": f"{_UPDATE}; UPDATE t SET x = 'b' WHERE rowid = 2",
    "no-journal-and-no-syncs": f"PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; {_UPDATE}",
    "a-schema-change": "CREATE TABLE more (x)",
}


@pytest.mark.parametrize("sql", [pytest.param(s, id=n) for n, s in QUIET.items()])
def test_a_source_that_nobody_wrote_is_known_to_be_unchanged(tmp_path: Path, mode: str, sql: str) -> None:
    path = make(tmp_path, mode)
    with watched(path) as (lookout, journal):
        another(path, sql)
        assert not lookout.is_late()
        lookout.take_lock(journal)
        assert not lookout.is_late()


@pytest.mark.parametrize("killed", [False, True], ids=["then-closed", "then-killed"])
@pytest.mark.parametrize("sql", [pytest.param(s, id=n) for n, s in WRITTEN.items()])
def test_no_commit_of_another_process_is_missed(tmp_path: Path, mode: str, sql: str, killed: bool) -> None:
    path = make(tmp_path, mode)
    with watched(path) as (lookout, journal):
        another(path, sql, killed=killed)
        lookout.take_lock(journal)
        assert lookout.is_late()


def test_which_rows_were_written_is_known_of_a_source_in_wal_mode(tmp_path: Path, mode: str) -> None:
    path = make_long(tmp_path, mode)
    with watched(path) as (lookout, journal):
        another(path, "UPDATE t SET x = 'late' WHERE rowid = 2000; PRAGMA wal_checkpoint(TRUNCATE)")
        another(path, "DELETE FROM t WHERE rowid = 1000; PRAGMA wal_checkpoint; INSERT INTO more VALUES (1)")
        lookout.take_lock(journal)
        found = lookout.changed_rows(root_pages(path))
    if mode != "wal":
        assert found is None
        return
    assert found is not None
    assert found.keys() == {"t", "more"}
    assert [s.first < row < s.end for row, s in zip((1000, 2000), found["t"], strict=True)] == [True, True]
    assert all(s.end - s.first < 1000 for s in found["t"])


def test_nothing_is_said_of_rows_where_somebody_writes_after_the_wal_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_long(tmp_path, "wal")
    look_alone = Lookout._look_alone

    def write_and_look(lookout: Lookout) -> None:
        another(path, "UPDATE t SET x = 'later' WHERE rowid = 1000; PRAGMA wal_checkpoint(TRUNCATE)")
        look_alone(lookout)

    monkeypatch.setattr(Lookout, "_look_alone", write_and_look)
    with watched(path) as (lookout, journal):
        another(path, "UPDATE t SET x = 'late' WHERE rowid = 2000")
        lookout.take_lock(journal)
        assert lookout.is_late()
        assert lookout.changed_rows(root_pages(path)) is None


def test_without_a_snapshot_a_source_is_watched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_long(tmp_path, "wal")

    def refuse(*_: object) -> None:
        raise SourceError("no reader is let in")

    with Lookouts([path]) as lookouts:
        (lookout,) = lookouts.each
        with monkeypatch.context() as patched:
            patched.setattr(sqlite, "connect_read_only", refuse)
            lookout.note()
        another(path, "UPDATE t SET x = 'late' WHERE rowid = 2000; PRAGMA wal_checkpoint(TRUNCATE)")
        lookout.take_lock(Journal(create_run(tmp_path / "state")))
        assert lookout.is_late()
        assert lookout.changed_rows(root_pages(path)) is None


def make_long(folder: Path, mode: str) -> Path:
    """A source of many pages."""
    path = make(folder, mode)
    numbers = "WITH RECURSIVE n (i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
    build_database(path, f"CREATE TABLE more (x); {numbers} INSERT INTO t SELECT hex(randomblob(40)) FROM n;")
    return path


def root_pages(path: Path) -> dict[str, int]:
    # A connection that only reads, of this process: its end would drop the lock of another one by hand.
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return sqlite.root_pages(conn)


@pytest.mark.parametrize(
    "sql",
    ["PRAGMA locking_mode=EXCLUSIVE; " + ";".join([_UPDATE] * 3), f"PRAGMA journal_mode=OFF; {_UPDATE}"],
    ids=["a-writer-that-keeps-its-lock", "a-writer-without-a-journal"],
)
def test_no_commit_of_an_odd_writer_without_a_wal_is_missed(tmp_path: Path, sql: str) -> None:
    path = make(tmp_path, "delete")
    with watched(path) as (lookout, journal):
        another(path, sql)
        lookout.take_lock(journal)
        assert lookout.is_late()


@pytest.mark.parametrize("back", ["", "; PRAGMA journal_mode=DELETE"], ids=["to-wal", "to-wal-and-back"])
def test_no_commit_is_missed_where_the_journal_mode_changes_meanwhile(tmp_path: Path, back: str) -> None:
    path = make(tmp_path, "delete")
    with watched(path) as (lookout, journal):
        another(path, f"PRAGMA journal_mode=WAL; {_UPDATE}{back}")
        lookout.take_lock(journal)
        assert lookout.is_late()
        assert read(path) == ["a", "late", "c"]


def read(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return [x for (x,) in conn.execute("SELECT x FROM t ORDER BY rowid")]


def test_sqlite_leaves_wal_mode_without_a_look_at_what_was_committed(tmp_path: Path) -> None:
    """The trap that the lookout goes around; where this fails one day, SQLite has mended it."""
    path = make(tmp_path, "wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        before = plain.execute("PRAGMA data_version").fetchone()
        read_before = plain.execute("SELECT x FROM t").fetchall()
        another(path, _UPDATE)
        assert plain.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        assert plain.execute("PRAGMA data_version").fetchone() == before
        assert plain.execute("SELECT x FROM t").fetchall() == read_before
    assert read(path) == ["a", "late", "c"]


def test_a_commit_whose_wal_index_was_torn_by_a_crash_is_not_missed(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    with watched(path) as (lookout, journal):
        another(path, _UPDATE, killed=True)
        # Only the -shm is written by hand: that holds no lock of the database file.
        with files.sidecar(path, "-shm").open("r+b") as shm:
            shm.write(b"\xff" * 48)
        lookout.take_lock(journal)
        assert lookout.is_late()
        assert read(path) == ["a", "late", "c"]


def test_what_a_killed_writer_had_not_committed_counts_for_nothing(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    with watched(path) as (lookout, journal):
        another(path, f"PRAGMA cache_size=1; BEGIN; {_UPDATE}", killed=True)
        lookout.take_lock(journal)
        assert not lookout.is_late()


def test_commits_beside_a_reader_that_stays_are_not_missed(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    with watched(path) as (lookout, journal):
        with used_by_another(path, "BEGIN; SELECT count(*) FROM t;"):
            another(path, f"{_UPDATE}; PRAGMA wal_checkpoint")
        lookout.take_lock(journal)
        assert lookout.is_late()


def test_a_writer_by_a_symbolic_link_is_not_missed(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path, mode)
    (tmp_path / "link.db").symlink_to(path)
    with watched(path) as (lookout, journal):
        another(tmp_path / "link.db", _UPDATE)
        lookout.take_lock(journal)
        assert lookout.is_late()


def test_a_file_with_a_second_name_counts_as_written(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path, mode)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.db").hardlink_to(path)
    with watched(path) as (lookout, journal):
        lookout.take_lock(journal)
        assert lookout.is_late()


def test_a_wal_under_a_second_name_is_refused_since_its_rows_would_be_lost(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    (tmp_path / "other.db").hardlink_to(path)
    with watched(path) as (lookout, journal):
        another(tmp_path / "other.db", _UPDATE)
        with pytest.raises(SourceError, match=r"in use by its other name other\.db"):
            lookout.take_lock(journal)


def test_bytes_written_past_sqlite_count_as_written(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    content = path.read_bytes()
    with watched(path) as (lookout, journal):
        script = "import sys; open(sys.argv[1], 'r+b').write(sys.stdin.buffer.read())"
        subprocess.run([sys.executable, "-c", script, path], input=content, check=True)
        lookout.take_lock(journal)
        assert lookout.is_late()


def test_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, "delete")
    with watched(path) as (lookout, journal):
        build_database(tmp_path / "new.db", _ROWS).replace(path)
        with pytest.raises(SourceChangedError, match="was replaced"):
            lookout.take_lock(journal)


def test_a_source_that_is_still_in_use_is_refused_and_stays_in_wal_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unified_db.migration.lookout._WAIT_S", 0.05)
    path = make(tmp_path, "wal")
    with (
        watched(path) as (lookout, journal),
        used_by_another(path, "SELECT count(*) FROM t"),
        pytest.raises(CutoverRefusedError, match="still in use"),
    ):
        lookout.take_lock(journal)
    assert standing_acts(journal.run) == []
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_lock_refuses_writers_and_lets_us_read(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path, mode)
    with watched(path) as (lookout, journal):
        lookout.take_lock(journal)
        assert read(path) == ["a", "b", "c"]
        done = subprocess.run(
            [sys.executable, "-c", _ANOTHER.replace("None)", "None, timeout=0)"), path, _UPDATE],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "database is locked" in done.stderr
    another(path, _UPDATE)
    assert read(path) == ["a", "late", "c"]


def test_what_was_forgotten_counts_as_written(tmp_path: Path) -> None:
    path = make(tmp_path, "wal")
    with watched(path) as (lookout, journal):
        lookout.forget()
        lookout.take_lock(journal)
        assert lookout.is_late()


def open_below(folder: Path) -> list[str]:
    """What this process has open there."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [name for name in found if name.startswith(str(folder))]


def test_a_lookout_that_was_closed_leaves_no_sidecar_and_no_descriptor(tmp_path: Path, mode: str) -> None:
    path = make(tmp_path, mode)
    before = open_below(tmp_path)
    with watched(path) as (lookout, journal):
        lookout.take_lock(journal)
        assert not files.sidecar(path, "-wal").exists()
    assert not [p for p in files.sidecars(path) if p.stat().st_size]
    assert open_below(tmp_path) == before == []
