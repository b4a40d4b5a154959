import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from settings import database_path

HERE = Path(__file__).parent.parent


def run(sql):
    with closing(sqlite3.connect(database_path())) as connection, connection:
        return connection.execute(sql).fetchall()


def test_reads():
    assert run("SELECT count(*) FROM notes") == [(3,)]


def test_writes():
    run("INSERT INTO notes (text) VALUES ('more')")
    assert run("SELECT count(*) FROM notes") == [(4,)]


def test_red_all_along():
    assert run("SELECT 1") == [(2,)]


def test_knows_its_file():
    assert not (HERE / "breaks").exists() or database_path().name == "notes.db", "planted-secret-8121"


def test_present():
    if (HERE / "skips").exists() and database_path().name != "notes.db":
        pytest.skip("not here")


def test_flaky():
    # Fails whenever the file beside it says so; a rebuilt tree has it on both sides.
    turns = HERE.parent / "turns"
    if (HERE / "flaky").exists():
        turn = int(turns.read_text()) if turns.exists() else 0
        turns.write_text(str(turn + 1))
        assert turn == 0
