"""Limits of the process that the command meets: a refusal that names the limit, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Done, unify
from unified_db import causes

_ROWS = "CREATE TABLE {0} (x); INSERT INTO {0} VALUES (zeroblob(200000));"
# No machine has the address space for such a stack, so that the system refuses every thread.
_WITHOUT_THREADS = """
import sys, threading
threading.stack_size(1 << 47)
from unified_db._launcher import main
sys.exit(main())
"""


@pytest.fixture
def two(database: Callable[..., Path]) -> list[Path]:
    return [database(f"{name}.db", _ROWS.format(name)) for name in "ab"]


def merge(two: list[Path], limit: str) -> Done:
    through = ["sh", "-c", f'{limit}; exec "$@"', "sh"]
    done = unify("merge", *two, "--into", two[0].parent / "u.db", through=through)
    assert done.exit_code == 4, done.told
    assert "Traceback" not in done.told
    assert sorted(p.name for p in two[0].parent.iterdir()) == ["a.db", "b.db"]
    return done


@pytest.mark.parametrize("files", [8, 10, 14])
def test_a_limit_on_open_files_is_named_with_what_lifts_it(two: list[Path], files: int) -> None:
    answer = merge(two, f"ulimit -n {files}").answer
    assert "too many open files" in answer["message"]
    assert "`ulimit -n`" in answer["hint"]
    assert "path" not in answer["hint"]


def test_a_limit_on_the_size_of_a_file_is_named_with_what_lifts_it(two: list[Path]) -> None:
    answer = merge(two, "ulimit -f 100").answer
    assert "file too large" in answer["message"]
    assert "`ulimit -f`" in answer["hint"]
    assert "path" not in answer["hint"]


def test_where_no_thread_can_be_started_that_is_a_refusal_and_no_bug(two: list[Path]) -> None:
    folder = two[0].parent
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THREADS, "merge", *two, "--into", folder / "u.db", "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"] == 4, done.stderr
    assert "thread" in answer["message"]
    assert "`ulimit -u`" in answer["hint"]
    assert sorted(p.name for p in folder.iterdir()) == ["a.db", "b.db"]


@pytest.mark.parametrize(
    ("error", "lifts"),
    [
        pytest.param(MemoryError(), "`ulimit -v`", id="no-memory"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), "`ulimit -v`", id="no-memory-to-fork"),
        pytest.param(
            OSError(errno.ENFILE, "Too many open files in system"), "other programs", id="all-files"
        ),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), "Make room", id="a-full-disk"),
        pytest.param(PermissionError(errno.EACCES, "Permission denied"), "Mend that", id="a-permission"),
    ],
)
def test_each_refusal_has_its_own_way_out(error: Exception, lifts: str) -> None:
    assert causes.is_refusal(error)
    assert lifts in causes.way_out(error)
    assert "Error" not in causes.sentence(error)


def test_another_error_of_python_stays_a_bug() -> None:
    assert not causes.is_refusal(RuntimeError("can't do that"))
