"""A checkout of its own, all of it deployed to a real server with pools and workers, as `make serve` does."""

from __future__ import annotations

import contextlib
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

from tests.prefect_side import api
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration.processes import Server, free_port, log_tail

REPOSITORY = Path(__file__).parent.parent.parent
DEPLOYED_S = 400
RUN_S = 400


@dataclass
class Checkout:
    """A checkout whose example is a tiny application, and a server that all of it is deployed to."""

    folder: Path
    example: TinyApplication
    url: str
    env: dict[str, str]
    server: Server

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

    def start(self, deployment: str, **parameters: object) -> str:
        """The id of a new run of *deployment*."""
        found = self.ask(f"deployments/name/{deployment}")
        created = self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(created["id"])

    def artifacts_of(self, flow_run: str) -> list[dict[str, Any]]:
        """The artifacts of *flow_run*, its page first, then those of its tasks as they were made."""
        kept = {"type": {"not_any_": ["result"]}}
        found = self.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [flow_run]}}, "artifacts": kept})
        return sorted(found, key=lambda a: (a["task_run_id"] is not None, a["created"]))

    def children_of(self, flow_run: str) -> list[dict[str, Any]]:
        """The flow runs that *flow_run* started."""
        filters = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}}
        return list(self.ask("flow_runs/filter", filters))

    def wait_for_end(self, flow_run: str, *, timeout_s: float = RUN_S) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            run = self.ask(f"flow_runs/{flow_run}")
            if run["state_type"] in api.ENDED:
                return dict(run)
            time.sleep(0.5)
        pytest.fail(f"flow run {flow_run} did not end in {timeout_s:.0f} s")


@contextlib.contextmanager
def serving(folder: Path, *, at_once: int = 1) -> Iterator[Checkout]:
    """A checkout in *folder*, served for the length of the block."""
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
    command = [sys.executable, "-m", "flows.serve", "--port", str(port), "--at-once", str(at_once)]
    with Server.start(command, cwd=folder, env=env, log_file=folder / "serve.log") as server:
        deadline = time.monotonic() + DEPLOYED_S
        while "started!" not in log_tail(server.log_file):
            assert server.running, log_tail(server.log_file)
            assert time.monotonic() < deadline, log_tail(server.log_file)
            time.sleep(0.5)
        yield Checkout(folder, example, url, env, server)
