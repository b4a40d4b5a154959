"""The archive as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import ArchiveRecord
from unified_db.migration.runs import RunFolder


@task(name="archive", task_run_name="archive", **policy.READS_FILES)
def archive(config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
    """Compress the old files with a manifest and update what names their paths."""
    with artifacts.shown("archive", run):
        return phases.archive(config, run)
