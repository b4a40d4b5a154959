"""What goes wrong as a user of the command meets it: exit code, message, and what to do next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, unify_without_privileges
from tests.migration.faulty_application import plant
from tests.migration.test_cutover import start_server
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration.journal import read_state
from unified_db.migration.runs import list_runs

RIGHTS = "-dac_override,-dac_read_search,-fowner"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[TinyApplication]:
    made = TinyApplication.create(tmp_path)
    yield made
    with suppress(Exception):
        made.stop()


def start(app: TinyApplication, *arguments: str, through: Sequence[str] = ()) -> subprocess.Popen[str]:
    """The command with a played rehearsal."""
    return subprocess.Popen(
        [*through, sys.executable, "-m", "tests.migration.asked", *arguments, "--json"],
        cwd=app.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    answer: dict[str, Any] = json.loads(out)
    assert answer["exit_code"] == process.returncode
    return answer


def without_privileges() -> list[str]:
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root passes over permissions, and setpriv, which takes that away, is not here")
    return ["setpriv", "--bounding-set", RIGHTS, "--inh-caps", RIGHTS]


def wait_until_asked(app: TinyApplication) -> None:
    deadline = time.monotonic() + 60
    while not [r for r in list_runs(app.root / ".unify-db") if read_state(r).state == "waiting"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_application_that_fails_three_seconds_after_its_start_is_put_back(app: TinyApplication) -> None:
    app.configure(cutover={"soak_s": 5})
    start_server(app)
    plant(app, "fails")
    settings = (app.root / ".env").read_bytes()
    answer = end(start(app, "run", "--no-prefect"))
    assert answer["exit_code"] == 5
    assert "the cut-over was taken back" in answer["message"]
    assert "status 500" in answer["message"]
    assert "the application uses its old files" in answer["hint"]
    assert "resume" in answer["next"]
    assert "rollback" not in answer["next"], "there is nothing left to take back"
    assert (app.root / ".env").read_bytes() == settings
    assert not app.unified.exists()


@pytest.mark.parametrize("what", ["the-applications-folder", "the-databases-folder"])
def test_a_folder_that_may_not_be_written_to_is_named_before_anything_is_done(
    app: TinyApplication, what: str
) -> None:
    folder = app.root if what == "the-applications-folder" else app.root / "data"
    folder.chmod(0o555)
    try:
        done = unify_without_privileges("plan", cwd=app.root)
    finally:
        folder.chmod(0o755)
    assert done.exit_code == 4, done.told
    assert str(folder) in done.answer["message"]
    assert "a bug of unify-db" not in done.answer["message"]
    assert "Nothing was" in done.answer["hint"]


def test_a_permission_that_goes_while_a_person_decides_stops_the_switch_before_it_begins(
    app: TinyApplication,
) -> None:
    app.configure(approval={"mode": "ask"})
    start_server(app)
    going = start(app, "run", "--no-prefect", through=without_privileges())
    wait_until_asked(app)
    (run,) = list_runs(app.root / ".unify-db")
    (app.root / "data").chmod(0o555)
    try:
        assert end(start(app, "approve", run.name))["exit_code"] == 0
        answer = end(going)
    finally:
        (app.root / "data").chmod(0o755)
    assert answer["exit_code"] == 4
    assert "the cut-over cannot begin" in answer["message"]
    assert "permission denied" in answer["message"]
    assert "the application was not stopped" in answer["hint"]
    assert f"unify-db resume {run.name}" in answer["hint"]
    assert end(start(app, "resume", run.name))["state"] == "archived"
