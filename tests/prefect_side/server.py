"""A Prefect server of its own, without pages and pools: for runs of the command that it shows."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.through_prefect import SETTINGS, wait_until_healthy
from tests.prefect_side import api
from unified_db.migration.processes import Server, free_port

REPOSITORY = Path(__file__).parents[2]
# With the API gone the flow's last steps wait for it twice.
WAIT_S = 240


class Prefect:
    """A server of its own, which may be stopped and started again on the same database."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._stack = folder, free_port(), ExitStack()
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            **SETTINGS,
            # A server on a loaded machine is no server that is gone.
            "PREFECT_API_REQUEST_TIMEOUT": "60",
            "PREFECT_CLIENT_MAX_RETRIES": "5",
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.url,
            "PYTHONPATH": str(REPOSITORY),
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        log = self._folder / "server.log"
        self._stack.enter_context(Server.start(command, cwd=self._folder, env=self.env, log_file=log))
        wait_until_healthy(self.url)

    def stop(self) -> None:
        self._stack.close()

    def ask(self, path: str, body: object | None = None) -> Any:
        return api.ask(self.url, path, body)

    def state_of(self, flow_run: str) -> dict[str, Any]:
        return dict(self.ask(f"flow_runs/{flow_run}")["state"])

    def wait_for(self, flow_run: str, state: str, *, but: str = "") -> dict[str, Any]:
        """The state of *flow_run* once it is a *state*, and another one than *but*."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            found = self.state_of(flow_run)
            if found["type"] == state and found["id"] != but:
                return found
            time.sleep(0.2)
        pytest.fail(f"flow run {flow_run} did not become {state}, but is {found['type']}")

    def resume(self, flow_run: str, **answer: str) -> dict[str, Any]:
        """What the button in Prefect's pages does."""
        return dict(self.ask(f"flow_runs/{flow_run}/resume", {"run_input": answer} if answer else {}))
