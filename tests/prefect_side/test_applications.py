"""Two of the small applications as a person moves them: the command in their folder, each phase a task.

One with a server, whose own packages have the names of ours, and one that is a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from tests.migration.filler import Filler
from tests.migration.styles import Application, Move, rows, steps
from tests.migration.test_applications import BY_NAME
from tests.prefect_side import api
from tests.prefect_side.server import REPOSITORY, WAIT_S, Prefect
from unified_db.migration.config import load_config
from unified_db.migration.records import CutoverRecord
from unified_db.migration.runs import RunFolder

PHASES = [*("plan", "backup", "merge", "validate", "stage"), *("suites", "benchmark", "cutover", "archive")]


ENVIRONMENT = {
    # As in a shell: the application's folder comes first, with its own `tasks` and `flows`.
    "PYTHONPATH": os.pathsep.join([".", str(REPOSITORY)]),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ["own_tasks_package", "script"])
def test_an_application_goes_to_one_file_and_back_through_prefect(
    name: str, tmp_path: Path, prefect: Prefect
) -> None:
    with Filler() as filler:
        app = Application(BY_NAME[name], tmp_path, filler)
    tree = app.tree()
    move = move_there(app, prefect)
    try:
        assert "since" in move.write()
        move.stop()
        unified = rows(move.config.target_path)
        assert unify(app, prefect, "rollback", move.run.name)["state"] == "rolled_back"
        assert app.tree() == tree
        old = [move.config.resolve(source.path) for source in move.config.source]
        assert rows(*old) == unified
        assert steps(old[1]) > 0
    finally:
        move.end()


def move_there(app: Application, prefect: Prefect) -> Move:
    app.initiate()
    app.answer()
    document = tomlkit.parse(app.toml.read_text())
    # It judges functions and not speed, on a machine that does something else too.
    document.setdefault("benchmark", {}).update({"min_diff_ms": 60_000.0, "budget_s": 240})
    app.toml.write_text(tomlkit.dumps(document))
    config = load_config(app.toml)
    answer = unify(app, prefect, "run")
    assert answer["state"] == "archived", answer
    named = {"flow_runs": {"name": {"any_": [f"run {app.style.name}"]}}}
    (shown,) = prefect.ask("flow_runs/filter", named)
    assert shown["state_type"] == "COMPLETED"
    assert api.graph(prefect.url, shown["id"]) == api.chain(PHASES)
    run = RunFolder(config.state_folder / "runs" / answer["run"])
    return Move(app, config, run, run.load("cutover", CutoverRecord))


def unify(app: Application, prefect: Prefect, *arguments: str) -> dict[str, Any]:
    """What `unify-db` answers in the folder of *app*."""
    done = subprocess.run(
        [sys.executable, "-m", "unified_db._launcher", *arguments, "--json"],
        cwd=app.root,
        env={**prefect.env, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))
