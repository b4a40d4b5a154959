"""Kill -9 in the middle of a chat turn leaves its messages and its checkpoints, or neither."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from unified_db.migration.processes import free_port

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

# The server as it is, but for a model that says when it is called and then takes its time.
WITH_A_SLOW_MODEL = """
import sys, time
from pathlib import Path

sys.path.insert(0, "")
import server
from chat.model import OfflineChatModel

def answer_slowly(*_args):
    Path("called").touch()
    time.sleep(120)

OfflineChatModel._answer = answer_slowly
server.main()
"""


def kill(tmp_path: Path, example: str, scenario: str, *, inside: bool = False) -> list[dict[str, Any]]:
    """Turns of a copy of *example*, each killed at another step; or at another page inside COMMIT."""
    backend = copy_backend(example, tmp_path)
    run = subprocess.run(
        [sys.executable, HERE / "killed_turns.py", backend, scenario, *(["inside"] if inside else [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return list(json.loads(run.stdout))


def copy_backend(example: str, into: Path) -> Path:
    ignored = shutil.ignore_patterns("*.db*", "*.sqlite*", "*.pid", "__pycache__", ".pytest_cache")
    return shutil.copytree(EXAMPLES / example / "backend", into / "backend", ignore=ignored)


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


def test_a_server_killed_while_its_model_is_called_leaves_neither_and_serves_again(tmp_path: Path) -> None:
    backend = copy_backend("chat_backend_unified", tmp_path)
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=backend, check=True)
    message = {"thread_id": "t", "message": "hello"}
    with serving(backend, ["-c", WITH_A_SLOW_MODEL]) as (server, url), ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.post, f"{url}/api/chat", json=message, timeout=60)
        until((backend / "called").exists)
        # Whoever else writes does not wait for the model.
        provider = {"name": "other", "api_key": "sk-demo-SECRET-other"}
        assert (
            httpx.post(f"{url}/api/providers", json=provider, timeout=60).status_code == httpx.codes.CREATED
        )
        server.kill()
        assert isinstance(answer.exception(), httpx.HTTPError)
    assert state_of(tmp_path, ONE_FILE, "t") == (0, 0, 0, 0)
    with serving(backend, ["server.py"]) as (_, url):
        assert httpx.get(f"{url}/api/providers", timeout=60).json()[0]["name"] == "other"
        assert httpx.post(f"{url}/api/chat", json=message, timeout=60).status_code == httpx.codes.OK
    assert state_of(tmp_path, ONE_FILE, "t")[:3] == (1, 2, 4)
    require_sound(tmp_path)


@contextmanager
def serving(backend: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The example's server, ended with the block if it has not been before."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (backend / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)], cwd=backend, stdout=log, stderr=log
        )
    try:
        until(lambda: server.poll() is not None or answers(url))
        assert server.poll() is None, (backend / "server.log").read_text()
        yield server, url
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/ping").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def until(true: Callable[[], bool]) -> None:
    """Wait until *true*; a minute is a hang."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
