"""What `status` says of a switch that stands, and of one that was taken back."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows import answers
from tests.migration.test_cutover import Move
from unified_db.migration import archive, phases, report
from unified_db.migration.phase_pages import phase_markdown


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    made = Move(tmp_path)
    yield made
    with suppress(Exception):
        made.app.stop()


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def page_of(move: Move) -> str:
    console = Console(file=StringIO(), width=200)
    answers.show(console, answers.answer_run(move.run))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_status_reminds_of_the_switch_until_it_is_committed(move: Move) -> None:
    git(move.app.root, "init", "-q")
    (move.app.root / ".gitignore").write_text("data/\n.unify-db/\n")
    git(move.app.root, "add", ".")
    git(move.app.root, "commit", "-qm", "before")
    assert answers.run_facts(move.run)["uncommitted"] == []
    move.switch()
    facts = answers.run_facts(move.run)
    assert facts["uncommitted"] == [".env"]
    assert "The last commit still has the old text of .env: commit the switch" in facts["next"]
    assert "old text of .env" in page_of(move)
    git(move.app.root, "commit", "-qam", "the switch")
    facts = answers.run_facts(move.run)
    assert facts["uncommitted"] == []
    assert "commit" not in facts["next"]


def test_without_a_repository_status_reminds_of_nothing(move: Move) -> None:
    move.switch()
    facts = answers.run_facts(move.run)
    assert facts["uncommitted"] == []
    assert "commit" not in facts["next"]
    assert str(move.run.patch) in page_of(move)


def test_status_lists_what_still_names_an_old_path(move: Move) -> None:
    (move.app.root / "nightly.sh").write_text("cp data/notes.db /backup\n")
    move.switch()
    assert answers.run_facts(move.run)["mentions"] == []
    move.run.save("archive", archive.archive_originals(move.app.config(), move.run))
    assert "nightly.sh:1" in answers.run_facts(move.run)["mentions"]
    assert "nightly.sh:1" in page_of(move)


def test_what_a_rollback_carried_left_and_set_aside_is_told_everywhere(move: Move) -> None:
    move.switch()
    env = move.app.root / ".env"
    env.write_text(env.read_text() + "ADDED=since\n")
    with closing(sqlite3.connect(move.app.unified)) as conn, conn:
        conn.execute("CREATE TABLE added (x)")
    record = phases.rollback(move.app.config(), move.run)
    kept = str(record.set_aside[0].kept)
    facts = answers.run_facts(move.run)
    assert facts["schema_carried"] == [{"source": "data/notes.db", "change": "table added is new"}]
    assert facts["set_aside"] == [{"path": str(env), "kept": kept, "why": "edited since the switch"}]
    assert facts["left_behind"] == []
    report.write_report(move.run)
    for text in (page_of(move), phase_markdown("rollback", move.run), move.run.report.read_text()):
        assert "table added is new" in text
        assert "edited since the switch" in text
        assert Path(kept).name in text
