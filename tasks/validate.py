"""The validation as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from unified_db.migration import gates, phases
from unified_db.migration.records import Backups, UnifiedFile, Verdict
from unified_db.migration.runs import RunFolder


@task(name="validate", task_run_name="validate", **policy.READS_FILES)
def validate(run: RunFolder, backups: Backups, unified: UnifiedFile) -> Verdict:
    """Compare the unified file with its backups; a closed gate if they differ."""
    with artifacts.shown("validate", run), artifacts.progressing("validate", run):
        verdict = phases.validate(run, backups, unified)
    return gates.require_passed(verdict)
