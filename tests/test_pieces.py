"""Pieces of work are given up together, and tell how far they are."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from flows.terminal import LivePhases
from unified_db import files, pieces, sqlite
from unified_db.migration import backup, merge
from unified_db.migration.backup import PlainSource

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def _run_endlessly(begun: threading.Event, path: Path) -> None:
    with sqlite.closing(sqlite.create(path)) as conn:
        begun.set()
        conn.execute(ENDLESS).fetchone()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_statement_without_end_is_given_up_when_another_piece_fails(
    tmp_path: Path, error: type[BaseException]
) -> None:
    begun = threading.Event()

    def fail() -> None:
        begun.wait()
        raise error

    with pytest.raises(error):
        pieces.do_together([lambda: _run_endlessly(begun, tmp_path / "a.db"), fail], threads=2)


def test_what_interrupts_the_waiting_thread_gives_up_all_pieces(tmp_path: Path) -> None:
    """Also pieces that a piece has started, as a signal does to a merge."""
    begun = threading.Event()

    def nested() -> None:
        pieces.do_together([lambda: _run_endlessly(begun, tmp_path / "a.db")])

    def interrupted() -> None:
        with pieces.crew() as hands:
            hands.start(nested)
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_copy_that_goes_on_by_hand_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(200 << 20))

    def fail_soon(_copied: int) -> None:
        raise ValueError("given up")

    with pytest.raises(ValueError, match="given up"):
        pieces.do_together([lambda: files.copy_content(tmp_path / "large", tmp_path / "copy", fail_soon)])
    assert (tmp_path / "copy").stat().st_size < 200 << 20


def test_steps_of_a_copy_never_start_over_while_others_write(tmp_path: Path) -> None:
    """Every step is followed by a commit and a checkpoint of another connection; none is done twice."""
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x)")
        writer.executemany("INSERT INTO t VALUES (zeroblob(1000000))", [()] * 80)
        told: list[int] = []

        def write(copied: int) -> None:
            told.append(copied)
            writer.execute("INSERT INTO t VALUES ('later')")
            writer.execute("UPDATE t SET x = 'changed' WHERE rowid = 80")
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")

        with sqlite.closing(sqlite.connect_read_only(path)) as reader:
            sqlite.copy_database(reader, tmp_path / "copy.db", write)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*), sum(length(x)) FROM t").fetchone() == (80, 80_000_000)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(told) > 3
    assert sum(told) == (tmp_path / "copy.db").stat().st_size


def test_phases_tell_how_far_they_are_up_to_the_end(tmp_path: Path) -> None:
    for name, rows in (("a.db", 3000), ("b.db", 100)):
        with closing(sqlite3.connect(tmp_path / name)) as conn, conn:
            conn.execute(f"CREATE TABLE t_{name[0]} (id INTEGER PRIMARY KEY, x)")
            conn.executemany(f"INSERT INTO t_{name[0]} (x) VALUES (zeroblob(10000))", [()] * rows)
    seen: list[pieces.Progress] = []
    (tmp_path / "out").mkdir()
    with pieces.observed(seen.append):
        sources = [PlainSource(tmp_path / n, n) for n in ("a.db", "b.db")]
        backups = backup.take_backups(sources, tmp_path / "out")
        merge.merge_backups(backups, tmp_path / "unified.db")
    copied = [p.done_bytes for p in seen if p.phase == "backup"]
    assert copied == sorted(copied)
    last = {p.phase: p for p in seen}
    assert last["backup"].done_bytes == last["backup"].total_bytes
    assert 0 < last["merge"].done_bytes <= last["merge"].total_bytes


def test_an_observer_that_fails_stops_nothing() -> None:
    def fail(_progress: pieces.Progress) -> None:
        raise ValueError

    with pieces.observed(fail):
        pieces.Tally("backup", 10).add(10)


def test_rate_and_remaining_time_are_shown_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pieces.time, "monotonic", lambda: now)
    screen = LivePhases(Console(file=io.StringIO(), force_terminal=True, width=80))
    try:
        screen.look(pieces.Progress("backup", 0, 4_000_000_000))
        now = 101.0
        screen.look(pieces.Progress("backup", 500_000_000, 4_000_000_000))
        assert screen._how_far() == ""
        now = 104.0
        screen.look(pieces.Progress("backup", 1_000_000_000, 4_000_000_000))
        assert screen._how_far() == "backup 25%, 250 MB/s, 12 s left"
        screen.look(pieces.Progress("backup", 4_000_000_000, 4_000_000_000))
        assert screen._how_far() == ""
    finally:
        screen.stop()


def test_what_is_left_is_foretold_by_what_the_beginning_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pieces.time, "monotonic", lambda: now)
    seen: list[pieces.Progress] = []
    with pieces.observed(seen.append):
        tally = pieces.Tally("merge", 1000)
        now = 104.0
        tally.add(800)
        assert tally.foretell(2.0) == 400
        now = 105.0
        tally.add(200)
    assert [(p.done_bytes, p.total_bytes) for p in seen] == [(800, 1000), (1000, 1200)]
    pace = pieces.Pace()
    pace.began = 100.0
    pace.latest = seen[-1]
    assert pace.sentence() == "83%, 0 MB/s, 1 s left"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority belongs to the whole process")
def test_a_piece_goes_behind_without_the_others_or_the_caller() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    usual = priority()
    found = pieces.do_together([priority, pieces.behind(priority)], threads=2)
    assert found == [usual, min(usual + 4, 19)]
    several = pieces.do_together([pieces.behind(priority)] * 3, threads=1)
    assert several == [min(usual + 4, 19)] * 3, "it does not sink with every piece"
    assert priority() == usual


def test_a_step_that_takes_longer_than_those_before_is_not_said_to_end_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(pieces.time, "monotonic", lambda: now)
    pace = pieces.Pace()
    now = 103.0
    pace.note(pieces.Progress("suites", 1, 4, "steps"))
    now = 105.0
    assert pace.sentence() == "25%, about 7 s left"
    now = 113.0
    assert pace.sentence() == "25%"
