"""The flow "unify-db": the order of :mod:`flows.order` with each phase as a Prefect task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from prefect import Task, flow
from prefect.runtime import flow_run

from flows import order
from tasks import artifacts, labels, telling
from tasks.archive import archive
from tasks.ask import ask
from tasks.backup import backup
from tasks.benchmark import benchmark
from tasks.chain import Chain
from tasks.cutover import cutover
from tasks.merge import merge
from tasks.pausing import end_lost_pauses
from tasks.plan import plan
from tasks.rollback import rollback
from tasks.stage import stage
from tasks.suites import suites
from tasks.validate import validate
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.journal import process_lives
from unified_db.migration.report import write_report
from unified_db.migration.runs import RunFolder, flow_runs_of, list_runs, note_flow_run


def announce(config: MigrationConfig, run: RunFolder) -> None:
    """A page for the run that begins; flow runs whose process died while they waited are ended."""
    shown = flow_run.get_id()
    if shown is None:
        return
    # The one that goes on here with a run of before has not written to its journal yet.
    gone = [other for other in list_runs(config.state_folder) if not process_lives(other)]
    end_lost_pauses([known for other in gone for known in flow_runs_of(other) if known != shown])
    note_flow_run(run, shown)
    artifacts.publish_summary(run, at_work=True)


def summarise(run: RunFolder) -> None:
    """The run's report, and a page that shows it in Prefect."""
    write_report(run)
    artifacts.publish_summary(run)
    telling.settle()


TASKS = cast(
    "order.Phases",
    SimpleNamespace(
        announce=announce,
        plan=plan,
        backup=backup,
        merge=merge,
        validate=validate,
        stage=stage,
        suites=suites,
        benchmark=benchmark,
        ask=ask,
        cutover=cutover,
        archive=archive,
        rollback=rollback,
        summarise=summarise,
    ),
)


def chained() -> order.Phases:
    """:data:`TASKS` for one flow run, which Prefect shows one after the other."""
    chain = Chain()
    phases = {name: chain.link(by) if isinstance(by, Task) else by for name, by in vars(TASKS).items()}
    return cast("order.Phases", SimpleNamespace(**phases))


def name_run() -> str:
    """How a run of the flow is called in the UI: what it does, and to which application."""
    parameters = flow_run.parameters
    mode = "dry-run" if parameters.get("dry_run", True) else "run"
    return f"{mode} {labels.application_name(Path(parameters.get('config', '')))}"


@flow(name="unify-db", flow_run_name=name_run, persist_result=False)
def unify(config: Path, dry_run: bool = True) -> order.Outcome:
    """Move an application's SQLite files into one, or rehearse the move.

    Plan, backup, merge, validation, the application's own tests and a benchmark run while the
    application goes on serving. A gate that is closed ends the run with nothing changed. With
    `approval.mode = "ask"` the run is then paused until a person decides. Only then is the
    application stopped, switched over and started again, and its old files are archived.

    Args:
        config: Path of the application's `unify.toml`, on the machine where the worker runs.
            A relative path counts from the folder that the flow was deployed from.
        dry_run: Stop before the switch: everything is tried, nothing of the application changes.

    Returns:
        Where the run's folder lies, and what was switched and archived.

    Raises:
        UnifyError: A gate is closed, a source cannot be used, or the switch was taken back.
    """
    labels.tag_flow_run(labels.application_name(config), "dry-run" if dry_run else "run")
    loaded = load_config(config)
    run = order.begin(loaded, dry_run=dry_run)
    return order.migrate(chained(), loaded, run, dry_run=dry_run)
