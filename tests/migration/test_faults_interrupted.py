"""Ctrl-C and SIGTERM in every phase: the run stops, or what must not be left comes to its end first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.migration.test_cutover import start_server
from tests.prefect_side.tiny_application import TinyApplication

DRIVER = Path(__file__).with_name("interrupted_driver.py")
STOPPED = ["plan", "backup", "merge", "validate", "stage", "suites", "ask", "archive"]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[TinyApplication]:
    made = TinyApplication.create(tmp_path)
    made.configure(approval={"mode": "ask"})
    start_server(made)
    yield made
    with suppress(Exception):
        made.stop()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_in_any_phase_stops_the_run_or_waits_for_the_end_of_what_was_begun(
    app: TinyApplication, number: signal.Signals, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER), number.name, str(app.toml)],
        cwd=app.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended: dict[str, dict[str, Any]] = {e["phase"]: e for e in map(json.loads, done.stdout.splitlines())}
    stopped = [*STOPPED, *(["benchmark"] if number == signal.SIGTERM else [])]
    assert {phase: ended[phase]["code"] for phase in stopped} == dict.fromkeys(stopped, code)
    for phase in stopped:
        assert "resume" in ended[phase]["hint"], phase
        assert ended[phase]["exit_code"] == code
    assert {phase: e["left"] for phase, e in ended.items() if e["left"]} == {}
    assert ended["ask"]["state"] == "waiting"
    assert ended["archive"]["state"] == "switched"
    # To leave one of these half way would leave the application stopped.
    brought_to_their_end = {
        phase: (ended[phase]["code"], ended[phase]["state"]) for phase in ("rollback", "cutover")
    }
    assert brought_to_their_end == {"rollback": (0, "rolled_back"), "cutover": (0, "archived")}
    assert ended["archived"]["state"] == "archived"
