"""The question that a run asks a person and the decision about it, as two files in the run's folder.

Who decides need not be the process that waits: the decision is durable before anybody is told of
it, it is made once, and it stands whatever becomes of Prefect or of the process. No journal here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from unified_db.errors import GateClosedError, UsageError
from unified_db.migration import wording
from unified_db.migration.config import ApprovalConfig
from unified_db.migration.records import Backups, Choice, Decision, Question
from unified_db.migration.runs import RunFolder

UNTOUCHED = "Nothing was switched; the application still uses its old files."
# What a person types of a digest.
MIN_DIGEST_CHARS = 8
_LOCK_NAME = "decision.lock"


def load_question(run: RunFolder) -> Question | None:
    """The question of *run*; None where nothing was asked."""
    return run.load("question", Question)


def load_decision(run: RunFolder) -> Decision | None:
    """The decision about *run*; None where none was made."""
    return run.load("decision", Decision)


def pose(approval: ApprovalConfig, run: RunFolder, backups: Backups) -> Question:
    """The question about the evidence of *run* as it lies there, written down.

    One that was asked about the same evidence before stands, with its time and with what was decided.
    """
    with _deciding(run):
        known, evidence = load_question(run), run.evidence_digest()
        if known is not None and known.evidence_sha256 == evidence:
            return known
        (run.evidence / "decision.json").unlink(missing_ok=True)
        now = datetime.now(UTC)
        expires_at, since = _patience(approval, now, backups.taken_at)
        question = Question(
            run=run.name, asked_at=now, expires_at=expires_at, expires_since=since, evidence_sha256=evidence
        )
        run.save("question", question)
        return question


def _patience(approval: ApprovalConfig, now: datetime, taken_at: datetime) -> tuple[datetime, str]:
    """Until when an answer is of use, and why no longer."""
    tired, stale = now + approval.timeout, taken_at + approval.max_age
    if stale < tired:
        return stale, f"the evidence is older than approval.max_age allows ({say_span(approval.max_age)})"
    return tired, f"approval.timeout is {say_span(approval.timeout)}"


def decide(
    run: RunFolder, choice: Choice, *, by: str, through: str, evidence: str | None = None, reason: str = ""
) -> Decision:
    """Write down what is decided about *run*, once.

    Args:
        run: One that waits, or whose process ended while it waited.
        choice: What is decided.
        by: Who decides.
        through: Where: the command or Prefect's pages.
        evidence: The digest of what was looked at, or its beginning; without it what lies there.
        reason: Why, in the decider's words.

    Raises:
        UsageError: Nothing was asked, it is decided already, or nobody is named.
        GateClosedError: The time is over, or *evidence* is not what was asked about.
    """
    name = " ".join(by.split())
    if not name:
        raise UsageError("nobody is named as who decides", hint="Nothing was decided. Give a name.")
    with _deciding(run):
        question = _require_open(run)
        _require_same(run, question, evidence, choice)
        now = datetime.now(UTC)
        if now >= question.expires_at:
            raise _too_late(run, question)
        decision = Decision(
            run=run.name,
            choice=choice,
            by=name,
            through=through,
            decided_at=now,
            evidence_sha256=question.evidence_sha256,
            reason=wording.mask(" ".join(reason.split())),
        )
        run.save("decision", decision)
        return decision


def expire(run: RunFolder, question: Question) -> Decision:
    """That nobody decided in time; the decision that somebody made in the last moment, if there is one."""
    with _deciding(run):
        known = load_decision(run)
        if known is not None:
            return known
        decision = Decision(
            run=run.name,
            choice="expire",
            by="nobody",
            through="the clock",
            decided_at=datetime.now(UTC),
            evidence_sha256=question.evidence_sha256,
            reason=question.expires_since,
        )
        run.save("decision", decision)
        return decision


def _require_open(run: RunFolder) -> Question:
    question, known = load_question(run), load_decision(run)
    if question is None:
        raise UsageError(
            f"run {run.name} does not wait for a person", hint="Nothing was decided. See `unify-db status`."
        )
    if known is not None:
        raise UsageError(
            f"run {run.name} is decided already: {known.sentence()}",
            hint=f"The first decision stands. `unify-db status {run.name}` shows what became of it.",
        )
    return question


def _require_same(run: RunFolder, question: Question, evidence: str | None, choice: Choice) -> None:
    asked, found = question.evidence_sha256, run.evidence_digest()
    if choice == "approve" and found != asked:
        raise GateClosedError(
            f"the evidence was changed since it was asked about: expected {asked[:12]}, found {found[:12]}",
            hint=f"{UNTOUCHED} `unify-db reject {run.name}` ends the wait; then run again.",
        )
    if evidence is None:
        return
    given = evidence.strip().lower()
    if len(given) < MIN_DIGEST_CHARS or not asked.startswith(given):
        raise GateClosedError(
            f"this is other evidence than the one that lies there: expected {asked[:12]}, found {given[:64]}",
            hint=f"Nothing was decided; the run goes on waiting. Look at {run.report} and decide about that.",
        )


def _too_late(run: RunFolder, question: Question) -> GateClosedError:
    return GateClosedError(
        f"it is too late to decide about run {run.name}: its time ended at "
        f"{wording.format_moment(question.expires_at)}, since {question.expires_since}",
        hint=f"{UNTOUCHED} `unify-db run` makes new evidence and asks again.",
    )


@contextlib.contextmanager
def _deciding(run: RunFolder) -> Iterator[None]:
    """One at a time: the command, Prefect's pages and the clock may decide in the same moment."""
    descriptor = os.open(run.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def say_span(span: timedelta) -> str:
    """A span of time for people."""
    return wording.format_seconds(span.total_seconds())
