"""A disk that is full at each write of a move, or read-only: swapped, or as before, and it says which."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import small_file_system, used_by_another
from tests.migration.plain_move import PlainMove, execute, state
from unified_db import files
from unified_db.errors import CutoverRefusedError, CutoverUndoneError, RollbackError, SourceError, UnifyError
from unified_db.migration import application, archive, backup, beforehand, cutover, journal, phases, reserve
from unified_db.migration.journal import read_state, standing_acts
from unified_db.migration.runs import RunFolder

_STEP = 4096
# Enough for what is taken back here, so that few steps lie between too little room and enough.
_RESERVE = 64 << 10


@pytest.fixture
def move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainMove]:
    """Two sources and a setting on a small disk, prepared, with a row written since."""
    monkeypatch.setattr(reserve, "_BYTES", _RESERVE)
    # The run looks ahead; here the room goes after it has looked.
    monkeypatch.setattr("unified_db.migration.recheck._require_space", lambda *_: None)
    monkeypatch.setattr(beforehand, "_room_to_grow", lambda *_: 0)
    disk = tmp_path / "disk"
    with small_file_system(disk, size="32m"):
        sources = [disk / "app.db", disk / "events.db"]
        for path, table in zip(sources, ("notes", "events"), strict=True):
            execute(path, f"PRAGMA journal_mode=WAL; CREATE TABLE {table} (id INTEGER PRIMARY KEY, text)")
            execute(path, f"INSERT INTO {table} (text) VALUES ('a'), (zeroblob(9000))")
        (disk / ".env").write_text("NOTES=app.db\nEVENTS=events.db\n")
        edits = [
            {"file": ".env", "kind": "dotenv", "key": k, "value": "unified.db"} for k in ("NOTES", "EVENTS")
        ]
        made = PlainMove(disk, sources, edit=edits)
        made.prepare()
        execute(sources[0], "INSERT INTO notes (text) VALUES (zeroblob(30000))")
        yield made


def facts(move: PlainMove) -> dict[str, object]:
    """All that an application sees of its folder, and its mode of journalling."""
    found: dict[str, object] = {
        p.name: p.read_bytes() for p in move.root.iterdir() if p.is_file() and p not in move.sources
    }
    for path in move.sources:
        with closing(sqlite3.connect(path)) as conn:
            mode = conn.execute("PRAGMA journal_mode").fetchone()
        found[path.name] = (state(path), mode)
    return {name: what for name, what in found.items() if not name.endswith(("-wal", "-shm", "filler"))}


@contextmanager
def room(move: PlainMove, size: int) -> Iterator[None]:
    """Nothing but *size* bytes are free for the block."""
    filler = move.root / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free(move) - size)
    try:
        yield
    finally:
        filler.unlink()


def free(move: PlainMove) -> int:
    found = os.statvfs(move.root)
    return found.f_bavail * found.f_frsize


def until_it_works(move: PlainMove, act: Callable[[], object], check: Callable[[Exception], None]) -> int:
    """Try *act* with more and more room, *check* each refusal; how many there were."""
    for refused, size in enumerate(range(0, 4 << 20, _STEP)):
        try:
            with room(move, size):
                act()
        except Exception as error:  # noqa: BLE001 -- judged by the caller, once there is room to look
            check(error)
        else:
            return refused
    pytest.fail("it never worked")


def require_switched(move: PlainMove, rows: list[int]) -> None:
    assert [len(found) for found in state(move.target)[1].values()] == rows
    assert not [p for p in move.root.rglob("*") if "room-for" in p.name or "partial" in p.name]


def test_a_disk_that_is_full_at_any_write_before_the_stop_is_met_before_the_stop(move: PlainMove) -> None:
    before = facts(move)

    def check(error: Exception) -> None:
        assert isinstance(error, SourceError), repr(error)
        assert "disk is full" in error.message, error.message
        assert "Nothing was switched" in error.hint
        assert facts(move) == before
        assert standing_acts(move.run) == []

    assert until_it_works(move, move.switch, check) > 20
    require_switched(move, [3, 2])


@pytest.mark.parametrize(
    ("step", "late"),
    [
        pytest.param("_stop_application", 1, id="with-rows-written-until-the-stop"),
        pytest.param("_place", 0, id="with-the-edits-and-fences-alone"),
    ],
)
def test_a_disk_that_is_full_at_any_write_after_the_stop_leaves_all_as_before(
    move: PlainMove, monkeypatch: pytest.MonkeyPatch, step: str, late: int
) -> None:
    """Somebody else fills it at the worst moment, and each time a little less."""
    real = getattr(cutover, step)
    sizes = iter(range(0, 4 << 20, _STEP))

    def fill(*arguments: Any) -> None:
        if late:
            execute(move.sources[0], "INSERT INTO notes (text) VALUES (zeroblob(30000))")
            before.update(facts(move))
        stack.enter_context(room(move, next(sizes)))
        real(*arguments)

    monkeypatch.setattr(cutover, step, fill)
    before = facts(move)
    refused = 0
    while True:
        with ExitStack() as stack:
            try:
                move.switch()
                break
            except CutoverUndoneError as error:
                failure = error
        assert "disk is full" in failure.message, failure.message
        assert "Everything is as it was" in failure.hint
        assert facts(move) == {n: w for n, w in before.items() if ".ready" not in n}
        assert standing_acts(move.run) == []
        refused += 1
    assert refused > 1
    require_switched(move, [3 + late * (refused + 1), 2])


def test_no_room_from_any_write_of_ours_until_the_way_back_leaves_all_as_before(
    move: PlainMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finer than pages of a disk: each line of the journal and each new file, one after the other."""
    before, written, full_from = facts(move), 0, 0

    def until_full(write: Callable[..., None]) -> Callable[..., None]:
        def watched(*arguments: Any, **named: Any) -> None:
            nonlocal written
            written += 1
            if full_from and written >= full_from:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(*arguments, **named)

        return watched

    def make_room(run: RunFolder) -> None:
        nonlocal full_from
        full_from = 0
        release(run)

    release = reserve.release
    monkeypatch.setattr(reserve, "release", make_room)
    monkeypatch.setattr(journal, "_append", until_full(journal._append))
    monkeypatch.setattr(files, "_write_new", until_full(files._write_new))
    begun = move.run.journal.read_bytes()
    for place in itertools.count(1):
        written, full_from = 0, place
        with suppress(CutoverRefusedError, CutoverUndoneError):
            failure: UnifyError | None = None
            try:
                move.switch()
            except UnifyError as error:
                failure = error
                raise
        if failure is None:
            break
        assert "disk is full" in failure.message
        assert ("Nothing was switched" in failure.hint) != ("Everything is as it was" in failure.hint)
        assert facts(move) == before
        assert standing_acts(move.run) == []
        # Else each try would read the lines of all before it, again and again.
        move.run.journal.write_bytes(begun)
    assert place > 25
    require_switched(move, [3, 2])


