"""What the command writes: names that are no UTF-8, and streams that are full, closed or read no further."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, build_database
from unified_db.spelling import ERRORS, spelled

_ROWS = "CREATE TABLE {0} (x); INSERT INTO {0} VALUES (1), (2);"
_NO_UTF_8 = os.fsdecode(b"\xff.db")

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin", reason="there a name must be UTF-8, and /dev/full is not"
)


@pytest.fixture
def two(database: Callable[..., Path]) -> list[Path]:
    return [database(f"{name}.db", _ROWS.format(name)) for name in "ab"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return build_database(tmp_path / _NO_UTF_8, _ROWS.format("odd"))


def unify(*arguments: object, sh: str = 'exec "$@"', **env: str) -> subprocess.CompletedProcess[bytes]:
    """The command, started by the shell as *sh* says, which can close and redirect what it writes to."""
    command = [sys.executable, "-m", "unified_db._launcher", *map(str, arguments)]
    done = subprocess.run(
        ["bash", "-c", sh, "bash", *command],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert b"a bug of unify-db" not in done.stderr
    return done


def answer_of(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode
    return answer


def count_rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as conn:
        return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


# ---- names that are no UTF-8 ---------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_target_that_is_no_utf_8_is_spelled_alike_for_scripts_and_for_people(
    two: list[Path], tmp_path: Path, locale: str
) -> None:
    target = tmp_path / _NO_UTF_8
    merged = unify("merge", *two, "--into", target, "--json", LC_ALL=locale)
    assert answer_of(merged)["target"] == f"{tmp_path}/\\xff.db"
    assert count_rows(target, "a") == 2
    again = unify("merge", *two, "--into", target, LC_ALL=locale)
    assert again.returncode == 0
    assert rf"{tmp_path}/\xff.db: 2 tables compared".encode() in again.stdout
    assert b"\\udc" not in again.stdout + again.stderr + merged.stderr


def test_a_missing_source_that_is_no_utf_8_is_named(two: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / _NO_UTF_8
    done = unify("merge", missing, *two, "--into", tmp_path / "u.db", "--json")
    assert answer_of(done)["exit_code"] == 2
    assert answer_of(done)["message"] == f"{tmp_path}/\\xff.db does not exist"
    assert rf"{tmp_path}/\xff.db does not exist".encode() in done.stderr


def test_a_backup_whose_name_is_no_utf_8_can_be_restored_and_checked(odd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert unify("backup", odd, "--into", folder).returncode == 0
    (copy,) = folder.glob("*.db")
    subprocess.run(["sha256sum", "--check", f"{copy.name}.sha256"], cwd=folder, check=True)
    odd.unlink()
    assert unify("restore", copy, "--to", odd).returncode == 0
    assert count_rows(odd, "odd") == 2


def test_a_backup_with_a_backslash_in_its_name_is_noted_as_sha256sum_notes_it(tmp_path: Path) -> None:
    file = build_database(tmp_path / "a\\b\n.db", _ROWS.format("t"))
    assert unify("backup", file, "--into", tmp_path / "kept").returncode == 0
    (copy,) = (tmp_path / "kept").glob("*.db")
    said = subprocess.run(["sha256sum", copy.name], cwd=copy.parent, capture_output=True, check=True)
    assert copy.with_name(f"{copy.name}.sha256").read_bytes() == said.stdout
    assert unify("restore", copy, "--to", file).returncode == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("é.db", "é.db", id="what-is-utf-8-stays"),
        pytest.param(_NO_UTF_8, "\\xff.db", id="a-byte-that-is-none"),
        pytest.param("\ud83d", "\\ud83d", id="half-a-pair"),
    ],
)
def test_how_a_name_is_spelled(text: str, shown: str) -> None:
    assert spelled(text) == shown == text.encode("utf-8", ERRORS).decode()


def test_what_an_encoding_has_not_got_is_spelled_too() -> None:
    assert f"✓ é {_NO_UTF_8}".encode("ascii", ERRORS) == b"\\u2713 \\xe9 \\xff.db"


# ---- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-", "2>/dev/full <&-"])
def test_a_log_that_nobody_takes_stops_no_work(two: list[Path], tmp_path: Path, how: str) -> None:
    done = unify("merge", *two, "--into", tmp_path / "u.db", "--json", sh=f'exec "$@" {how}')
    assert answer_of(done)["exit_code"] == 0
    assert count_rows(tmp_path / "u.db", "b") == 2


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["for-people", "json"])
@pytest.mark.parametrize("how", [">/dev/full", ">&-"])
def test_an_answer_that_cannot_be_written_is_told_and_is_no_success(
    two: list[Path], tmp_path: Path, how: str, option: list[str]
) -> None:
    done = unify("merge", *two, "--into", tmp_path / "u.db", *option, sh=f'exec "$@" {how}')
    assert done.returncode == 2
    assert b"standard output did not take the answer" in done.stderr
    assert f"is done: {tmp_path}/u.db: 2 tables merged".encode() in done.stderr
    assert count_rows(tmp_path / "u.db", "a") == 2


def test_a_failure_keeps_its_code_where_it_cannot_be_written(tmp_path: Path) -> None:
    done = unify("merge", "gone.db", "--into", tmp_path / "u.db", "--json", sh='exec "$@" >/dev/full')
    assert done.returncode == 2
    assert b"gone.db does not exist" in done.stderr
    assert b"is done" not in done.stderr


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["for-people", "json"])
def test_a_reader_that_wants_no_more_changes_nothing(
    two: list[Path], tmp_path: Path, option: list[str]
) -> None:
    # The pipe's other end is closed before the command begins.
    sh = 'exec {end}> >(:); wait $!; exec "$@" >&$end'
    done = unify("merge", *two, "--into", tmp_path / "u.db", *option, sh=sh)
    assert done.returncode == 0
    assert b"standard output" not in done.stderr
    assert count_rows(tmp_path / "u.db", "a") == 2


def test_closed_streams_let_no_database_take_their_numbers(two: list[Path], tmp_path: Path) -> None:
    done = unify("merge", *two, "--into", tmp_path / "u.db", sh='exec "$@" <&- >&- 2>&-')
    assert done.returncode == 2
    assert unify("validate", *two, "--against", tmp_path / "u.db").returncode == 0


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_told_too(option: str) -> None:
    done = unify(option, sh='exec "$@" >/dev/full')
    assert done.returncode == 2
    assert b"no space left" in done.stderr


@pytest.mark.parametrize("verb", ["init", "plan", "dry-run", "status"])
def test_a_run_in_a_folder_that_is_no_utf_8_is_refused_before_it_begins(tmp_path: Path, verb: str) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    build_database(folder / "app.db", _ROWS.format("t"))
    text = '[app]\n[[source]]\npath = "app.db"\n[target]\npath = "unified.db"\n'
    (folder / "unify.toml").write_text(text)
    done = unify(verb, "--json", sh=f'cd "{folder}"; exec "$@"')
    answer = answer_of(done)
    assert answer["exit_code"] == 2
    assert f"{tmp_path}/\\xff" in answer["message"]
    assert "no UTF-8" in answer["message"]
    assert "Rename" in answer["hint"]
    assert sorted(p.name for p in folder.iterdir()) == ["app.db", "unify.toml"]
