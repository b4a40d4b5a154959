"""Every line of the journal proves itself, a torn last one counts for nothing, and acts are told first."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unified_db.errors import JournalError
from unified_db.migration.journal import Journal, read_entries, read_state, standing_acts
from unified_db.migration.runs import RunFolder, create_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with three lines in its journal."""
    made = create_run(tmp_path / ".unify-db")
    for number in range(3):
        Journal(made).write("phase", "done", phase=f"ä-{number}")
    return made


def lines(run: RunFolder) -> list[bytes]:
    return run.journal.read_bytes().splitlines(keepends=True)


def test_a_byte_that_changed_anywhere_is_noticed(run: RunFolder) -> None:
    whole = run.journal.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for place in range(len(whole) - 1):
        run.journal.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(JournalError, match=rf"line {3 if place >= last else '[123]'} is damaged"):
            read_entries(run.journal)


@pytest.mark.parametrize("order", [(0, 2), (1, 2), (1, 0, 2), (0, 0, 1, 2)], ids=str)
def test_a_line_that_is_missing_moved_or_doubled_is_noticed(run: RunFolder, order: tuple[int, ...]) -> None:
    known = lines(run)
    run.journal.write_bytes(b"".join(known[place] for place in order))
    with pytest.raises(JournalError, match="damaged or missing"):
        read_entries(run.journal)


def test_a_last_line_that_was_torn_anywhere_counts_for_nothing_and_the_next_one_stands_on_its_own(
    run: RunFolder,
) -> None:
    *known, last = lines(run)
    for size in range(len(last)):
        run.journal.write_bytes(b"".join(known) + last[:size])
        assert [e.fields["phase"] for e in read_entries(run.journal)] == ["ä-0", "ä-1"]
        Journal(run).write("phase", "done", phase="next")
        assert [e.fields["phase"] for e in read_entries(run.journal)] == ["ä-0", "ä-1", "next"]


def test_an_act_is_told_with_all_that_undoing_it_needs_before_it_is_done(run: RunFolder) -> None:
    journal = Journal(run)
    with journal.act("edit", path="settings") as learnt:
        (before,) = standing_acts(run)
        assert (before.name, before.before, before.done) == ("edit", {"path": "settings"}, False)
        learnt["pid"] = 1
    (after,) = standing_acts(run)
    assert (after.done, after.after) == (True, {"pid": 1})
    journal.undone(after)
    assert standing_acts(run) == []


def test_an_act_that_failed_stands_and_is_not_called_done(run: RunFolder) -> None:
    with pytest.raises(OSError, match="no"), Journal(run).act("edit"):
        raise OSError("no")
    (act,) = standing_acts(run)
    assert not act.done


def test_a_line_for_which_there_is_no_room_leaves_the_journal_as_it_was(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = os.write, run.journal.read_bytes()
    taken = iter([7])

    def write_a_part(descriptor: int, content: bytes) -> int:
        if (size := next(taken, 0)) == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:size])

    journal = Journal(run)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_a_part)
        with pytest.raises(OSError, match="No space"):
            journal.write("run", "done")
    assert run.journal.read_bytes() == before
    journal.write("run", "done")
    assert len(read_entries(run.journal)) == 4


def test_the_journal_is_its_owners_whatever_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        run = create_run(tmp_path / ".unify-db")
        Journal(run).write("run", "begin")
    finally:
        os.umask(mask)
    assert run.journal.stat().st_mode & 0o777 == 0o600
    folders = (run.path, run.preimages, run.evidence, run.backups, run.path.parent, tmp_path / ".unify-db")
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_a_run_that_was_killed_before_its_first_line_is_not_at_work(tmp_path: Path) -> None:
    run = create_run(tmp_path / ".unify-db")
    run.journal.touch()
    assert read_state(run).state == "interrupted"


def test_only_a_rehearsal_that_ended_with_open_gates_is_called_ready_for_the_switch(run: RunFolder) -> None:
    journal = Journal(run)
    journal.write("run", "begin", dry_run=True, pid=os.getpid())
    journal.write("run", "failed", closed=True, reason="suites: closed")
    assert read_state(run).state == "closed"
    assert "mend what closed the gate" in read_state(run).next
    journal.write("run", "done")
    assert read_state(run).state == "closed"
    assert "`unify-db run` makes the switch" in read_state(run).next
