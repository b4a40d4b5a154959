"""Kill -9 in the middle of a chat turn leaves its messages and its checkpoints, or neither."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
ONE_FILE = ("data/unified_app.sqlite",) * 2
TWO_FILES = ("langgraph_agent.db", "data/chatbot_memory.sqlite")
# Steps that must be among those that were killed, by the names that `killed_turns.py` gives them.
OF_A_COMMIT = {"session before_flush", "sql COMMIT", "session after_commit", "answered"}
OF_A_GRAPH = OF_A_COMMIT | {
    "before aput",
    "after aput",
    "before aput_writes",
    "before _answer",
    "after _answer",
}
OF_A_MESSAGE = OF_A_GRAPH | {"before remember", "after remember", "sql INSERT INTO messages"}


def kill(tmp_path: Path, example: str, scenario: str, *, inside: bool = False) -> list[dict[str, Any]]:
    """Turns of a copy of *example*, each killed at another step; or at another page inside COMMIT."""
    ignored = shutil.ignore_patterns("*.db*", "*.sqlite*", "*.pid", "__pycache__", ".pytest_cache")
    backend = shutil.copytree(EXAMPLES / example / "backend", tmp_path / "backend", ignore=ignored)
    run = subprocess.run(
        [sys.executable, HERE / "killed_turns.py", backend, scenario, *(["inside"] if inside else [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return list(json.loads(run.stdout))


def state_of(tmp_path: Path, files: tuple[str, str], thread_id: str) -> tuple[int, ...]:
    """Conversations, messages, checkpoints and pending writes of a thread."""
    rows, graph = (tmp_path / "backend" / name for name in files)
    messages = "messages JOIN conversations c ON c.id = conversation_id"
    tables = ((rows, "conversations"), (rows, messages), (graph, "checkpoints"), (graph, "writes"))
    return tuple(count(path, table, thread_id) for path, table in tables)


def count(path: Path, table: str, thread_id: str) -> int:
    with closing(sqlite3.connect(path)) as conn:
        sql = f"SELECT count(*) FROM {table} WHERE thread_id = ?"
        return int(conn.execute(sql, (thread_id,)).fetchone()[0])


@pytest.mark.parametrize(
    ("scenario", "steps"),
    [
        pytest.param("begins", OF_A_MESSAGE, id="first-message-with-a-tool"),
        pytest.param("goes-on", OF_A_MESSAGE, id="later-message"),
        pytest.param("resumes", OF_A_GRAPH, id="resumed-after-a-decision"),
        pytest.param("is-deleted", OF_A_COMMIT | {"before adelete_thread"}, id="conversation-deleted"),
    ],
)
def test_a_turn_killed_at_any_step_leaves_both_or_neither(
    tmp_path: Path, scenario: str, steps: set[str]
) -> None:
    kills = kill(tmp_path, "chat_backend_unified", scenario)
    assert [k["point"] for k in kills if not k["killed"]] == []
    assert {k["point"].rsplit(" (", 1)[0] for k in kills} >= steps
    before = state_of(tmp_path, ONE_FILE, f"{scenario}-untouched")
    after = state_of(tmp_path, ONE_FILE, f"{scenario}-whole")
    assert before != after
    states = {k["point"]: state_of(tmp_path, ONE_FILE, k["thread_id"]) for k in kills}
    assert {point: state for point, state in states.items() if state not in (before, after)} == {}
    assert states["sql COMMIT (1)"] == before
    assert states["session after_commit (1)"] == after
    require_sound(tmp_path)


def test_a_turn_killed_at_any_page_of_its_commit_leaves_neither(tmp_path: Path) -> None:
    kills = kill(tmp_path, "chat_backend_unified", "begins", inside=True)
    # The last limit is larger than the commit, which is therefore made.
    assert [k["killed"] for k in kills] == [True] * (len(kills) - 1) + [False]
    assert len(kills) > 5
    states = [state_of(tmp_path, ONE_FILE, k["thread_id"]) for k in kills]
    assert set(states[:-1]) == {(0, 0, 0, 0)}
    assert min(states[-1]) > 0
    require_sound(tmp_path)


def require_sound(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "backend" / ONE_FILE[0])) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


def test_two_files_are_left_with_one_and_without_the_other(tmp_path: Path) -> None:
    """What the one transaction is for, and proof that the kills hit where it matters."""
    kills = kill(tmp_path, "chat_backend", "begins")
    assert all(k["killed"] for k in kills)
    before = state_of(tmp_path, TWO_FILES, "begins-untouched")
    after = state_of(tmp_path, TWO_FILES, "begins-whole")
    states = [state_of(tmp_path, TWO_FILES, k["thread_id"]) for k in kills]
    assert {before, after} <= set(states)
    message_without_graph = (1, 1, 0, 0)
    graph_without_reply = (1, 1, *after[2:])
    assert {message_without_graph, graph_without_reply} <= set(states)
    assert len([s for s in states if s not in (before, after)]) > len(states) / 2
