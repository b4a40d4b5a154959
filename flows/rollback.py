"""The flow "unify-db-rollback": a cut-over taken back, from Prefect's pages."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows import order
from flows.unify import TASKS
from tasks import labels
from unified_db.migration.config import load_config
from unified_db.migration.records import RollbackRecord
from unified_db.migration.runs import config_of, open_run


def name_run() -> str:
    """How a run of the flow is called in the UI."""
    parameters = flow_run.parameters
    application = labels.application_name(Path(parameters.get("config", "")))
    return f"rollback {application} {parameters.get('run', '')}"


@flow(name="unify-db-rollback", flow_run_name=name_run, persist_result=False)
def roll_back(config: Path, run: str) -> RollbackRecord:
    """Take the cut-over of a run back; rows written since are carried into the old files.

    The command `unify-db rollback RUN` does the same without Prefect.

    Args:
        config: Path of the application's `unify.toml`, on the machine where the worker runs.
        run: Name of the run to take back, as its folder and `unify-db status` give it
            (for example 20250131T120000Z-1a2b). The beginning is enough where only one run has it.

    Returns:
        What was restored and carried back.

    Raises:
        UnifyError: The run is not known, or it found something that it must not overwrite.
    """
    labels.tag_flow_run(labels.application_name(config), "rollback")
    current = load_config(config)
    folder = open_run(current.state_folder, run)
    return order.roll_back(TASKS, config_of(folder, current), folder)
