"""The application's own tests as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import gates, phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Verdict
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages


@task(name="suites", task_run_name="suites", **policy.RUNS_THE_APPLICATION)
def suites(config: MigrationConfig, run: RunFolder, stages: Stages) -> Verdict:
    """Run the application's tests on both sides; a closed gate if one that passed does not any more."""
    with artifacts.shown("suites", run), artifacts.progressing("suites", run):
        verdict = phases.suites(config, run, stages)
    return gates.require_passed(verdict)
