"""What an open gate allows and what a closed one does; the gates themselves are phases.

Switching takes an :class:`~unified_db.migration.records.Approval`, and :func:`approve` is
the only place of a run where one is made.
"""

from __future__ import annotations

import getpass
import logging
import socket
from datetime import UTC, datetime, timedelta

from unified_db.errors import GateClosedError, UsageError
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Approval, Backups, MigrationPlan, Verdict
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

_MOST_MENTIONS = 10
_UNTOUCHED = "Nothing was switched; the application still uses its old files."


def require_passed(verdict: Verdict) -> Verdict:
    """*verdict* itself where its gate is open.

    Raises:
        GateClosedError: The gate is closed; the message names the first finding.
    """
    if verdict.passed:
        return verdict
    raise GateClosedError(
        verdict.sentence(), hint=f"{_UNTOUCHED} `unify-db status` lists every finding of the run."
    )


def require_decidable(config: MigrationConfig) -> None:
    """Return where the gates alone may decide about the switch.

    Raises:
        UsageError: `approval.mode` asks for a person. Said before the work begins, not after it.
    """
    if config.approval.mode != "auto":
        raise UsageError(
            f'approval.mode is "{config.approval.mode}", but this version has no way to ask a person',
            hint='Nothing was done. Look at a `unify-db dry-run`, then set mode = "auto" and run again.',
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


def approve(config: MigrationConfig, run: RunFolder, verdicts: tuple[Verdict, ...], by: str) -> Approval:
    """Leave to switch, from open gates whose evidence is fresh; saved in the run's folder.

    Args:
        config: Says how old evidence may be.
        run: The run whose backups and verdicts are meant.
        verdicts: Those of all gates.
        by: Who decided.

    Raises:
        GateClosedError: A gate is closed or missing, or the evidence is too old.
        UsageError: The configuration asks for a person.
    """
    require_decidable(config)
    now = datetime.now(UTC)
    _require_fresh(run, now=now, max_age=config.approval.max_age)
    approval = Approval.from_verdicts(
        verdicts, run=run.name, approved_by=by, approved_at=now, evidence_sha256=run.evidence_digest()
    )
    run.save("approval", approval)
    log.info("approval: all gates are open, decided by %s", by)
    return approval


def decider() -> str:
    """Who an approval by the gates alone is attributed to: the gates, as run by this account."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        account = "unknown"
    return f"the gates (run by {account} on {socket.gethostname()})"


def _require_fresh(run: RunFolder, *, now: datetime, max_age: timedelta) -> None:
    backups = run.load("backup", Backups)
    if backups is None:
        raise GateClosedError(f"run {run.name} has no backup", hint=_UNTOUCHED)
    age = now - backups.taken_at
    if age > max_age:
        raise GateClosedError(
            f"the evidence is {_hours(age)} old; approval.max_age allows {_hours(max_age)}",
            hint=f"{_UNTOUCHED} Make it again with `unify-db run`.",
        )


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
