"""The rollback as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import RollbackRecord
from unified_db.migration.runs import RunFolder


@task(name="rollback", task_run_name="rollback", **policy.TAKES_BACK)
def rollback(config: MigrationConfig, run: RunFolder) -> RollbackRecord:
    """Take the cut-over back, with the rows that were written since."""
    with artifacts.shown("rollback", run):
        return phases.rollback(config, run)
