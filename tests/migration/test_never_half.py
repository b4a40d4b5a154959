"""Whatever ends a merge, and whenever: the sources are untouched, and there is no target or a whole one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, build_database, look_at, small_file_system, used_by_another
from unified_db import files
from unified_db.errors import SourceError
from unified_db.migration import backup, standalone

DRIVER = Path(__file__).parent / "ending_driver.py"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with sources of two encodings in `in`, so that every kind of step is taken, and `out`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    build_database(
        tmp_path / "in" / "app.db",
        "PRAGMA encoding='UTF-16le'; CREATE TABLE t (x); CREATE INDEX i ON t (x); INSERT INTO t VALUES ('ä')",
        wal=True,
    )
    build_database(tmp_path / "in" / "big.db", "CREATE TABLE u (x); INSERT INTO u VALUES (zeroblob(50000))")
    return tmp_path


def end_at_every_step(place: Path, number: signal.Signals, stride: int, *arguments: object) -> list[Any]:
    command = [sys.executable, str(DRIVER), number.name, str(place), str(stride), *map(str, arguments)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def merge_of(place: Path) -> list[object]:
    return ["merge", place / "in" / "app.db", place / "in" / "big.db", "--into", place / "out" / "unified.db"]


def test_killed_at_any_step_of_a_merge(place: Path) -> None:
    ended = end_at_every_step(place, signal.SIGKILL, 5, *merge_of(place))
    assert len(ended) > 30
    assert {e["code"] for e in ended} == {-signal.SIGKILL}
    assert all(e["untouched"] for e in ended)
    assert [e for e in ended if e["again"] != 0] == []
    assert [e for e in ended if not e["tidy"]] == []
    assert {e["target"] for e in ended} == {True, False}


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_interrupted_at_any_step_of_a_merge(place: Path, number: signal.Signals, code: int) -> None:
    ended = end_at_every_step(place, number, 4, *merge_of(place))
    assert len(ended) > 10
    assert {e["code"] for e in ended} == {code}
    assert all(e["untouched"] for e in ended)
    # Once the target is in its place it stays, and what is beside it is put in order by the rerun.
    assert [e for e in ended if not e["target"] and not e["nothing_left"]] == []
    assert [e for e in ended if e["again"] != 0 or not e["tidy"]] == []


def is_done(verb: Callable[[], object]) -> bool:
    """True where *verb* came to its end; false where it said that the disk is full."""
    try:
        verb()
    except SourceError as error:
        if "disk is full" not in error.message or not error.hint:
            raise
        return False
    return True


@pytest.fixture
def no_look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Space that is there when it is asked for and gone when it is needed, as another program takes it."""
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 1 << 40)


@pytest.mark.parametrize("where", ["target", "backups"])
def test_a_disk_that_fills_up_at_any_stage_of_a_merge(
    place: Path, tmp_path: Path, where: str, no_look_ahead: None
) -> None:
    sources = [place / "in" / "app.db", place / "in" / "big.db"]
    small, roomy = tmp_path / "small", tmp_path / "roomy"
    roomy.mkdir()
    into = (small if where == "target" else roomy) / "unified.db"
    kept = (roomy if where == "target" else small) / "kept"
    before = look_at(place / "in")
    refused = 0
    for kilobytes in range(8, 4000, 12):
        with small_file_system(small, size=f"{kilobytes}k"):
            if is_done(lambda: standalone.merge_sources(sources, into, backups=kept)):
                assert into.exists()
                break
            refused += 1
            assert look_at(small) == look_at(roomy) == {}
            assert look_at(place / "in") == before
    assert refused > 5
    assert look_at(place / "in") == before


def test_a_disk_that_fills_up_at_any_stage_of_backup_and_restore(
    place: Path, tmp_path: Path, no_look_ahead: None
) -> None:
    small = tmp_path / "small"
    taken = backup.backup_file(place / "in" / "big.db", tmp_path / "kept").path
    refused = 0
    for kilobytes in range(4, 400, 4):
        with small_file_system(small, size=f"{kilobytes}k"):
            for verb in (
                lambda: backup.backup_file(place / "in" / "app.db", small / "new"),
                lambda: backup.restore_file(taken, small / "new" / "app.db"),
            ):
                if not is_done(verb):
                    assert look_at(small) == {}
                    refused += 1
                shutil.rmtree(small / "new", ignore_errors=True)
    assert refused > 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "sigterm"])
def test_ended_at_any_step_of_a_backup(place: Path, number: signal.Signals) -> None:
    arguments = ("backup", place / "in" / "app.db", "--into", place / "out" / "kept")
    ended = end_at_every_step(place, number, 1, *arguments)
    assert len(ended) > 5
    assert all(e["untouched"] and e["again"] == 0 for e in ended)
    whole = {"kept", "kept/app-TIME.db", "kept/app-TIME.db.sha256"}
    assert all(set(e["end"]) == whole for e in ended), "a rerun clears away what was left"
    if number == signal.SIGTERM:
        # A finished backup is no rest, even where its verb did not come to its end.
        assert all(set(e["left"]) <= whole for e in ended)


def test_killed_at_any_step_of_a_restore_there_is_the_old_file_the_new_one_or_none(place: Path) -> None:
    """The old file with its WAL is under one name or the other; no step shows it without its WAL."""
    taken = backup.backup_file(place / "in" / "app.db", place / "in" / "kept").path
    (place / "out" / "data").mkdir()
    old = place / "out" / "unified.db"
    sql = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE old (x)"
    with used_by_another(old, sql):
        kept = {s: files.sidecar(old, s).read_bytes() for s in ("", "-wal", "-shm")}
    for suffix, content in kept.items():
        files.sidecar(old, suffix).write_bytes(content)
    ended = end_at_every_step(place, signal.SIGKILL, 1, "restore", taken, "--to", old)
    assert len(ended) > 10
    assert all(e["untouched"] and e["again"] == 0 for e in ended)
    for e in ended:
        assert "unified.db-journal" not in e["left"]
        aside = {n for n in e["left"] if "before-restore" in n}
        if "unified.db" in e["left"] and "unified.db-wal" not in e["left"]:
            assert len(aside) == 3, "the new file stands where nothing of the old one is left"
        if "unified.db" not in e["left"]:
            assert len(aside) == 3, "nothing of the old file goes before all of it has another name"
        assert not any(name.endswith(".TIME") for name in e["end"]), "a rerun clears away what was left"
