"""The wait for a person as a task."""

from __future__ import annotations

from prefect import task

from tasks import artifacts, policy
from tasks.pausing import decidable_in_prefect
from unified_db.migration import gates, phases
from unified_db.migration.records import Decision, Question
from unified_db.migration.runs import RunFolder


@task(name="ask", task_run_name="ask", **policy.WAITS_FOR_A_PERSON)
def ask(run: RunFolder, question: Question) -> Decision:
    """Wait for a person to decide, on the page that this shows or with the command."""
    artifacts.publish("approval", run)
    with artifacts.shown("approval", run), decidable_in_prefect(run, question):
        decision = phases.ask(run, question)
    return gates.require_approved(decision)
