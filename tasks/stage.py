"""The staging for suites and benchmark as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Backups, UnifiedFile
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages


@task(name="stage", task_run_name="stage", **policy.READS_FILES)
def stage(config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Stages:
    """Copy the application's tree twice: with its old files, and switched to the unified file."""
    with artifacts.shown("stage", run):
        return phases.stage(config, run, backups, unified)
