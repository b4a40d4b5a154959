"""A copy of bytes beside writers and checkpoints is what SQLite's own backup makes of the same snapshot."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.conftest import build_database, used_by_another
from unified_db import files, pieces, sqlite
from unified_db.errors import SourceChangedError
from unified_db.migration import backup, instant, live_copy
from unified_db.migration.backup import PlainSource

# In the header of a database: the version of the format, how often it and its schema were written, by whom.
_OF_THE_COPY = (slice(18, 20), slice(24, 28), slice(40, 44), slice(92, 100))
_ROWS = """
CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
INSERT INTO t (v) SELECT randomblob(700) FROM n;
"""
# Writes here and there, and now and then checkpoints.
_WRITER = """
import random, sqlite3, sys, time
chance = random.Random(int(sys.argv[2]))
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
conn.execute("PRAGMA wal_autocheckpoint=7")
modes, sizes = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"], [10, 900, 30000]
number = 0
while True:
    number += 1
    kind = chance.randrange(6)
    if kind == 0:
        conn.execute(f"PRAGMA wal_checkpoint({chance.choice(modes)})").fetchall()
    elif kind == 1:
        conn.execute("DELETE FROM t WHERE k % 9 = ? AND k > 100", (chance.randrange(9),))
    elif kind == 2:
        conn.execute("INSERT INTO t (v) VALUES (randomblob(?))", (chance.choice(sizes),))
    else:
        values = (chance.randrange(900), chance.randrange(50))
        conn.execute("UPDATE t SET v = randomblob(?) WHERE k % 50 = ?", values)
    if number == 3:
        print("at work", flush=True)
    time.sleep(0.0005)
