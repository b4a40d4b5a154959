"""Reading a source leaves no trace and drops no lock, whatever state it is in and whoever reads it."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_database, look_at, unify, used_by_another
from unified_db import files, sources, sqlite
from unified_db.errors import SourceBusyError, SourceChangedError, SourceError
from unified_db.migration import backup, standalone
from unified_db.migration.backup import PlainSource
from unified_db.migration.live_copy import LiveFile

ROWS = "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)"
WAL = f"PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {ROWS}"


def idle_wal(path: Path) -> None:
    build_database(path, ROWS, wal=True)


def idle_rollback(path: Path) -> None:
    build_database(path, ROWS)


def wal_after_a_crash(path: Path, *, shm: bool = False) -> None:
    with used_by_another(path, WAL):
        kept = {s: files.sidecar(path, s).read_bytes() for s in ("", "-wal", "-shm")}
    for leftover in files.sidecars(path):
        leftover.unlink()
    for suffix, content in kept.items():
        if shm or suffix != "-shm":
            files.sidecar(path, suffix).write_bytes(content)


def wal_and_shm_after_a_crash(path: Path) -> None:
    wal_after_a_crash(path, shm=True)


def hot_journal(path: Path) -> None:
    work = path.with_name("work.db")
    with closing(sqlite3.connect(work, isolation_level=None)) as conn:
        conn.executescript(f"{ROWS}; PRAGMA cache_size=1; BEGIN")
        conn.executemany("INSERT INTO t VALUES (randomblob(2000))", [()] * 50)
        for suffix in ("", "-journal"):
            shutil.copyfile(files.sidecar(work, suffix), files.sidecar(path, suffix))
        conn.execute("ROLLBACK")
    work.unlink()


STATES = [
    pytest.param(make, id=make.__name__.replace("_", "-"))
    for make in (idle_wal, idle_rollback, wal_after_a_crash, wal_and_shm_after_a_crash, hot_journal)
]
VERBS = [
    pytest.param(lambda s, out: ("backup", s, "--into", out / "kept"), id="backup"),
    pytest.param(lambda s, out: ("merge", s, "--into", out / "u.db"), id="merge"),
    pytest.param(lambda s, out: ("validate", s, "--against", out / "equal.db"), id="validate"),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    build_database(folder / "equal.db", ROWS)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("make", STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_leaves_a_trace(
    make: Callable[[Path], None], verb: Callable[[Path, Path], tuple[object, ...]], place: Path, out: Path
) -> None:
    """The same bytes, sidecars, sizes and times; the rows in WAL and journal are honoured."""
    make(place / "app.db")
    before = look_at(place)
    done = unify(*verb(place / "app.db", out))
    assert done.exit_code == 0, done.told
    assert look_at(place) == before
    shm = files.sidecar(place / "app.db", "-shm")
    assert all(str(shm) != name for name in done.answer.get("tables", ()))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("sql", [WAL, f"{ROWS}; BEGIN; SELECT * FROM t"], ids=["wal", "rollback"])
def test_a_source_in_use_stays_as_its_user_has_it(
    sql: str, verb: Callable[[Path, Path], tuple[object, ...]], place: Path, out: Path
) -> None:
    with used_by_another(place / "app.db", sql):
        before, locks = look_at(place), locks_of(place / "app.db")
        assert locks
        assert unify(*verb(place / "app.db", out)).exit_code == 0
        assert look_at(place) == before
        assert locks_of(place / "app.db") == locks


def test_a_leftover_shm_is_not_written(place: Path, out: Path) -> None:
    """With -wal and -shm there but nobody at work, a reader of SQLite's would rebuild the -shm."""
    wal_and_shm_after_a_crash(place / "app.db")
    shm = files.sidecar(place / "app.db", "-shm")
    before = (shm.read_bytes(), shm.stat().st_mtime_ns)
    assert unify("merge", place / "app.db", "--into", out / "u.db").exit_code == 0
    assert (shm.read_bytes(), shm.stat().st_mtime_ns) == before


_OBSERVER = """
import fcntl, os, struct, sys
for name in sys.argv[1:]:
    for begin, length in ((0x40000000, 1), (0x40000001, 1), (0x40000002, 510), (120, 9)):
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, begin, length, 0)
        answer = fcntl.fcntl(os.open(name, os.O_RDWR), fcntl.F_GETLK, asked)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", answer)
        if kind != fcntl.F_UNLCK:
            print(os.path.basename(name), hex(begin), kind, pid)
"""


