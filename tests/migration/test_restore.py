"""`backup` and `restore` as later scripts call them: checked, consistent, nothing mixed, nothing lost."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import build_database, look_at, unify, unify_without_privileges, used_by_another
from unified_db import files

ROWS = "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)"
WAL = f"PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {ROWS}"


def count(path: Path, table: str = "t") -> int:
    with closing(sqlite3.connect(path)) as conn:
        return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def taken(place: Path, tmp_path: Path) -> Path:
    """A backup of a WAL database in use, by the command."""
    with used_by_another(place / "app.db", WAL):
        done = unify("backup", place / "app.db", "--into", tmp_path / "kept")
        assert done.exit_code == 0, done.told
    for leftover in (place / "app.db", *files.sidecars(place / "app.db")):
        leftover.unlink()
    path = Path(done.answer["backup"])
    assert done.answer["sha256"] == files.digest_file(path)
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{done.answer['sha256']}  {path.name}\n"
    return path


def test_a_backup_of_a_file_in_use_has_what_is_in_its_wal(taken: Path, place: Path) -> None:
    done = unify("restore", taken, "--to", place / "new" / "app.db")
    assert done.exit_code == 0, done.told
    assert count(place / "new" / "app.db") == 2


def test_mode_and_owner_are_those_of_the_file_that_is_replaced(taken: Path, place: Path) -> None:
    old = build_database(place / "app.db", "CREATE TABLE old (x)")
    old.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(old, 12345, 23456)
    before = old.stat()
    assert unify("restore", taken, "--to", old).exit_code == 0
    after = old.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    (aside,) = (p for p in place.iterdir() if "before-restore" in p.name)
    assert count(aside, "old") == 0


def test_a_backup_keeps_the_mode_of_its_file(place: Path, tmp_path: Path) -> None:
    path = build_database(place / "app.db", ROWS)
    path.chmod(0o600)
    done = unify("backup", path, "--into", tmp_path / "kept")
    assert Path(done.answer["backup"]).stat().st_mode & 0o777 == 0o600


def test_old_sidecars_are_kept_with_the_old_file_and_never_meet_the_new_one(taken: Path, place: Path) -> None:
    old = place / "app.db"
    with used_by_another(old, "PRAGMA journal_mode=WAL; CREATE TABLE old (x); INSERT INTO old VALUES (1)"):
        kept = {s: files.sidecar(old, s).read_bytes() for s in ("", "-wal")}
    for leftover in files.sidecars(old):
        leftover.unlink()
    for suffix, content in kept.items():
        files.sidecar(old, suffix).write_bytes(content)
    assert unify("restore", taken, "--to", old).exit_code == 0
    assert files.sidecars(old) == []
    assert count(old) == 2
    aside = next(p for p in place.iterdir() if "before-restore" in p.name and not p.name.endswith("-wal"))
    assert count(aside, "old") == 1


def test_a_damaged_file_can_be_replaced(taken: Path, place: Path) -> None:
    (place / "app.db").write_bytes(b"what a crash left")
    assert unify("restore", taken, "--to", place / "app.db").exit_code == 0
    assert count(place / "app.db") == 2


@pytest.mark.parametrize("sql", [WAL, ROWS, f"{ROWS}; BEGIN EXCLUSIVE"], ids=["wal", "idle", "locked"])
def test_a_file_in_use_is_not_replaced(sql: str, taken: Path, place: Path) -> None:
    with used_by_another(place / "app.db", sql):
        before = look_at(place)
        done = unify("restore", taken, "--to", place / "app.db")
        assert done.exit_code == 4
        assert "is in use by" in done.answer["message"]
        assert look_at(place) == before


def test_a_backup_that_was_changed_is_refused(taken: Path, place: Path) -> None:
    with closing(sqlite3.connect(taken)) as conn, conn:
        conn.execute("INSERT INTO t VALUES (3)")
    done = unify("restore", taken, "--to", place / "app.db")
    assert done.exit_code == 4
    assert "is not what" in done.answer["message"]
    assert not (place / "app.db").exists()


def test_a_backup_with_a_wal_of_its_own_is_restored_with_it(place: Path, tmp_path: Path) -> None:
    """Somebody opened the backup, wrote into it, and was killed."""
    live = tmp_path / "kept.db"
    with used_by_another(live, WAL):
        kept = {s: files.sidecar(live, s).read_bytes() for s in ("", "-wal")}
    for leftover in files.sidecars(live):
        leftover.unlink()
    for suffix, content in kept.items():
        files.sidecar(live, suffix).write_bytes(content)
    before = look_at(tmp_path)
    assert unify("restore", live, "--to", place / "app.db").exit_code == 0
    assert count(place / "app.db") == 2
    assert {k: v for k, v in look_at(tmp_path).items() if k.startswith("kept")} == {
        k: v for k, v in before.items() if k.startswith("kept")
    }


BAD = [
    pytest.param(lambda p: p.write_text("notes"), "is not a SQLite database", 4, id="not-a-database"),
    pytest.param(lambda p: p.touch(), "is empty", 4, id="zero-length"),
    pytest.param(lambda p: p.mkdir(), "is a folder", 4, id="a-folder"),
    pytest.param(os.mkfifo, "is a pipe", 4, id="a-pipe"),
    pytest.param(lambda _p: None, "does not exist", 2, id="missing"),
    pytest.param(
        lambda p: files.sidecar(p, "-wal").write_text("x"), "its WAL bad.db-wal", 4, id="a-wal-alone"
    ),
    pytest.param(
        lambda p: p.write_bytes(build_database(p.with_name("w"), ROWS).read_bytes()[:5000]),
        "is truncated",
        4,
        id="truncated",
    ),
    pytest.param(lambda p: build_database(p, ROWS).chmod(0), "permission denied", 4, id="no-permission"),
]


@pytest.mark.parametrize(("make", "said", "code"), BAD)
@pytest.mark.parametrize("verb", ["backup", "restore", "validate"])
def test_what_merge_refuses_the_other_verbs_refuse_too(
    make: object, said: str, code: int, verb: str, place: Path
) -> None:
    path = place / "bad.db"
    make(path)  # type: ignore[operator]
    (place / "w").unlink(missing_ok=True)
    target = build_database(place / "t.db", ROWS) if verb == "validate" else place / "new" / "out"
    option = {"backup": "--into", "restore": "--to", "validate": "--against"}[verb]
    before = look_at(place)
    done = unify_without_privileges(verb, path, option, target)
    assert done.exit_code == code, done.told
    assert said in done.answer["message"]
    assert done.answer["hint"]
    assert "Traceback" not in done.told
    assert look_at(place) == before