"""


def pages(path: Path) -> list[bytes]:
    """The pages of a database, without what tells whose copy it is."""
    content = bytearray(path.read_bytes())
    for place in _OF_THE_COPY:
        content[place] = bytes(place.stop - place.start)
    size = int.from_bytes(content[16:18], "big")
    size = 65536 if size == 1 else size
    return [bytes(content[at : at + size]) for at in range(0, len(content), size)]


@contextmanager
def begun(
    path: Path, before: Callable[[], object] = lambda: None
) -> Iterator[tuple[live_copy.LiveFile, sqlite3.Connection]]:
    """A snapshot of *path* that is noted while nobody can commit; *before* its reader opens the file."""
    with live_copy.opened(path) as live:
        assert live is not None
        before()
        with closing(sqlite.connect_read_only(path, timeout_s=60)) as reader:
            with instant.write_locks([path], timeout_s=60):
                sqlite.begin_snapshot(reader)
                live.note(reader)
            assert live.is_known
            yield live, reader


def require_same(live: live_copy.LiveFile, reader: sqlite3.Connection, into: Path) -> int:
    """How many pages the copy has."""
    ours, theirs = into / "ours", into / "theirs"
    live.copy(ours, lambda _: time.sleep(0.001))
    sqlite.copy_database(reader, theirs)
    mine, other = pages(ours), pages(theirs)
    assert len(mine) == len(other)
    assert [n for n, pair in enumerate(zip(mine, other, strict=True), 1) if pair[0] != pair[1]] == []
    with closing(sqlite.connect_frozen(ours)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ours.unlink()
    theirs.unlink()
    return len(mine)


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate"])
@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_it_is_the_same_snapshot_whatever_writers_and_checkpoints_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, page_bytes: int
) -> None:
    # Little at a time, so that a good deal is written meanwhile.
    monkeypatch.setattr(files, "_CHUNK_BYTES", 64 << 10)
    path = build_database(tmp_path / "s.db", f"PRAGMA page_size={page_bytes};" + _ROWS)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}").fetchall()
    started = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
        seen = set()
        for number in range(30):
            with begun(path) as (live, reader):
                seen.add(reader.execute("SELECT total(length(v)) FROM t").fetchone())
                time.sleep(0.01 * (number % 3) if mode == "wal" else 0)
                require_same(live, reader, tmp_path)
        assert len(seen) > 5, "the writers went on between the copies"
        assert all(p.poll() is None for p in started), "a writer gave up"
    finally:
        for process in started:
            process.kill()
            process.wait()


BEFORE = {
    "an-empty-wal": "PRAGMA wal_checkpoint",
    "all-in-the-file": "UPDATE t SET v = zeroblob(300) WHERE k % 3 = 0; PRAGMA wal_checkpoint",
    "all-in-the-wal": "UPDATE t SET v = zeroblob(300) WHERE k % 3 = 0",
    "longer-by-the-wal": "INSERT INTO t (v) VALUES (randomblob(900000))",
    "shorter-by-the-wal": "DELETE FROM t WHERE k > 20; VACUUM",
    "a-part-in-the-file": "PRAGMA wal_checkpoint; UPDATE t SET v = zeroblob(300) WHERE k % 3 = 0; -- a part",
}
MEANWHILE = {
    "nothing": "",
    "a-checkpoint": "PRAGMA wal_checkpoint",
    "commits-and-a-checkpoint": "UPDATE t SET v = 'other'; PRAGMA wal_checkpoint",
    "a-wal-that-begins-anew": "UPDATE t SET v = 'other'; PRAGMA wal_checkpoint(RESTART); UPDATE t SET v = 1",
    "vacuum": "DELETE FROM t WHERE k > 9; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_it_is_the_same_snapshot_wherever_its_pages_lie(tmp_path: Path, before: str, meanwhile: str) -> None:
    path = build_database(tmp_path / "s.db", _ROWS, wal=True)
    # A reader keeps the WAL from beginning anew, so that a part of it may be in the file.
    reading = "UPDATE t SET v = 'first' WHERE k < 40; BEGIN; SELECT * FROM t" if "a part" in before else ""
    with (
        used_by_another(path, reading),
        used_by_another(path, f"PRAGMA wal_autocheckpoint=0; {before}"),
        begun(path) as (live, reader),
    ):
        another = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.1).executescript(sys.argv[2])"
        # Its own checkpoint may be refused for as long as there is a reader.
        subprocess.run([sys.executable, "-c", another, path, meanwhile], check=False, capture_output=True)
        assert require_same(live, reader, tmp_path) > 5


def test_it_is_what_an_application_wrote_that_closed_its_file_and_came_back(tmp_path: Path) -> None:
    path = build_database(tmp_path / "s.db", _ROWS, wal=True)
    with ExitStack() as stack:
        one = stack.enter_context(used_by_another(path, "UPDATE t SET v = 'before'; PRAGMA wal_checkpoint"))

        def come_back() -> None:
            one.communicate()
            assert files.sidecars(path) == []
            later = "PRAGMA wal_autocheckpoint=0; UPDATE t SET v = 'after'"
            stack.enter_context(used_by_another(path, later))

        live, reader = stack.enter_context(begun(path, come_back))
        require_same(live, reader, tmp_path)


def test_a_backup_of_files_in_use_copies_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [build_database(tmp_path / n, _ROWS, wal=n == "a.db") for n in ("a.db", "b.db")]
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sqlite, "copy_database", lambda *_: pytest.fail("page by page"))
    with used_by_another(paths[0], "UPDATE t SET v = 1"), used_by_another(paths[1], "BEGIN; SELECT * FROM t"):
        taken = backup.take_backups([backup.PlainSource(p, p.name) for p in paths], tmp_path / "out")
    for path, item in zip(paths, taken.items, strict=True):
        with closing(sqlite3.connect(path)) as one, closing(sqlite.connect_frozen(item.path)) as other:
            assert one.execute("SELECT * FROM t").fetchall() == other.execute("SELECT * FROM t").fetchall()


def test_a_wal_that_is_another_one_is_not_taken(tmp_path: Path) -> None:
    path = build_database(tmp_path / "s.db", _ROWS, wal=True)
    with used_by_another(path, "UPDATE t SET v = 1"), begun(path) as (live, _):
        wal = files.sidecar(path, "-wal")
        kept = wal.read_bytes()
        wal.write_bytes(bytes(len(kept)))
        with pytest.raises(SourceChangedError, match="began anew"):
            live.copy(tmp_path / "ours")
        wal.write_bytes(kept)


@pytest.mark.parametrize("kind", ["in-use", "still", "left-by-a-crash", "rollback-journal-in-use"])
def test_digests_begun_with_the_copies_are_those_of_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(files, "_CHUNK_BYTES", 20_000)
    path = build_database(tmp_path / "a.db", _ROWS, wal="journal" not in kind)
    (tmp_path / "copies").mkdir()
    with ExitStack() as stack:
        if kind != "still":
            written = (
                "PRAGMA wal_autocheckpoint=0; UPDATE t SET v = randomblob(900) WHERE k % 3 = 0;"
                "INSERT INTO t (v) SELECT randomblob(3000) FROM t LIMIT 50"
            )
            stack.enter_context(used_by_another(path, written))
        if kind == "left-by-a-crash":
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{path}{suffix}", f"{tmp_path / 'b.db'}{suffix}")
            path = tmp_path / "b.db"
        hands = stack.enter_context(pieces.crew(1))
        digests = backup.Digests(hands)
        copies = backup.copy_sources([PlainSource(path, "a")], tmp_path / "copies", digests=digests)
        begun = digests.take(copies.items[0].path)
        checked = backup.check_copies(copies, digests=digests)
    assert [p.name for p in (tmp_path / "copies").iterdir()] == [path.name]
    # What SQLite does to a copy after a crash comes later; its digest does too.
    assert (begun is None) == (kind == "left-by-a-crash")
    assert checked.items[0].sha256 == hashlib.sha256(checked.items[0].path.read_bytes()).hexdigest()
    assert begun in (None, checked.items[0].sha256)
