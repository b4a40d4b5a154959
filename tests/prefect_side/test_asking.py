"""A person decides in Prefect: on a real server, which may restart, and with the command beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import look_at
from tests.prefect_side import api
from tests.prefect_side.server import WAIT_S, Prefect
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration import decisions
from unified_db.migration.journal import read_state
from unified_db.migration.records import Approval
from unified_db.migration.runs import list_runs


class Waiting:
    """A run of *app* with a played rehearsal that waits for a person and is shown in *prefect*."""

    def __init__(self, app: TinyApplication, prefect: Prefect, log: Path) -> None:
        self.app, self.prefect = app, prefect
        app.configure(approval={"mode": "ask", "timeout": "10m"})
        self.before = self.tree()
        known = {r["id"] for r in prefect.ask("flow_runs/filter", {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.migration.asked", "run", "--json"],
            cwd=app.root,
            env=prefect.env,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self.flow_run = self._find(known)
        self.pause = prefect.wait_for(self.flow_run, "PAUSED")
        (self.run,) = list_runs(app.root / ".unify-db")
        question = decisions.load_question(self.run)
        assert question is not None
        self.digest = question.evidence_sha256

    def _find(self, known: set[str]) -> str:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for run in self.prefect.ask("flow_runs/filter", {}):
                if run["id"] not in known:
                    return str(run["id"])
            time.sleep(0.2)
        pytest.fail("no flow run began")

    def tree(self) -> dict[str, tuple[object, ...]]:
        return {n: f for n, f in look_at(self.app.root).items() if not n.startswith(".unify-db")}

    def command(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.migration.asked", *arguments, "--json"],
            cwd=self.app.root,
            env=self.prefect.env,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        return dict(json.loads(done.stdout))

    def end(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=WAIT_S)
        return dict(json.loads(out))


@pytest.fixture
def waiting(tiny: TinyApplication, prefect: Prefect, tmp_path: Path) -> Iterator[Waiting]:
    run = Waiting(tiny, prefect, tmp_path / "run.log")
    yield run
    run.process.kill()
    run.process.wait()


def test_the_form_is_shown_has_no_default_and_its_page_shows_the_evidence(waiting: Waiting) -> None:
    keys = waiting.pause["state_details"]["run_input_keyset"]
    path = f"flow_runs/{waiting.flow_run}/input"
    schema = waiting.prefect.ask(f"{path}/{keys['schema']}")
    assert schema["required"] == ["decision", "decided_by", "evidence"]
    assert schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert "unify-approval" in waiting.prefect.ask(f"{path}/{keys['description']}")
    filters = {
        "flow_runs": {"id": {"any_": [waiting.flow_run]}},
        "artifacts": {"key": {"any_": ["unify-approval"]}},
    }
    (page,) = waiting.prefect.ask("artifacts/filter", filters)
    assert waiting.digest in page["data"]
    assert f"unify-db approve {waiting.run.name} --evidence {waiting.digest[:12]}" in page["data"]
    assert "benchmark" in page["data"]

    for answer in (
        {},
        {"decision": "approve"},
        {"decision": "perhaps", "decided_by": "A", "evidence": "a" * 8},
    ):
        assert waiting.prefect.resume(waiting.flow_run, **answer)["status"] == "REJECT"
    assert read_state(waiting.run).state == "waiting"
    assert waiting.tree() == waiting.before
    waiting.command("reject", waiting.run.name)
    waiting.end()


def test_an_approval_in_prefect_switches_after_a_refused_one_and_a_restart_of_the_server(
    waiting: Waiting,
) -> None:
    prefect, flow_run = waiting.prefect, waiting.flow_run
    wrong = {"decision": "approve", "decided_by": "Ada", "evidence": "deadbeefdeadbeef"}
    assert prefect.resume(flow_run, **wrong)["status"] == "ACCEPT"
    again = prefect.wait_for(flow_run, "PAUSED", but=waiting.pause["id"])
    keys = again["state_details"]["run_input_keyset"]
    about = prefect.ask(f"flow_runs/{flow_run}/input/{keys['description']}")
    assert "The last answer was not taken" in about
    assert waiting.digest[:8] not in about, "who decides gets it from the evidence"
    assert decisions.load_decision(waiting.run) is None

    prefect.stop()
    with pytest.raises(urllib.error.URLError):
        prefect.state_of(flow_run)
    time.sleep(5)
    assert waiting.process.poll() is None, "the run waits on"
    prefect.start()
    assert prefect.state_of(flow_run)["type"] == "PAUSED"
    assert waiting.tree() == waiting.before

    right = {**wrong, "evidence": waiting.digest[:8], "reason": "looked at it"}
    assert prefect.resume(flow_run, **right)["status"] == "ACCEPT"
    done = waiting.end()
    assert (done["exit_code"], done["state"]) == (0, "archived")
    approval = waiting.run.load("approval", Approval)
    assert approval is not None
    assert (approval.approved_by, approval.evidence_sha256) == ("Ada", waiting.digest)
    decision = decisions.load_decision(waiting.run)
    assert decision is not None
    assert (decision.through, decision.reason) == ("Prefect", "looked at it")
    assert prefect.state_of(flow_run)["type"] == "COMPLETED"


def test_a_rejection_in_prefect_is_a_red_task_and_leaves_every_byte(waiting: Waiting) -> None:
    answer = {"decision": "reject", "decided_by": "Ada", "evidence": waiting.digest, "reason": "not today"}
    assert waiting.prefect.resume(waiting.flow_run, **answer)["status"] == "ACCEPT"
    done = waiting.end()
    assert (done["exit_code"], done["state"]) == (3, "closed")
    assert waiting.tree() == waiting.before
    state = waiting.prefect.state_of(waiting.flow_run)
    assert state["type"] == "FAILED"
    assert "rejected by Ada" in state["message"]
    tasks = api.task_runs(waiting.prefect.url, waiting.flow_run)
    assert {t["name"]: t["state_type"] for t in tasks}["ask"] == "FAILED"


def test_the_command_decides_too_and_ends_the_pause(waiting: Waiting) -> None:
    said = waiting.command("approve", waiting.run.name, "--by", "Ada")
    assert said["exit_code"] == 0
    assert waiting.end()["state"] == "archived"
    assert waiting.prefect.state_of(waiting.flow_run)["type"] == "COMPLETED"
    late = waiting.prefect.resume(waiting.flow_run, decision="reject", decided_by="B", evidence="a" * 8)
    assert late["status"] == "ABORT"
    states = waiting.prefect.ask(f"flow_run_states/?flow_run_id={waiting.flow_run}")
    assert [s["type"] for s in states][-3:] == ["PAUSED", "RUNNING", "COMPLETED"]


def test_the_command_decides_and_the_run_switches_with_the_server_gone(waiting: Waiting) -> None:
    waiting.prefect.stop()
    try:
        assert waiting.command("approve", waiting.run.name)["exit_code"] == 0
        assert waiting.end()["state"] == "archived"
    finally:
        waiting.prefect.start()


def test_a_flow_run_that_is_resumed_without_the_form_is_paused_again(waiting: Waiting) -> None:
    body = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
    waiting.prefect.ask(f"flow_runs/{waiting.flow_run}/set_state", body)
    again = waiting.prefect.wait_for(waiting.flow_run, "PAUSED", but=waiting.pause["id"])
    assert again["state_details"]["run_input_keyset"] != waiting.pause["state_details"]["run_input_keyset"]
    assert decisions.load_decision(waiting.run) is None
    waiting.command("reject", waiting.run.name)
    waiting.end()


def test_a_cancelled_wait_is_a_rejection(waiting: Waiting) -> None:
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    waiting.prefect.ask(f"flow_runs/{waiting.flow_run}/set_state", body)
    done = waiting.end()
    assert done["state"] == "closed"
    assert waiting.tree() == waiting.before
    decision = decisions.load_decision(waiting.run)
    assert decision is not None
    assert (decision.choice, decision.reason) == ("reject", "the flow run was cancelled")


def test_a_killed_wait_is_decided_by_the_command_whatever_is_pressed_in_prefect(waiting: Waiting) -> None:
    waiting.process.kill()
    waiting.process.wait()
    answer = {"decision": "approve", "decided_by": "Ada", "evidence": waiting.digest}
    assert waiting.prefect.resume(waiting.flow_run, **answer)["status"] == "ACCEPT"
    assert decisions.load_decision(waiting.run) is None, "nobody is there to take it"
    assert waiting.tree() == waiting.before
    assert waiting.command("approve", waiting.run.name)["state"] == "interrupted"
    assert waiting.command("resume", waiting.run.name)["state"] == "archived"


def test_a_killed_wait_is_no_longer_paused_once_the_application_is_in_prefect_again(waiting: Waiting) -> None:
    waiting.process.kill()
    waiting.process.wait()
    assert waiting.prefect.state_of(waiting.flow_run)["type"] == "PAUSED"
    assert waiting.command("dry-run")["exit_code"] == 0
    state = waiting.prefect.state_of(waiting.flow_run)
    assert (state["type"], "has ended" in (state["message"] or "")) == ("CRASHED", True)
