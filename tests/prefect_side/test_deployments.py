"""`prefect.yaml` on a real server with a real worker: what is deployed runs, and is scheduled."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel

from tests.prefect_side import api
from tests.prefect_side.serving import REPOSITORY, Checkout, serving
from tests.prefect_side.tiny_application import SECRET, TinyApplication
from unified_db.migration import process_table
from unified_db.migration.journal import read_state
from unified_db.migration.runs import list_runs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    with serving(tmp_path_factory.mktemp("checkout")) as served:
        yield served


def test_a_deployed_dry_run_completes_and_shows_what_it_found(checkout: Checkout) -> None:
    watched = checkout.prefect("deployment", "run", "unify-db/dry-run", "--watch")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    run = checkout.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": ["dry-run chat_backend"]}}})[0]
    assert run["state_type"] == "COMPLETED"
    tasks = api.task_runs(checkout.url, run["id"])
    assert [t["name"] for t in tasks] == [
        *("plan", "backup", "merge", "validate"),
        *("stage", "suites", "benchmark"),
    ]
    phases = [t["name"] for t in tasks]
    assert api.graph(checkout.url, run["id"]) == api.chain(phases)
    assert {"unify-db", "dry-run", "chat_backend"} <= set(run["tags"])
    found = checkout.artifacts_of(run["id"])
    # As the older pages list them: the run's own above those of its tasks, one for each, and nothing else.
    assert [a["key"] for a in found] == ["unify-summary", *(f"unify-{p}" for p in phases)]
    numbers = [a["description"].partition(".")[0] for a in found[1:]]
    assert numbers == [f"Phase {n}" for n, _ in enumerate(phases, 1)]
    # The newer ones list by id.
    assert max(found, key=lambda a: str(a["id"]))["key"] == "unify-summary"
    summary = found[0]
    assert summary["task_run_id"] is None
    assert summary["description"].startswith("Read this first. All three gates are open")
    assert "![Response times" in summary["data"]
    order = [
        "# All three gates are open",
        "## Gates",
        "## Response times",
        "**Next**",
        "## What the plan asks",
    ]
    assert sorted(order, key=summary["data"].index) == order
    lines = checkout.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
    assert any("dry run: all gates are open" in line["message"] for line in lines)
    assert SECRET not in json.dumps([run, tasks, found, lines])


def test_a_closed_gate_is_a_red_task_that_says_why(checkout: Checkout, tmp_path: Path) -> None:
    broken = TinyApplication.create(tmp_path)
    (broken.root / "broken").touch()
    deployment = checkout.ask("deployments/name/unify-db/dry-run")
    parameters = {"config": str(broken.toml), "dry_run": True}
    created = checkout.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    run = checkout.wait_for_end(created["id"])
    assert run["state_type"] == "FAILED"
    assert "suites: closed" in run["state"]["message"]
    tasks = {t["name"]: t for t in api.task_runs(checkout.url, run["id"])}
    assert tasks["suites"]["state_type"] == "FAILED"
    assert tasks["suites"]["run_count"] == 1
    assert "benchmark" not in tasks
    assert "suites: closed" in tasks["suites"]["state"]["message"]
    summary, *_, suites = checkout.artifacts_of(created["id"])
    assert (summary["key"], suites["key"]) == ("unify-summary", "unify-suites")
    assert summary["data"].startswith("# The suites gate is closed: ")
    assert suites["data"].startswith("# Suites: closed")


def test_a_phase_that_stops_is_red_and_its_page_says_why_and_what_to_do(
    checkout: Checkout, tmp_path: Path
) -> None:
    broken = TinyApplication.create(tmp_path)
    broken.notes.write_bytes(b"no database at all")
    run = checkout.wait_for_end(checkout.start("unify-db/dry-run", config=str(broken.toml), dry_run=True))
    assert run["state_type"] == "FAILED"
    assert "data/notes.db" in run["state"]["message"]
    page = {a["key"]: a["data"] for a in checkout.artifacts_of(run["id"])}["unify-plan"]
    assert page.startswith("# plan stopped: ")
    assert "notes.db" in page.splitlines()[0]
    assert "**Next:**" in page


def test_a_run_that_waits_for_a_person_takes_no_slot_and_switches_when_it_is_approved(
    checkout: Checkout, tmp_path: Path
) -> None:
    asking = TinyApplication.create(tmp_path)
    asking.configure(approval={"mode": "ask", "timeout": "10m"})
    created = {
        name: checkout.ask(
            f"deployments/{checkout.ask(f'deployments/name/unify-db/{name}')['id']}/create_flow_run",
            {"parameters": parameters},
        )["id"]
        for name, parameters in (
            ("unify-db", {"config": str(asking.toml), "dry_run": False}),
            ("dry-run", {}),
        )
    }
    other = checkout.wait_for_end(created["dry-run"])
    assert other["state_type"] == "COMPLETED"
    waiting = checkout.ask(f"flow_runs/{created['unify-db']}")
    assert waiting["state_type"] == "PAUSED", "it waits while the other one goes on and ends"
    (run,) = list_runs(asking.root / ".unify-db")
    answer = {"decision": "approve", "decided_by": "Ada", "evidence": run.evidence_digest()[:8]}
    resumed = checkout.ask(f"flow_runs/{waiting['id']}/resume", {"run_input": answer})
    assert resumed["status"] == "ACCEPT"
    try:
        assert checkout.wait_for_end(waiting["id"])["state_type"] == "COMPLETED"
        assert asking.unified.exists()
        assert read_state(run).state == "archived"
    finally:
        asking.stop()


def test_a_fleet_runs_each_application_once_and_tells_in_one_table_what_became_of_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    good, broken = (TinyApplication.create(tmp_path, name=name) for name in ("good", "broken"))
    broken.notes.write_bytes(b"no database at all")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "unify.toml").write_text("[apps]\n")
    fleet = checkout.start("unify-db-fleet/unify-db-fleet", configs=str(tmp_path / "*" / "unify.toml"))
    ended = checkout.wait_for_end(fleet)
    assert ended["state_type"] == "FAILED"
    assert "1 of 3 applications ended well" in ended["state"]["message"]
    assert ended["work_pool_name"] == "unify-db-fleet", "it takes no place of those that it waits for"

    (table,) = checkout.artifacts_of(fleet)
    assert (table["key"], table["type"]) == ("unify-fleet", "table")
    rows = {row["application"]: row for row in json.loads(table["data"])}
    assert {name: row["state"] for name, row in rows.items()} == {
        "good": "rehearsed, all gates open",
        "broken": "stopped",
        "wrong": "invalid",
    }
    (run,) = list_runs(good.root / ".unify-db")
    assert rows["good"]["report"] == str(run.report)
    assert rows["good"]["gates"] == "validation open, suites open, benchmark open"
    assert "notes.db" in rows["broken"]["why"]
    assert "unknown key" in rows["wrong"]["why"]

    children = checkout.children_of(fleet)
    assert sorted(c["name"] for c in children) == ["dry-run broken", "dry-run good"]
    assert {"fleet", "dry-run", "good"} <= set(next(c for c in children if "good" in c["name"])["tags"])

    retried = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    checkout.ask(f"flow_runs/{fleet}/set_state", retried)
    again = checkout.wait_for_end(fleet)
    assert again["state_type"] == "FAILED"
    assert again["run_count"] == 2
    assert {c["id"] for c in checkout.children_of(fleet)} == {c["id"] for c in children}
    assert [r.name for r in list_runs(good.root / ".unify-db")] == [run.name]


def test_the_pool_runs_one_at_a_time(checkout: Checkout) -> None:
    assert checkout.ask("work_pools/unify-db")["concurrency_limit"] == 1


def test_the_nightly_run_is_scheduled(checkout: Checkout) -> None:
    body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    deadline = time.monotonic() + 60
    while not (runs := checkout.ask("flow_runs/filter", body)) and time.monotonic() < deadline:
        time.sleep(1)
    assert runs
    assert {r["auto_scheduled"] for r in runs} == {True}
    assert {r["parameters"]["dry_run"] for r in runs} == {True}


def test_the_form_explains_its_fields(checkout: Checkout) -> None:
    deployment = checkout.ask("deployments/name/unify-db/unify-db")
    schema = deployment["parameter_openapi_schema"]
    assert deployment["parameters"] == {"dry_run": False}
    assert schema["required"] == ["config"]
    assert "unify.toml" in schema["properties"]["config"]["description"]
    assert "nothing of the application changes" in schema["properties"]["dry_run"]["description"]


def test_killed_it_takes_server_and_workers_along(checkout: Checkout) -> None:
    """The last test of this checkout, which is not served after it."""
    started = [process_table.describe(pid) for pid in checkout.server.pids()[1:]]
    assert len(started) >= 3, "a server and two workers"
    os.kill(checkout.server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(process_table.is_there, started)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [s for s in started if process_table.is_there(s)] == []


def test_prefect_yaml_has_no_key_that_prefect_would_silently_drop() -> None:
    content = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    top = {field.alias or name for name, field in PrefectYamlModel.model_fields.items()}
    assert set(content) - {"definitions"} <= top
    for deployment in content["deployments"]:
        assert set(deployment) <= set(DeploymentConfig.model_fields)
        assert "concurrency_limit" not in deployment
        assert deployment["work_pool"]["job_variables"]["stream_output"] is False
    PrefectYamlModel.model_validate(content)
