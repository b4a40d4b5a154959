"""The benchmark as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import gates, phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Backups, UnifiedFile, Verdict
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages


@task(name="benchmark", task_run_name="benchmark", **policy.RUNS_THE_APPLICATION)
def benchmark(
    config: MigrationConfig, run: RunFolder, stages: Stages, *, backups: Backups, unified: UnifiedFile
) -> Verdict:
    """Measure the application on both sides; a closed gate if it got slower."""
    with artifacts.shown("benchmark", run), artifacts.progressing("benchmark", run):
        verdict = phases.benchmark(config, run, stages, backups=backups, unified=unified)
    return gates.require_passed(verdict)
