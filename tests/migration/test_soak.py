"""After the switch the application is watched: what is clearly worse than before takes all back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.migration.faulty_application import old_side, plant
from tests.migration.test_cutover import Move, is_new, is_old
from unified_db.errors import CutoverUndoneError, ExitCode
from unified_db.migration.error_lines import ErrorLines
from unified_db.migration.journal import standing_acts
from unified_db.migration.records import CutoverRecord
from unified_db.migration.undo import KEPT_NAME


@pytest.fixture
def move(tmp_path: Path, without_a_look_at_the_interpreter: None) -> Iterator[Move]:
    made = Move(tmp_path)
    made.run.save("evidence-benchmark", old_side())
    yield made
    with suppress(Exception):
        made.app.stop()


def texts(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return [row[0] for row in conn.execute("SELECT text FROM notes ORDER BY id")]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("is slow", r"response time \(counts\): required a median of at most", id="slow"),
        pytest.param("leaks", r"peak memory .*\(old files: 30 MiB\), measured", id="leaking"),
        pytest.param("logs tracebacks", "no new ERROR lines or tracebacks", id="tracebacks-in-its-log"),
        pytest.param("dies", "the new process stays up|requests answered", id="ending"),
    ],
)
def test_an_application_that_goes_wrong_is_put_back_with_its_new_rows(
    move: Move, fault: str, said: str
) -> None:
    move.app.toml.write_text(move.app.toml.read_text().replace("min_diff_ms = 500", "min_diff_ms = 1"))
    plant(move.app, fault)
    move.before = move.tree()
    with pytest.raises(CutoverUndoneError, match=said) as caught:
        move.switch()
    assert caught.value.exit_code == ExitCode.UNDONE
    assert "Everything is as it was" in caught.value.hint
    assert is_old(move)
    assert standing_acts(move.run) == []
    kept = texts(move.run.path / KEPT_NAME)
    assert kept.count("since") > 0
    assert texts(move.app.notes) == kept
    assert move.answer()["notes"] == len(kept)


def test_what_was_no_better_on_the_old_files_is_no_reason(move: Move) -> None:
    move.run.save("evidence-benchmark", old_side(before_errors=80, before_log_errors=3))
    plant(move.app, "is only as bad as before")
    move.switch()
    assert is_new(move)
    record = move.run.load("cutover", CutoverRecord)
    assert record is not None
    assert {f.check.partition(" ")[2] if f.check[0].isdigit() else f.check for f in record.health} == {
        "requests answered as expected",
        "the new process stays up",
        "response time",
        "peak memory",
        "no new ERROR lines or tracebacks in its log",
    }


def test_a_line_that_is_not_finished_is_looked_at_again(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"ERROR of an earlier start\n")
    lines = ErrorLines(log, offset=log.stat().st_size)
    assert lines.count() == 0
    for piece, found in ((b"2026 ERR", 0), (b"OR no", 1), (b" such table\nfine\n", 1), (b"CRITICAL\n", 2)):
        with log.open("ab") as stream:
            stream.write(piece)
        assert lines.count() == found
    log.write_bytes(b"ERROR\n")
    assert lines.count() == 3, "a log that was cut is read from its beginning"
