"""Backups of several files show one instant, however busy their writers are, and never starve."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import used_by_another
from unified_db.errors import SourceBusyError, SourceChangedError
from unified_db.migration import backup, instant
from unified_db.migration.backup import PlainSource

# Takes both write locks, writes the same number into both files, and begins again at once.
_WRITER = """
import os, sqlite3, sys
conns = [sqlite3.connect(p, isolation_level=None, timeout=60) for p in sys.argv[1:3]]
number = 0
while True:
    number += 1
    for conn in conns:
        conn.execute("BEGIN IMMEDIATE")
    for conn in conns:
        conn.execute("INSERT INTO t VALUES (?, ?)", (os.getpid(), number))
    for conn in conns:
        conn.execute("COMMIT")
    if number == 3:
        print("at work", flush=True)
"""


@contextlib.contextmanager
def writers(paths: list[Path], *, count: int) -> Iterator[None]:
    """*count* processes that write pairs into both *paths*, all in the same order of the files."""
    started = [
        subprocess.Popen([sys.executable, "-c", _WRITER, *map(str, paths)], stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
        yield
        assert all(p.poll() is None for p in started), "a writer gave up"
    finally:
        for process in started:
            process.kill()
            process.wait()


def pairs(path: Path) -> set[tuple[int, int]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        return set(conn.execute("SELECT * FROM t"))


@pytest.mark.parametrize("modes", [("wal", "wal"), ("delete", "delete"), ("wal", "delete")], ids="-".join)
def test_no_pair_is_torn(modes: tuple[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path, mode in zip(paths, modes, strict=True):
        with closing(sqlite3.connect(path)) as conn:
            conn.executescript(f"PRAGMA journal_mode={mode}; CREATE TABLE t (writer, number)")
    (tmp_path / "out").mkdir()
    seen: set[int] = set()
    with writers(paths, count=3):
        for _ in range(25):
            # The order of the files is the writers' own and the other one in turn.
            paths.reverse()
            taken = backup.take_backups([PlainSource(p, p.name) for p in paths], tmp_path / "out")
            one, other = (pairs(item.path) for item in taken.items)
            assert one == other
            seen.add(len(one))
            for item in taken.items:
                item.path.unlink()
    assert len(seen) > 5, "the writers went on between the backups"


def test_a_long_transaction_in_one_file_does_not_hold_off_the_writers_of_the_other(tmp_path: Path) -> None:
    """While one lock is waited for, the other is given back again and again."""
    for name in ("a.db", "b.db"):
        with closing(sqlite3.connect(tmp_path / name)) as conn:
            conn.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x)")
    (tmp_path / "out").mkdir()
    sources = [PlainSource(tmp_path / n, n) for n in ("a.db", "b.db")]
    writer = (
        "import sqlite3, sys, time\n"
        "conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "done = 0\nprint('ready', flush=True)\n"
        "end = time.monotonic() + 1\n"
        "while time.monotonic() < end:\n"
        "    conn.execute('INSERT INTO t VALUES (1)')\n    done += 1\n    time.sleep(0.001)\n"
        "print(done)"
    )
    command = [sys.executable, "-c", writer, str(tmp_path / "a.db")]
    with (
        used_by_another(tmp_path / "b.db", "BEGIN IMMEDIATE"),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(SourceBusyError, match=r"b\.db was locked by a writer for 1\.\d s"):
            backup.take_backups(sources, tmp_path / "out", timeout_s=1.0)
        assert int(process.stdout.readline()) > 5
    assert list((tmp_path / "out").iterdir()) == []


def commit_once(path: Path, *, until: float) -> None:
    """One commit by somebody else; returns when *until* is over."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        other.commit()
    time.sleep(max(0.0, until - time.monotonic()))


def test_a_busy_writer_is_waited_for_longer_than_one_that_holds_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who commits while we wait leaves a gap some time; the time limit is for who does not."""
    path, take, waits = tmp_path / "a.db", instant._take, []
    with used_by_another(path, "CREATE TABLE t (x)"):
        pass

    def no_gap(conn: sqlite3.Connection, path: Path, *, until: float, since: float) -> bool:
        waits.append(until)
        if len(waits) > 3:
            return take(conn, path, until=until, since=since)
        commit_once(path, until=until)
        return False

    monkeypatch.setattr(instant, "_take", no_gap)
    with instant.write_locks([path], timeout_s=0.2) as locks:
        assert locks.since is not None
    assert len(waits) == 4


def test_a_busy_writer_is_given_up_on_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with used_by_another(path, "CREATE TABLE t (x)"):
        pass

    def no_gap(_conn: sqlite3.Connection, path: Path, *, until: float, since: float) -> bool:
        assert since <= until
        commit_once(path, until=until)
        return False

    monkeypatch.setattr(instant, "_take", no_gap)
    with (
        pytest.raises(SourceBusyError, match=r"a\.db was locked by a writer for [12]\.\d s"),
        instant.write_locks([path], timeout_s=0.1),
    ):
        pytest.fail("locked")


def test_what_may_not_be_locked_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that may only be read: a commit between the snapshots is noticed, and none is no matter."""
    path = tmp_path / "a.db"
    with used_by_another(path, "PRAGMA journal_mode=WAL; CREATE TABLE t (x)"):
        monkeypatch.setattr(instant, "_is_read_only", lambda _conn: True)
        with instant.write_locks([path], timeout_s=1.0) as locks:
            assert locks.since is None
            locks.require_nothing_written()
            with used_by_another(path, "INSERT INTO t VALUES (1)"), pytest.raises(SourceChangedError):
                locks.require_nothing_written()
