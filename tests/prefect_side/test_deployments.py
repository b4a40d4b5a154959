"""`prefect.yaml` on a real server with a real worker: what is deployed runs, and is scheduled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel

from tests.prefect_side import api
from tests.prefect_side.tiny_application import SECRET, TinyApplication
from unified_db.migration.journal import read_state
from unified_db.migration.processes import Server, free_port, log_tail
from unified_db.migration.runs import list_runs

REPOSITORY = Path(__file__).parent.parent.parent
DEPLOYED_S = 120
RUN_S = 180

pytestmark = pytest.mark.xdist_group("prefect")


@dataclass
class Checkout:
    """A checkout whose example is a tiny application, and a server that all of it is deployed to."""

    folder: Path
    example: TinyApplication
    url: str
    env: dict[str, str]

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )

    def ask(self, path: str, body: object | None = None) -> Any:
        return api.ask(self.url, path, body)

    def wait_for_end(self, flow_run: str) -> dict[str, Any]:
        deadline = time.monotonic() + RUN_S
        while time.monotonic() < deadline:
            run = self.ask(f"flow_runs/{flow_run}")
            if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
                return dict(run)
            time.sleep(0.5)
        pytest.fail(f"flow run {flow_run} did not end in {RUN_S} s")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("flows", "tasks", "unified_db"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "prefect.yaml", folder)
    (folder / "examples").mkdir()
    example = TinyApplication.create(folder / "examples", name="chat_backend")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PYTHONPATH": str(folder),
    }
    command = [sys.executable, "-m", "flows.serve", "--port", str(port)]
    with Server.start(command, cwd=folder, env=env, log_file=folder / "serve.log") as serving:
        deadline = time.monotonic() + DEPLOYED_S
        while "started!" not in log_tail(serving.log_file):
            assert serving.running, log_tail(serving.log_file)
            assert time.monotonic() < deadline, log_tail(serving.log_file)
            time.sleep(0.5)
        yield Checkout(folder, example, url, env)


def test_a_deployed_dry_run_completes_and_shows_what_it_found(checkout: Checkout) -> None:
    watched = checkout.prefect("deployment", "run", "unify-db/dry-run", "--watch")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    run = checkout.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": ["dry-run chat_backend"]}}})[0]
    assert run["state_type"] == "COMPLETED"
    filters = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    tasks = checkout.ask("task_runs/filter", {**filters, "sort": "EXPECTED_START_TIME_ASC"})
    assert [t["name"] for t in tasks] == [
        *("plan", "backup", "merge", "validate"),
        *("stage", "suites", "benchmark"),
    ]
    found = checkout.ask("artifacts/filter", filters)
    assert {"unify-summary", "unify-plan", "unify-validate", "unify-benchmark-table"} <= {
        a["key"] for a in found
    }
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
    filters = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    tasks = {t["name"]: t for t in checkout.ask("task_runs/filter", filters)}
    assert tasks["suites"]["state_type"] == "FAILED"
    assert tasks["suites"]["run_count"] == 1
    assert "benchmark" not in tasks
    keys = {a["key"] for a in checkout.ask("artifacts/filter", filters)}
    assert {"unify-suites", "unify-summary"} <= keys


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


def test_prefect_yaml_has_no_key_that_prefect_would_silently_drop() -> None:
    content = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    top = {field.alias or name for name, field in PrefectYamlModel.model_fields.items()}
    assert set(content) - {"definitions"} <= top
    for deployment in content["deployments"]:
        assert set(deployment) <= set(DeploymentConfig.model_fields)
        assert "concurrency_limit" not in deployment
        assert deployment["work_pool"]["job_variables"]["stream_output"] is False
    PrefectYamlModel.model_validate(content)
