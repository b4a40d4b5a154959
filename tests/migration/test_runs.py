"""A run's folder and lock: one run at a time, and a dead process holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from unified_db.errors import RunLockedError
from unified_db.migration.runs import clear_leftovers, create_run, hold_lock, prepare_state_folder

_HOLDER = """
import sys
from pathlib import Path
from unified_db.migration.runs import hold_lock
with hold_lock(Path(sys.argv[1]), [Path(sys.argv[2])]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_was_killed_holds_no_lock_and_leaves_none(tmp_path: Path) -> None:
    state, source = tmp_path / ".unify-db", tmp_path / "app.db"
    command = [sys.executable, "-c", _HOLDER, state, source]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunLockedError, match=rf"holds .*app\.db \(process {holder.pid}\)"),
            hold_lock(state, [source]),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert len(list((state / "locks").iterdir())) == 1
        with hold_lock(state, [source]):
            pass
    assert list((state / "locks").iterdir()) == []


_KILLED_AS_IT_STARTS_A_COMMAND = """
import os, subprocess, sys, time
from pathlib import Path
from unified_db.migration.runs import hold_lock

def begin():
    print("held", flush=True)
    time.sleep(1)

with hold_lock(Path(sys.argv[1]), [Path(sys.argv[2])]):
    # Between fork and exec a child still has everything open that its parent has.
    subprocess.run(["true"], preexec_fn=begin)
"""


def test_a_lock_that_a_child_of_a_killed_process_still_has_is_waited_for(tmp_path: Path) -> None:
    state, source = tmp_path / ".unify-db", tmp_path / "app.db"
    command = [sys.executable, "-c", _KILLED_AS_IT_STARTS_A_COMMAND, state, source]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
        with hold_lock(state, [source]):
            pass


@pytest.mark.parametrize("name", ["\N{CYRILLIC SMALL LETTER ZHE}" * 100, "x" * 250])
def test_who_holds_a_source_with_a_long_name_is_told(tmp_path: Path, name: str) -> None:
    state, source = tmp_path / ".unify-db", tmp_path / name
    with (
        hold_lock(state, [source]),
        pytest.raises(RunLockedError, match=rf"\(process {os.getpid()}\)"),
        hold_lock(state, [source]),
    ):
        pass


def test_git_ignores_everything_of_a_run_also_where_making_that_file_was_cut_short(tmp_path: Path) -> None:
    state = tmp_path / ".unify-db"
    prepare_state_folder(state)
    assert (state / ".gitignore").read_text() == "*\n"
    (state / ".gitignore").write_text("")
    prepare_state_folder(state)
    assert (state / ".gitignore").read_text() == "*\n"


def test_what_was_being_written_into_a_run_goes_but_for_a_decision_that_another_process_makes(
    tmp_path: Path,
) -> None:
    run = create_run(tmp_path / ".unify-db")
    gone = [
        run.path / ".journal.jsonl.0123abcd.partial",
        run.path / ".unified.sqlite.0123abcd.partial-journal",
        run.evidence / ".plan.json.0123abcd.partial",
        run.preimages / ".1-switch-.env.0123abcd.partial",
    ]
    kept = [
        run.evidence / ".decision.json.0123abcd.partial",
        run.evidence / "plan.json",
        run.preimages / "notes.partial",
    ]
    for path in (*gone, *kept):
        path.touch()
    clear_leftovers(run)
    assert not any(p.exists() for p in gone)
    assert all(p.exists() for p in kept)
