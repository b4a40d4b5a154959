"""What is written to the sources between their backup and their locks is in the unified file, all of it."""

from __future__ import annotations

import http.client
import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_database
from tests.migration.plain_move import PlainMove, execute, state
from tests.migration.test_cutover import Move
from unified_db import sqlite
from unified_db.errors import CutoverUndoneError, SourceChangedError
from unified_db.migration import application, changes, compare, plan, processes
from unified_db.migration.compare import WHOLE, Span
from unified_db.migration.journal import read_entries
from unified_db.migration.runs import RunFolder

_MANY = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO t (k, v) SELECT i * 7, 'value ' || i FROM n;
"""
_TABLES = {
    "an-integer-key": "CREATE TABLE t (k INTEGER PRIMARY KEY, v, u UNIQUE);",
    "a-rowid-of-its-own": "CREATE TABLE t (k UNIQUE, v, u);",
    "no-rowid": "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v, u UNIQUE) WITHOUT ROWID;",
    "two-keys": "CREATE TABLE t (k, v, u UNIQUE, PRIMARY KEY (k, v)) WITHOUT ROWID;",
}


@pytest.fixture(autouse=True)
def without_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which packages an application's interpreter has is another test's matter, and takes a second.
    monkeypatch.setattr(plan, "_require_runtime", lambda _config: None)


def at_the_stop(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* done right before the application is stopped, when all is compared already."""
    stop = application.stop

    def stop_after(*arguments: object) -> None:
        act()
        monkeypatch.setattr(application, "stop", stop)
        stop(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(application, "stop", stop_after)


def write_all_over(path: Path, seed: int) -> None:
    """Insert, change and delete rows here and there, both ends included, and some swap a unique value."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path)) as conn, conn:
        keys = [k for (k,) in conn.execute("SELECT k FROM t ORDER BY k")]
        for key in {keys[0], keys[-1], *chance.sample(keys, 20)}:
            conn.execute("DELETE FROM t WHERE k = ?", (key,))
        for key in chance.sample(keys, 20):
            conn.execute("UPDATE t SET v = v || ' changed', u = k WHERE k = ?", (key,))
        new = [-5_000_000_000, 9_000_000_000, *(k + 3 for k in map(int, chance.sample(keys, 20)))]
        conn.executemany("INSERT OR IGNORE INTO t (k, v) VALUES (?, 'new')", [(k,) for k in set(new)])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("sql", [pytest.param(s, id=n) for n, s in _TABLES.items()])
def test_writes_all_over_a_table_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, mode: str, seed: int
) -> None:
    source = build_database(tmp_path / "app.db", sql + _MANY, wal=mode == "wal")
    move = PlainMove(tmp_path, [source])
    move.prepare()
    write_all_over(source, seed)
    at_the_stop(monkeypatch, lambda: write_all_over(source, seed + 10))
    assert move.switch() > 80
    (kept,) = (tmp_path / ".unify-db" / "runs" / move.run.name / "originals").iterdir()
    assert state(move.target) == state(kept)


def test_after_the_stop_only_rows_on_pages_that_were_written_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = build_database(tmp_path / "app.db", _TABLES["an-integer-key"] + _MANY, wal=True)
    move = PlainMove(tmp_path, [source])
    move.prepare()
    at_the_stop(monkeypatch, lambda: execute(source, "UPDATE t SET v = 'late' WHERE k = 20993"))
    compared: list[Span] = []
    differs = changes.differs

    def watch(*arguments: Any, span: Span = WHOLE, **named: Any) -> bool:
        compared.append(span)
        return differs(*arguments, span=span, **named)

    monkeypatch.setattr(changes, "differs", watch)
    assert move.switch() == 1
    after_the_stop = [s for s in compared if s != WHOLE]
    assert len(after_the_stop) == 2, "once before and once after it was carried"
    assert {(s.end or 0) - (s.first or 0) < 2000 for s in after_the_stop} == {True}


def test_values_that_two_rows_of_different_spans_have_swapped_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = build_database(tmp_path / "app.db", _TABLES["an-integer-key"] + _MANY + "UPDATE t SET u = k;")
    move = PlainMove(tmp_path, [source])
    move.prepare()
    swap = ";".join(f"UPDATE t SET u = {u} WHERE k = {k}" for u, k in ((-1, 7), (7, 34993), (34993, 7)))
    at_the_stop(monkeypatch, lambda: execute(source, swap))
    assert move.switch() == 2
    with closing(sqlite3.connect(move.target)) as conn:
        assert conn.execute("SELECT k, u FROM t WHERE k <> u ORDER BY k").fetchall() == [
            (7, 34993),
            (34993, 7),
        ]


def test_a_row_that_goes_where_nothing_was_written_takes_the_cut_over_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was written is compared again, so the count has to tell about the rest."""
    source = build_database(tmp_path / "app.db", _TABLES["an-integer-key"] + _MANY)
    move = PlainMove(tmp_path, [source])
    move.prepare()
    before = state(source)
    at_the_stop(monkeypatch, lambda: execute(source, "UPDATE t SET v = 'late' WHERE k = 7"))
    carry = changes.carry_all

    def carry_and_lose(conn: sqlite3.Connection, *arguments: object, **named: object) -> object:
        carried = carry(conn, *arguments, **named)  # type: ignore[arg-type]
        if carried:
            conn.execute("DELETE FROM main.t WHERE k = 20993")
        return carried

    monkeypatch.setattr(changes, "carry_all", carry_and_lose)
    with pytest.raises(CutoverUndoneError, match="differs after its rows were carried"):
        move.switch()
    assert not move.target.exists()
    execute(source, "UPDATE t SET v = 'value 1' WHERE k = 7")
    assert state(source) == before


def test_spans_are_all_rows_of_a_table_and_each_once(tmp_path: Path) -> None:
    path = build_database(tmp_path / "app.db", _TABLES["an-integer-key"] + _MANY)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("INSERT INTO t (k) VALUES (-9223372036854775808), (9223372036854775807)")
        spans = changes.split(conn, "t", "main")
        assert len(spans) > 10
        table = sqlite.describe_table(conn, "t")
        counted = [
            conn.execute(f"SELECT count(*) FROM t WHERE {span.of(table, 't')}").fetchone()[0]
            for span in spans
        ]
        assert sum(counted) == 5002
        assert conn.execute("DELETE FROM t").rowcount == 5002
        assert changes.split(conn, "t", "main") == [compare.WHOLE]


# ---- a client that asks all along -------------------------------------------------------------------


class Client:
    """Asks again and again; of every request when it began, when it ended, and whether it was answered."""

    def __init__(self, url: str) -> None:
        self.log: list[tuple[datetime, datetime, bool]] = []
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.005):
            began = datetime.now(UTC)
            try:
                with urllib.request.urlopen(self._url, timeout=20) as response:
                    response.read()
                answered = True
            except (OSError, http.client.HTTPException):
                answered = False
            self.log.append((began, datetime.now(UTC), answered))

    def wait_for_answers(self) -> None:
        """Return once three more requests were answered."""
        known, deadline = len(self.log), time.monotonic() + 20
        while sum(ok for _, _, ok in self.log[known:]) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    made = Move(tmp_path)
    yield made
    with suppress(Exception):
        made.app.stop()


def prepared_beside_others(move: Move) -> RunFolder:
    """A new run, ready for its cut-over; what is transient is done again, as the order of a run does."""
    for _ in range(50):
        with suppress(SourceChangedError):
            return move.prepare_again()
    raise AssertionError("the sources never stood still for a moment")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_client_that_asks_all_along_is_refused_only_between_stop_and_start(move: Move, mode: str) -> None:
    with closing(sqlite3.connect(move.app.notes)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
    config = move.app.config()
    with Client(processes.ready_url(config, port=config.app.port)) as client:
        client.wait_for_answers()
        move.run = prepared_beside_others(move)
        move.switch()
        client.wait_for_answers()
    entries = read_entries(move.run.journal)
    stop = next(e.at for e in entries if (e.status, e.fields.get("name")) == ("intent", "stop"))
    switched = next(e.at for e in entries if (e.event, e.status) == ("cutover", "switched"))
    before = [ok for _, ended, ok in client.log if ended < stop]
    between = [ok for began, ended, ok in client.log if began < switched and ended >= stop]
    after = [ok for began, _, ok in client.log if began >= switched]
    assert len(before) > 3
    assert all(before)
    assert not all(between)
    assert after
    assert all(after)
