"""What a way back meets in its places: a unified file that is in use again, and folders that were made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.migration.plain_move import PlainMove, execute
from unified_db.errors import CutoverRefusedError, CutoverUndoneError, RollbackError
from unified_db.migration import cutover, plan, undo
from unified_db.migration.journal import Journal, standing_acts


@pytest.fixture(autouse=True)
def without_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which packages an application's interpreter has is another test's matter, and takes a second.
    monkeypatch.setattr(plan, "_require_runtime", lambda _config: None)


def prepared(folder: Path, target: str = "unified.db") -> PlainMove:
    source = folder / "app.db"
    execute(
        source, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text); INSERT INTO notes (text) VALUES ('a')"
    )
    move = PlainMove(folder, [source], target={"path": target})
    assert move.prepare().failures == ()
    return move


def texts(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return [row[0] for row in conn.execute("SELECT text FROM notes ORDER BY id")]


def test_a_unified_file_that_is_opened_on_the_way_back_stays_with_its_wal_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = prepared(tmp_path)
    move.switch()
    execute(move.target, "PRAGMA journal_mode=WAL")
    monkeypatch.setattr(undo, "_WAIT_S", 0.0)
    carry_back = undo.carry_back

    def carry_and_be_late(*arguments: Any, **named: Any) -> Any:
        carried = carry_back(*arguments, **named)
        late.execute("INSERT INTO notes (text) VALUES ('late')")
        return carried

    with closing(sqlite3.connect(move.target, isolation_level=None, check_same_thread=False)) as late:
        with monkeypatch.context() as patched:
            patched.setattr(undo, "carry_back", carry_and_be_late)
            with pytest.raises(
                RollbackError, match=r"unified\.db is still in use, so it cannot leave WAL mode"
            ):
                move.back()
        assert texts(move.target) == ["a", "late"]
    move.back()
    assert texts(move.sources[0]) == ["a", "late"]
    assert not list(tmp_path.glob("unified.db*"))


def test_what_is_written_while_rows_are_carried_back_is_carried_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = prepared(tmp_path)
    move.switch()
    carry_back = undo.carry_back

    def carry_and_be_late(*arguments: Any, **named: Any) -> Any:
        carried = carry_back(*arguments, **named)
        execute(move.target, "INSERT INTO notes (text) VALUES ('late')")
        return carried

    def stop(_target: Path) -> None:
        raise CutoverRefusedError("stopped here by the test")

    with monkeypatch.context() as patched:
        patched.setattr(undo, "carry_back", carry_and_be_late)
        patched.setattr(undo, "_leave_wal_mode", stop)
        with pytest.raises(RollbackError, match="stopped here"):
            move.back()
    move.back()
    assert texts(move.sources[0]) == ["a", "late"]


@pytest.mark.parametrize("way", ["undone", "rolled-back"])
def test_folders_that_were_made_for_the_unified_file_go_with_it(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    move = prepared(tmp_path, "there/made/for/it/unified.db")
    if way == "undone":
        monkeypatch.setattr(cutover, "_move_originals", lambda *_: 1 / 0)
        with pytest.raises(CutoverUndoneError):
            move.switch()
    else:
        move.switch()
        assert (tmp_path / "there/made/for/it/unified.db").exists()
        move.back()
    assert list((tmp_path / "there").iterdir()) == []
    assert texts(move.sources[0]) == ["a"]


def test_a_folder_that_was_made_stays_once_somebody_has_put_something_into_it(tmp_path: Path) -> None:
    move = prepared(tmp_path, "made/for/unified.db")
    move.switch()
    (tmp_path / "made" / "notes.txt").write_text("theirs")
    move.back()
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["notes.txt"]


def test_what_a_second_try_made_ready_before_it_was_killed_is_cleared_away(tmp_path: Path) -> None:
    move = prepared(tmp_path)
    journal = Journal(move.run)
    journal.write("cutover", "undone", reason="a first try")
    ready = tmp_path / ".unified.db.ready"
    with journal.act("ready-copy", path=str(ready)):
        ready.write_bytes(b"copied, and then it was killed")
    assert undo.recover(move.loaded) == [move.run.name]
    assert not ready.exists()
    assert standing_acts(move.run) == []
