"""The cut-over as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Approval, CutoverRecord
from unified_db.migration.runs import RunFolder


@task(name="cutover", task_run_name="cutover", **policy.SWITCHES)
def cutover(config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
    """Stop the application, switch it to the unified file, start it; or leave all as it was."""
    with artifacts.shown("cutover", run):
        return phases.cutover(config, run, approval)