def test_an_archive_on_a_full_disk_keeps_the_old_files_and_goes_on_later(move: PlainMove) -> None:
    move.switch()
    content = state(move.target)
    kept = sorted(move.run.originals.iterdir())

    def check(error: Exception) -> None:
        assert isinstance(error, UnifyError), repr(error)
        assert "disk is full" in error.message
        assert "uses the unified file" in error.hint
        assert state(move.target) == content
        assert all(k.exists() or (move.run.archive / f"{k.name}.zst").exists() for k in kept)
        assert read_state(move.run).state == "switched"

    refused = until_it_works(move, lambda: phases.archive(move.loaded, move.run), check)
    assert refused > 0
    assert list(move.run.originals.iterdir()) == []


def test_a_rollback_on_a_full_disk_loses_no_row_and_goes_on_later(move: PlainMove) -> None:
    before = facts(move)
    move.switch()
    archive.archive_originals(move.loaded, move.run)
    execute(
        move.target, "INSERT INTO notes (text) VALUES ('since'); UPDATE events SET text = zeroblob(20000)"
    )
    content = state(move.target)

    def check(error: Exception) -> None:
        assert isinstance(error, UnifyError), repr(error)
        assert "disk is full" in error.message
        assert move.run.name in error.hint
        known = [p for p in (move.target, move.run.path / "unified-kept.sqlite") if p.exists()]
        assert [state(p) for p in known] == [content]

    refused = until_it_works(move, lambda: phases.rollback(move.loaded, move.run), check)
    assert refused > 5
    after = facts(move)
    assert after.keys() == before.keys()
    assert after[".env"] == before[".env"]
    rows = {name: found for path in move.sources for name, found in state(path)[1].items()}
    assert rows == content[1]


def test_a_rollback_without_room_for_what_was_written_since_is_refused_before_the_stop(
    move: PlainMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    move.switch()
    execute(move.target, "INSERT INTO notes (text) VALUES (zeroblob(4000000))")
    before = state(move.target)
    monkeypatch.setattr(application, "stop", lambda *_: pytest.fail("it was stopped"))
    with (
        room(move, 1 << 20),
        pytest.raises(RollbackError, match=r"needs room.*4,\d{3},\d{3} bytes") as refused,
    ):
        phases.rollback(move.loaded, move.run)
    assert "not stopped" in refused.value.hint
    assert state(move.target) == before
    monkeypatch.undo()
    phases.rollback(move.loaded, move.run)
    rows = {name: found for path in move.sources for name, found in state(path)[1].items()}
    assert len(rows["notes"]) == 4


def test_a_disk_that_becomes_read_only_before_the_cutover_stops_nothing(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    with small_file_system(disk, size="32m") as make_read_only:
        execute(disk / "app.db", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text)")
        move = PlainMove(disk, [disk / "app.db"])
        move.settings["target"] = {"path": "data/unified.db"}
        move.prepare()
        before = (disk / "app.db").read_bytes()
        make_read_only()
        with pytest.raises(CutoverRefusedError, match="read-only file system"):
            move.switch()
        assert (disk / "app.db").read_bytes() == before


def test_a_copy_of_what_a_crash_left_has_the_rows_of_its_wal_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 1 << 40)
    source, small = tmp_path / "app.db", tmp_path / "small"
    sql = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (x);"
    with used_by_another(source, f"{sql} INSERT INTO t VALUES (zeroblob(200000))"):
        pass
    assert files.sidecar(source, "-wal").stat().st_size > 200_000
    refused = 0
    for kilobytes in range(100, 2000, 20):
        with small_file_system(small, size=f"{kilobytes}k"):
            try:
                copy = backup.backup_file(source, small / "kept").path
            except SourceError as error:
                failure = error
            else:
                assert state(copy) == state(source)
                break
        assert "disk is full" in failure.message, failure.message
        refused += 1
    assert refused > 5