def locks_of(path: Path) -> str:
    """The locks that others hold on *path* and its -shm, as a process sees them that has none itself."""
    watched = [p for p in (path, files.sidecar(path, "-shm")) if p.exists()]
    command = [sys.executable, "-c", _OBSERVER, *map(str, watched)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_locks_of_this_very_process_are_kept(wal: bool, place: Path, out: Path) -> None:
    """POSIX drops a process's locks on a file when any of its descriptors of the file is closed."""
    path = build_database(place / "app.db", ROWS, wal=wal)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT * FROM t").fetchall()
        locks = locks_of(path)
        assert locks, "the observer sees the lock of a reader"
        assert sources.read_header(path).wal == wal
        standalone.merge_sources([path], out / "u.db")
        backup.backup_file(path, out / "kept")
        standalone.validate_sources([path], out / "u.db")
        assert locks_of(path) == locks
        # That the observer can see a lock vanish at all:
        path.read_bytes()
        assert locks_of(path) != locks


def test_the_lock_on_a_still_file_makes_its_next_user_wait(place: Path) -> None:
    hot_journal(place / "app.db")
    journal = files.sidecar(place / "app.db", "-journal")
    before = journal.read_bytes()
    with sources.hold(place / "app.db") as held:
        assert not held.live
        with (
            closing(sqlite3.connect(place / "app.db", timeout=0)) as conn,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            conn.execute("SELECT * FROM t")
        assert journal.read_bytes() == before
    with closing(sqlite3.connect(place / "app.db", timeout=0)) as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_still_source_that_is_opened_meanwhile_is_noticed(place: Path) -> None:
    idle_wal(place / "app.db")
    with sources.hold(place / "app.db") as held:
        assert not held.live
        held.require_in_place()
        with (
            used_by_another(place / "app.db", "INSERT INTO t VALUES (3)"),
            pytest.raises(SourceChangedError, match="was opened by another process"),
        ):
            held.require_in_place()


_REQUEST = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("INSERT INTO t VALUES (3)")
conn.close()
"""


def ask(path: Path) -> None:
    """What an application does that opens its file for each request."""
    subprocess.run([sys.executable, "-c", _REQUEST, path], check=True)


def test_requests_that_open_the_file_for_a_moment_do_not_hold_a_look_up(place: Path) -> None:
    idle_wal(place / "app.db")
    seen = []

    def look(conn: sqlite3.Connection) -> int:
        seen.extend(conn.execute("SELECT count(*) FROM t").fetchone())
        ask(place / "app.db")
        return seen[-1]

    assert sources.look_at(place / "app.db", look) == seen[0] + 1
    assert len(seen) == 2


@pytest.mark.parametrize("alone", [False, True], ids=["of-all-at-one-instant", "of-one-file"])
def test_requests_that_open_the_file_for_a_moment_do_not_hold_a_backup_up(
    place: Path, out: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    idle_wal(place / "app.db")
    copy, asked = backup._copy, []

    def copy_beside_a_request(*arguments: Any, **named: Any) -> None:
        asked.append(ask(place / "app.db"))
        copy(*arguments, **named)

    monkeypatch.setattr(backup, "_copy", copy_beside_a_request)
    if alone:
        taken = backup.backup_file(place / "app.db", out)
    else:
        taken = backup.take_backups([backup.PlainSource(place / "app.db", "app.db")], out).items[0]
    assert len(asked) == 2
    with closing(sqlite.connect_frozen(taken.path)) as conn:
        # What the request of the first attempt wrote; that of the second comes before one file's snapshot.
        assert conn.execute("SELECT count(*) FROM t WHERE x = 3").fetchone() == (2 if alone else 1,)


def test_a_still_source_that_is_opened_meanwhile_is_copied_as_one_in_use(
    place: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user comes while the bytes are copied; the copy has what he wrote."""
    idle_wal(place / "app.db")
    copy_still = sources.copy_still
    users: list[subprocess.Popen[str]] = []

    def opened_in_between(*arguments: Any) -> Path:
        if not users:
            opening = used_by_another(place / "app.db", "INSERT INTO t VALUES (3)")
            users.append(opening.__enter__())
        return copy_still(*arguments)

    monkeypatch.setattr(sources, "copy_still", opened_in_between)
    try:
        taken = backup.take_backups([PlainSource(place / "app.db", "app")], out)
    finally:
        users[0].kill()
    with closing(sqlite3.connect(taken.items[0].path)) as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (3,)


@pytest.mark.parametrize("moment", ["copy", "proof"])
def test_a_source_that_is_replaced_is_refused_up_to_the_last_moment(
    moment: str, place: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_database(place / "app.db", ROWS)
    build_database(place / "new.db", ROWS)

    def replacing(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            done = original(*arguments, **options)
            if (place / "new.db").exists():
                (place / "new.db").replace(path)
            return done

        return call

    if moment == "copy":
        monkeypatch.setattr(LiveFile, "copy", replacing(LiveFile.copy))
    else:
        monkeypatch.setattr(standalone.validate, "validate", replacing(standalone.validate.validate))
    before = look_at(out)
    with pytest.raises(
        SourceChangedError, match=r"app\.db was replaced while it was being read: another file"
    ):
        standalone.merge_sources([path], out / "u.db")
    assert look_at(out) == before


def test_a_writer_at_work_is_no_hot_journal(place: Path) -> None:
    """A journal whose writer lives is his; the file is read beside him, without his half of the work."""
    path = place / "app.db"
    sql = f"{ROWS}; PRAGMA cache_size=1; BEGIN; INSERT INTO t SELECT randomblob(2000) FROM t"
    with used_by_another(path, sql):
        assert files.sidecar(path, "-journal").stat().st_size
        with sources.hold(path) as held:
            assert held.live
        with sources.reading(path) as conn:
            assert conn.execute("SELECT count(*) FROM t").fetchone() == (2,)


@pytest.mark.parametrize("then", ["gone", "of the next transaction"])
def test_a_writer_that_ends_between_two_looks_leaves_no_hot_journal(
    then: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal is seen, its lock no more: taken for hot, it would be locked away from its writers."""
    path = place / "app.db"
    hot_journal(path)
    journal = files.sidecar(path, "-journal")
    first = journal.read_bytes()

    def ends(*_: object) -> bool:
        journal.unlink()
        if then != "gone":
            journal.write_bytes(first[:12] + bytes(4 * [255]) + first[16:])
        return False

    monkeypatch.setattr(sources.descriptors, "is_locked", ends)
    with sources.hold(path) as held:
        assert held.live
    monkeypatch.undo()
    journal.write_bytes(first)
    with sources.hold(path) as held:
        assert not held.live
        assert held.leftovers == (journal,)


def test_an_exclusive_user_is_waited_for_and_then_refused(place: Path) -> None:
    sql = f"PRAGMA locking_mode=EXCLUSIVE; {WAL}"
    with used_by_another(place / "app.db", sql):
        before = look_at(place)
        with (
            pytest.raises(SourceBusyError, match=r"was locked by another process for 0\.1 s"),
            sources.hold(place / "app.db", timeout_s=0.1),
        ):
            pass
        assert look_at(place) == before


def test_files_of_a_merge_are_for_their_owner_alone_and_git_ignores_them(place: Path, out: Path) -> None:
    path = build_database(place / "app.db", ROWS)
    path.chmod(0o640)
    report = standalone.merge_sources([path], out / "u.db")
    state = out / ".unify-db"
    assert (state / ".gitignore").read_text() == "*\n"
    assert report.backups is not None
    assert report.backups.parent == state / "backups"
    for folder in (state, report.backups):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (report.backups / "app.db").stat().st_mode & 0o777 == 0o600
    assert (out / "u.db").stat().st_mode & 0o777 == 0o640
    elsewhere = standalone.merge_sources([path], out / "v.db", backups=out / "kept").backups
    assert elsewhere is not None
    assert elsewhere.parent == out / "kept"
    assert (elsewhere / "app.db").exists()


def test_a_rerun_changes_nothing_at_all(place: Path, out: Path) -> None:
    path = build_database(place / "app.db", ROWS)
    assert unify("merge", path, "--into", out / "u.db").answer["changed"]
    before = look_at(out)
    again = unify("merge", path, "--into", out / "u.db")
    assert (again.exit_code, again.answer["changed"]) == (0, False)
    # A lock was taken and given back in between.
    times = {".unify-db/locks", "."}
    assert {k: v for k, v in look_at(out).items() if k not in times} == {
        k: v for k, v in before.items() if k not in times
    }


def test_relative_paths_and_a_leading_dash(place: Path, out: Path) -> None:
    build_database(place / "-app.db", ROWS)
    done = unify("merge", "--into", "../out/u.db", "--", "-app.db", cwd=place)
    assert done.exit_code == 0, done.told
    assert (out / "u.db").exists()


def test_space_is_summed_up_on_each_file_system(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 150)
    sources.require_space({place: 100})
    with pytest.raises(SourceError, match="200 bytes are needed, 150 are free"):
        sources.require_space({place: 100, place / "not" / "made" / "yet": 100})


def test_what_the_kernel_calls_a_lock_is_what_is_asked_for() -> None:
    """The layout of struct flock that the module packs by hand."""
    assert struct.calcsize("hhqqi4x") == 32
    assert fcntl.F_OFD_GETLK == 36


def test_a_file_that_grows_between_its_header_and_its_size_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer without a WAL has written the first page, and its journal is gone by the second look."""
    path = build_database(tmp_path / "a.db", "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(9000))")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096])
    monkeypatch.setattr(sources.time, "sleep", lambda _: path.write_bytes(whole))
    assert sources.read_header(path).page_count == len(whole) // 4096
    path.write_bytes(whole[:-4096])
    monkeypatch.setattr(sources.time, "sleep", lambda _: None)
    with pytest.raises(SourceError, match="is truncated"):
        sources.read_header(path)


def test_a_name_that_goes_while_the_folder_is_looked_through_is_no_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.db"
    build_database(path, ROWS)
    (tmp_path / "second.db").hardlink_to(path)
    listed = [tmp_path / "gone.db", *tmp_path.iterdir()]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    with sources.reading(path) as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (2,)
