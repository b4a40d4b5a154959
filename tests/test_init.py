"""`unify-db init` as people and scripts meet it: what it writes, says, asks, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.answers import Answer
from flows.initiate import initiate
from tests.conftest import REPOSITORY, Done, look_at, unify, unify_without_privileges
from tests.migration.discovery.trees import ALEMBIC, CHECKPOINTS, NOTES, plant, plant_databases
from unified_db.errors import UnifyError, UsageError
from unified_db.migration.config import load_config

MAIN = """
import sqlite3
from fastapi import FastAPI
from langgraph.checkpoint.sqlite import SqliteSaver
from sqlalchemy import create_engine

engine = create_engine("sqlite:///data/app.db")
saver = SqliteSaver(sqlite3.connect("data/graph.db", check_same_thread=False))
app = FastAPI()

@app.get("/health")
def health(): ...
"""
ALWAYS = {"ok", "verb", "run", "exit_code", "error", "message", "hint"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = plant(tmp_path / "tree", {"main.py": MAIN, "tests/test_a.py": "def test_a(): ...\n"})
    return plant_databases(tree, {"data/app.db": ALEMBIC, "data/graph.db": CHECKPOINTS, "old/app.db": NOTES})


def init(root: Path, *arguments: object) -> Done:
    return unify("init", *arguments, cwd=root)


def look(folder: Path | None, config: Path | None = None) -> Answer:
    """What the verb answers, without a process of its own."""
    return initiate(folder, config, asks=False)


def test_it_writes_the_configuration_and_ends_with_the_next_step(root):
    done = init(root)
    assert done.exit_code == 0
    assert done.answer.keys() >= ALWAYS | {"databases", "settings", "edits", "questions", "config"}
    assert done.answer["verb"] == "init"
    assert "unify-db plan" in done.answer["hint"]
    assert Path(done.answer["config"]) == root / "unify.toml"
    assert [str(s.path) for s in load_config(root).source] == ["data/app.db", "data/graph.db"]


def test_databases_settings_and_questions_are_told_with_their_reasons(root):
    answer = look(root).facts
    kinds = {d["path"]: (d["kind"], bool(d["decoy"])) for d in answer["databases"]}
    assert kinds == {
        "data/app.db": ("application", False),
        "data/graph.db": ("checkpoints", False),
        "old/app.db": ("application", True),
    }
    assert {s["raw"] for s in answer["settings"] if s["wins"]} >= {"sqlite:///data/app.db", "data/graph.db"}
    assert {q["about"] for q in answer["questions"]} >= {"app.stop", "staging.reviewed"}


def test_a_second_call_changes_nothing_and_says_so(root):
    assert look(root).facts["changed"]
    before = look_at(root)
    again = look(root)
    assert again.exit_code == 0
    assert not again.facts["changed"]
    assert "not changed" in again.message
    assert look_at(root) == before


def test_the_folder_and_the_file_may_be_named(root, tmp_path):
    elsewhere = tmp_path / "settings"
    elsewhere.mkdir()
    assert look(root, elsewhere / "move.toml").exit_code == 0
    assert load_config(elsewhere / "move.toml").root == root
    assert not (root / "unify.toml").exists()
    # From now on the file knows which folder it is about.
    assert not look(None, elsewhere / "move.toml").facts["changed"]


def test_people_see_what_was_found_and_why(root):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    command = [sys.executable, "-m", "unified_db._launcher", "init", "--yes"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=True)
    for told in (
        "✓ data/app.db",
        "its schema is Alembic's",
        "an old copy or backup, by its name",
        "main.py:7",
        "SqliteSaver",
        "-m uvicorn main:app",
        "-m pytest tests",
        "GET /health",
        "Which command stops the server?",
    ):
        assert told in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100


@pytest.mark.parametrize(
    ("folder", "config", "said"),
    [
        pytest.param("nowhere", None, "no folder", id="a-folder-that-is-not-there"),
        pytest.param("empty", None, "no SQLite file", id="a-folder-without-a-database"),
        pytest.param(".", "nowhere/unify.toml", "no folder", id="a-place-for-the-file-that-is-not-there"),
    ],
)
def test_wrong_use_ends_with_2_and_a_way_out(root, folder, config, said):
    (root / "empty").mkdir()
    with pytest.raises(UnifyError, match=said) as refused:
        look(root / folder, root / config if config else None)
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_a_configuration_of_another_folder_is_not_added_to(root, tmp_path):
    look(root)
    other = plant_databases(tmp_path / "other", {"a.db": NOTES, "b.db": CHECKPOINTS})
    before = (root / "unify.toml").read_bytes()
    with pytest.raises(UsageError, match="not about"):
        look(other, root / "unify.toml")
    assert (root / "unify.toml").read_bytes() == before


def test_a_folder_that_may_not_be_written_to_is_told_as_such(root):
    root.chmod(0o555)
    try:
        done = unify_without_privileges("init", cwd=root)
    finally:
        root.chmod(0o755)
    assert done.exit_code == 2
    assert "permission denied" in done.answer["message"]


class Terminal:
    """`unify-db init` on a terminal of 100 columns, and what it shows there."""

    def __init__(self, root: Path, *arguments: str) -> None:
        env = {k: v for k, v in os.environ.items() if k != "CI"}
        env |= {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", "TERM": "xterm"}
        self.shown = ""
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "unified_db._launcher", "init", *arguments]
        self._process = subprocess.Popen(
            command, cwd=root, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def answer(self, question: str, text: str) -> None:
        """Wait until *question* is shown once more, and type *text*."""
        self._wait_for(question)
        os.write(self._ours, text.encode() + b"\n")

    def interrupt(self, question: str) -> None:
        """Wait until *question* is shown, and press Ctrl-C; again where it came just before the reading."""
        self._wait_for(question)
        for _ in range(4):
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=5)

    def end(self) -> int:
        self._wait_for(None)
        return self._process.wait(timeout=30)

    def _wait_for(self, text: str | None) -> None:
        begun, deadline = len(self.shown), time.monotonic() + 30
        while text is None or text not in " ".join(self.shown[begun:].split()):
            assert time.monotonic() < deadline, self.shown
            ready, _, _ = select.select([self._ours], [], [], 1)
            try:
                content = os.read(self._ours, 65536) if ready else b""
            except OSError:  # the other side is closed
                return
            self.shown += content.decode(errors="replace")


def test_on_a_terminal_it_asks_and_the_answers_stand_in_the_file(root):
    terminal = Terminal(root)
    terminal.answer("? Which command stops the server?", "sh stop.sh")
    terminal.answer("[y/N]:", "y")
    assert terminal.end() == 0
    config = load_config(root)
    assert config.app.stop == "sh stop.sh"
    assert config.staging.reviewed


def test_with_yes_it_asks_nothing_on_a_terminal_either(root):
    terminal = Terminal(root, "--yes")
    assert terminal.end() == 0
    assert "[y/N]" not in terminal.shown
    assert not load_config(root).staging.reviewed


def test_ended_at_a_question_it_has_written_nothing(root):
    terminal = Terminal(root)
    terminal.interrupt("? Which command stops the server?")
    assert terminal.end() == 130
    assert not (root / "unify.toml").exists()


def test_no_value_of_a_setting_is_shown(root):
    (root / ".env").write_text("OPENAI_API_KEY=planted-secret-value\n")
    done = init(root)
    assert ".env: OPENAI_API_KEY" in done.answer["reaching"]
    assert (
        "planted-secret-value" not in json.dumps(done.answer) + done.told + (root / "unify.toml").read_text()
    )
