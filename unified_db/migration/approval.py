"""The wait for a person's decision about the switch; the evidence lies in the run's folder by then.

It hangs on nothing but a file there, which the command, Prefect's pages or the clock may write. A
process that is gone leaves a run that can still be decided, and resumed with the same evidence.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from unified_db.errors import UsageError
from unified_db.migration import decisions, wording
from unified_db.migration.journal import Journal, read_entries, read_state
from unified_db.migration.records import Choice, Decision, Question
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

POLL_S = 0.5


def decide(
    run: RunFolder, choice: Choice, *, by: str, evidence: str | None = None, reason: str = ""
) -> Decision:
    """As :func:`unified_db.migration.decisions.decide` with the command, for a run that waits.

    Raises:
        UsageError: It does not wait for a person, or is decided already.
        GateClosedError: It is too late, or *evidence* is not what was asked about.
    """
    if decisions.load_decision(run) is None and not _is_asked(run):
        state = read_state(run)
        raise UsageError(
            f"run {run.name} does not wait for a person: it is {state.state.replace('_', ' ')}",
            hint=f"Nothing was decided. {state.next}",
        )
    return decisions.decide(run, choice, by=by, through="the command", evidence=evidence, reason=reason)


def _is_asked(run: RunFolder) -> bool:
    """True where the last that *run* did was to ask, so that only the answer or the clock ended its wait."""
    marks = [e.status for e in read_entries(run.journal) if e.event in {"run", "cutover", "rollback"}]
    return marks[-1:] == ["waiting"]


def wait_for_decision(run: RunFolder, question: Question) -> Decision:
    """What a person decides about *run*, or that nobody did until *question* expired.

    Returns at once where it was decided before, as on a resume. Costs a look at a file every half
    second; a signal ends it at once.
    """
    known = decisions.load_decision(run)
    if known is None:
        Journal(run).write("run", "waiting", until=question.expires_at, evidence=question.evidence_sha256)
        log.warning(
            "run %s waits for a person until %s: `unify-db approve %s` or `unify-db reject %s`; "
            "evidence %s on %s",
            run.name,
            wording.format_moment(question.expires_at),
            run.name,
            run.name,
            question.evidence_sha256[:12],
            run.report,
        )
        known = _wait(run, question)
    Journal(run).write("run", "decided", **known.model_dump(mode="json"))
    log.info("%s", known.sentence())
    return known


def _wait(run: RunFolder, question: Question) -> Decision:
    # By both clocks: one that is set back must not make anybody wait for longer than was said.
    patience_s = (question.expires_at - datetime.now(UTC)).total_seconds()
    tired = time.monotonic() + patience_s
    while datetime.now(UTC) < question.expires_at and time.monotonic() < tired:
        known = decisions.load_decision(run)
        if known is not None:
            return known
        time.sleep(POLL_S)
    return decisions.expire(run, question)
