"""The plan as a person reads it: on a terminal, in a pipe, and in JSON, all of it and no secret."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from flows import answers
from tests.conftest import unify
from tests.migration.test_report import make_plan
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration import report
from unified_db.migration.records import MigrationPlan, Risk
from unified_db.migration.runs import RunFolder, create_run

PLANTED = "sk-PLANTED0123456789"
OPEN = Risk(
    name="open",
    sentence="Something that may go wrong.",
    where=tuple(f"a{n}.py:{n}" for n in range(8)),
    remedy="Do this.",
)
HANDLED = Risk(
    name="handled", sentence="Something that is taken care of.", remedy="By an edit.", handled=True
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = create_run(tmp_path / ".unify-db")
    run.save("plan", make_plan(risks=(OPEN, HANDLED), missing=("No [[suite]] is configured.",)))
    return run


def shown(run: RunFolder, *, width: int = 100, terminal: bool = True) -> str:
    """What the command prints of the plan of *run*, with its colours on a terminal."""
    plan = run.load("plan", MigrationPlan)
    assert plan is not None
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
    )
    answers.show(console, answers.answer_plan(run, plan))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    """*text* without colours and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def test_a_terminal_shows_sources_edits_risks_and_what_is_missing_from_top_to_bottom(run: RunFolder) -> None:
    text = words(shown(run))
    order = ("2 files with", "Sources", "messages", "Edits", "Risks", "Missing", "Time and space", "dry-run")
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert "1 open, 1 taken care of" in text
    assert "! Something that may go wrong." in text
    assert "a5.py:5 and 2 more" in text
    assert "→ Do this." in text
    assert "✓ Something that is taken care of." in text
    assert "○ No [[suite]] is configured." in text
    assert "Fill in what is missing" in text


def test_edits_are_coloured_as_a_review_has_them(run: RunFolder) -> None:
    text = shown(run)
    assert re.search(r"\x1b\[32m\+from unified_db import UnifiedAsyncSqliteSaver", text)
    assert re.search(r"\x1b\[31m-from langgraph\.checkpoint\.sqlite\.aio import AsyncSqliteSaver", text)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_no_line_is_cut_off_whatever_the_width(run: RunFolder, width: int) -> None:
    text = re.sub(r"\s", "", words(shown(run, width=width)))
    plan = make_plan()
    for edit in plan.edits:
        for line in edit.diff.splitlines()[2:]:
            if "•" not in line:
                assert re.sub(r"\s", "", line) in text


def test_a_pipe_gets_the_same_as_markdown(run: RunFolder) -> None:
    text = shown(run, terminal=False)
    assert "## Risks\n\n- Something that may go wrong. (a0.py:0," in text
    assert "## Risks that are taken care of\n\n- Something that is taken care of. By an edit." in text
    assert "## Missing in unify.toml\n\n- No \\[\\[suite\\]\\] is configured." in text
    assert "```diff\n--- a/backend/.env" in text
    assert "\x1b" not in text


def test_the_report_shows_open_risks_and_its_summary_counts_them(run: RunFolder) -> None:
    report.write_report(run)
    page = run.report.read_text()
    assert "Something that may go wrong. Do this." in page
    assert "Something that is taken care of" not in page
    assert "2 risks and missing settings" in report.summary_markdown(run)


def test_no_secret_of_a_process_or_a_diff_is_shown(run: RunFolder) -> None:
    risk = OPEN.model_copy(update={"sentence": f"Process 1 serve --token {PLANTED} has it open."})
    edit = make_plan().edits[1].model_copy(update={"diff": f"+KEY = '{PLANTED}'\n"})
    run.save("plan", make_plan(risks=(risk,), edits=(edit,), missing=(PLANTED,)))
    assert PLANTED not in words(shown(run)) + shown(run, terminal=False)


def test_the_command_finds_risks_and_what_is_missing_in_a_real_tree(tmp_path: Path) -> None:
    tiny = TinyApplication.create(tmp_path)
    tiny.configure(suite=[{"name": n, "command": f"{{python}} -m {n}"} for n in ("nose", "pytest")])
    (tiny.root / "backup.sh").write_text("cp data/notes.db /backup\n")
    answer = unify("plan", "--config", tiny.toml).answer
    found = {r["name"]: r for r in answer["plan"]["risks"]}
    assert found["copied-as-a-file"]["where"] == ["backup.sh:1"]
    assert found["old-path-in-scripts"]["where"] == ["backup.sh:1"]
    missing = answer["plan"]["missing"]
    assert any("[[continuity]]" in m for m in missing)
    assert [m for m in missing if "has not got" in m and "[[suite]] nose" in m]
    assert not [m for m in missing if "[[suite]] pytest" in m]
    assert "open risk" in answer["message"]
