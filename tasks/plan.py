"""The plan as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import MigrationPlan
from unified_db.migration.runs import RunFolder


@task(name="plan", task_run_name="plan", **policy.READS_FILES)
def plan(config: MigrationConfig, run: RunFolder) -> MigrationPlan:
    """Read the sources: what would move, what would collide, what would be edited."""
    with artifacts.shown("plan", run):
        return phases.plan(config, run)
