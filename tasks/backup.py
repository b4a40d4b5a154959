"""The backup as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.records import Backups, MigrationPlan
from unified_db.migration.runs import RunFolder


@task(name="backup", task_run_name="backup", **policy.READS_FILES)
def backup(run: RunFolder, plan: MigrationPlan) -> Backups:
    """Copy all sources as they are at one instant, while the application runs."""
    with artifacts.shown("backup", run), artifacts.progressing("backup", run):
        return phases.backup(run, plan)
