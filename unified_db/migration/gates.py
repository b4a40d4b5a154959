"""What an open gate allows and what a closed one does; the gates themselves are phases.

Switching takes an :class:`~unified_db.migration.records.Approval`, and :func:`approve` is
the only place of a run where one is made: of open gates, and of a person's word where one is asked.
"""

from __future__ import annotations

import getpass
import logging
import socket
from datetime import UTC, datetime, timedelta

from unified_db.errors import GateClosedError, UsageError
from unified_db.migration import decisions, wording
from unified_db.migration.config import MigrationConfig
from unified_db.migration.decisions import UNTOUCHED
from unified_db.migration.records import Approval, Backups, Decision, MigrationPlan, Question, Verdict
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

_MOST_MENTIONS = 10
# By so much clocks are corrected every day.
_CLOCK_SLACK = timedelta(minutes=1)


def require_passed(verdict: Verdict) -> Verdict:
    """*verdict* itself where its gate is open.

    Raises:
        GateClosedError: The gate is closed; the message names the first finding.
    """
    if verdict.passed:
        return verdict
    raise GateClosedError(verdict.sentence(), hint=f"{UNTOUCHED} {_way_out(verdict)}")


def _way_out(verdict: Verdict) -> str:
    listed = "`unify-db status` lists every finding of the run."
    if not verdict.failures or not all(f.undecided for f in verdict.failures):
        return listed
    return (
        "Nothing was found to be worse, but this machine was too busy to be sure of that in time: run again "
        f"when it is quieter, or raise `benchmark.budget_s`. {listed}"
    )


def require_covered(plan: MigrationPlan) -> None:
    """Return where no place of the application would still use the old name of what is renamed.

    Raises:
        UsageError: Names the first of those that no edit covers.
    """
    if not plan.mentions:
        return
    shown = ", ".join(f"{name} at {place}" for name, place in plan.mentions[:_MOST_MENTIONS])
    more = len(plan.mentions) - _MOST_MENTIONS
    raise UsageError(
        f"the application still names what is renamed: {shown}{f' and {more} more' if more > 0 else ''}",
        hint="Nothing was changed. Add an [[edit]] for each of these places, or name its file in `ignore` of "
        "the [[rename]] where it means something else. `unify-db plan` lists them all.",
    )


def pose(config: MigrationConfig, run: RunFolder) -> Question:
    """What to ask a person about *run*, whose gates are open; written down in its folder.

    Raises:
        GateClosedError: The evidence is too old to be asked about.
    """
    backups = _require_fresh(config, run)
    return decisions.pose(config.approval, run, backups)


def require_approved(decision: Decision) -> Decision:
    """*decision* itself where it allows the switch.

    Raises:
        GateClosedError: It was rejected, or nobody decided in time.
    """
    if decision.choice == "approve":
        return decision
    raise GateClosedError(
        f"the switch was not approved: {decision.sentence()}",
        hint=f"{UNTOUCHED} `unify-db run` makes new evidence and asks again.",
    )


def approve(
    config: MigrationConfig, run: RunFolder, verdicts: tuple[Verdict, ...], decision: Decision | None = None
) -> Approval:
    """Leave to switch, from open gates whose evidence is fresh; saved in the run's folder.

    Everything is looked at now, however long a person took to decide.

    Args:
        config: Says how old evidence may be, and whether a person decides.
        run: The run whose backups and verdicts are meant.
        verdicts: Those of all gates.
        decision: A person's; None where the gates decide alone.

    Raises:
        GateClosedError: A gate is closed or missing, a person did not approve or approved other
            evidence, or the evidence is too old.
    """
    _require_fresh(config, run)
    evidence = run.evidence_digest()
    if config.approval.mode == "ask":
        decision = _require_decided(decision, evidence)
    approval = Approval.from_verdicts(
        verdicts,
        run=run.name,
        approved_by=decision.by if decision else decider(),
        approved_at=decision.decided_at if decision else datetime.now(UTC),
        evidence_sha256=evidence,
    )
    run.save("approval", approval)
    log.info("approval: all gates are open, decided by %s", approval.approved_by)
    return approval


def _require_decided(decision: Decision | None, evidence: str) -> Decision:
    if decision is None:
        raise GateClosedError('approval.mode is "ask", and nobody was asked', hint=UNTOUCHED)
    require_approved(decision)
    if decision.evidence_sha256 != evidence:
        raise GateClosedError(
            "the evidence is not what was approved: "
            f"expected {decision.evidence_sha256[:12]}, found {evidence[:12]}",
            hint=f"{UNTOUCHED} `unify-db run` makes new evidence and asks again.",
        )
    return decision


def decider() -> str:
    """Who an approval by the gates alone is attributed to: the gates, as run by this account."""
    return f"the gates (run by {account_name()})"


def account_name() -> str:
    """The account that this process runs as and the machine, for who decided."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        account = "unknown"
    return f"{account} on {socket.gethostname()}"


def _require_fresh(config: MigrationConfig, run: RunFolder) -> Backups:
    backups = run.load("backup", Backups)
    if backups is None:
        raise GateClosedError(f"run {run.name} has no backup", hint=UNTOUCHED)
    age, max_age = datetime.now(UTC) - backups.taken_at, config.approval.max_age
    if age < -_CLOCK_SLACK:
        raise GateClosedError(
            f"the evidence was made at {wording.format_moment(backups.taken_at)}, which is still to come: "
            "the clock was set back since, so nobody knows how old it is",
            hint=f"{UNTOUCHED} Make it again with `unify-db run`.",
        )
    if age > max_age:
        raise GateClosedError(
            f"the evidence is {_hours(age)} old; approval.max_age allows {_hours(max_age)}",
            hint=f"{UNTOUCHED} Make it again with `unify-db run`.",
        )
    return backups


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
