"""The merge as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.records import Backups, UnifiedFile
from unified_db.migration.runs import RunFolder


@task(name="merge", task_run_name="merge", **policy.READS_FILES)
def merge(run: RunFolder, backups: Backups) -> UnifiedFile:
    """Build the unified file from the backups."""
    with artifacts.shown("merge", run), artifacts.progressing("merge", run):
        return phases.merge(run, backups)
