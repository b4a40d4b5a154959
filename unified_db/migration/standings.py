"""Where a run stands: in a word, in a sentence, and what a person does next.

Pure: everything is worked out from the run's records as `account.py` has read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from unified_db.migration import wording
from unified_db.migration.account import Account
from unified_db.migration.records import GateName


class Standing(StrEnum):
    """Where a run stands, for the sentence at the top of its report."""

    EMPTY = "empty"
    STOPPED = "stopped"
    CLOSED = "closed"
    OPEN = "open"
    WAITING = "waiting"
    REJECTED = "rejected"
    UNDONE = "undone"
    INTERRUPTED = "interrupted"
    SWITCHED = "switched"
    ARCHIVED = "archived"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Step:
    """One thing to do next: a sentence, and a command where there is one."""

    text: str
    command: str = ""


def standing(account: Account) -> Standing:
    """Where the run stands; what was done to the application outranks what the gates said."""
    return _standing_of_switch(account) or _standing_of_gates(account)


def _standing_of_switch(account: Account) -> Standing | None:
    acts = [e for e in account.entries if e.event in {"cutover", "archive", "rollback"}]
    last = (acts[-1].event, acts[-1].status) if acts else ("", "")
    recorded = _recorded_standing(account)
    # Records are saved when their phase has ended, so a record beats the intent that came before it.
    if last in {("rollback", "begin"), ("rollback", "resumed")} and recorded is Standing.ROLLED_BACK:
        return recorded
    if last == ("cutover", "begin") and recorded in {Standing.SWITCHED, Standing.ARCHIVED}:
        return recorded
    told = {
        ("cutover", "begin"): Standing.INTERRUPTED,
        ("cutover", "failed"): Standing.INTERRUPTED,
        ("cutover", "undone"): Standing.UNDONE,
        ("rollback", "begin"): Standing.INTERRUPTED,
        ("rollback", "resumed"): Standing.INTERRUPTED,
        ("rollback", "failed"): Standing.INTERRUPTED,
        ("rollback", "done"): Standing.ROLLED_BACK,
    }
    return told.get(last, recorded)


def _recorded_standing(account: Account) -> Standing | None:
    switched, back = account.cutover, account.rollback
    if back and not (switched and switched.switched_at > back.rolled_back_at):
        return Standing.ROLLED_BACK
    if account.archive:
        return Standing.ARCHIVED
    return Standing.SWITCHED if switched else None


def _standing_of_gates(account: Account) -> Standing:
    if account.closed:
        return Standing.CLOSED
    if len(account.verdicts) == len(GateName):
        return _standing_of_question(account)
    return Standing.STOPPED if account.plan else Standing.EMPTY


def _standing_of_question(account: Account) -> Standing:
    if account.question is None or account.dry_run:
        return Standing.OPEN
    if account.decision is None:
        return Standing.STOPPED if account.failed else Standing.WAITING
    return Standing.OPEN if account.decision.choice == "approve" else Standing.REJECTED


def headline(account: Account) -> str:
    """The run in one sentence."""
    return _HEADLINES[standing(account)](account)


def _say_empty(_: Account) -> str:
    return "The run has not recorded anything yet; nothing of the application was changed."


def _say_stopped(account: Account) -> str:
    if account.plan and account.plan.collisions:
        clashes = wording.count(len(account.plan.collisions), "name")
        return f"The sources cannot be merged as they are: {clashes} collide. Nothing was changed."
    if account.reason:
        said = wording.shorten(account.reason, 300).rstrip(".")
        return f"The run stopped after {_last_phase(account)}: {said}. Nothing was switched."
    missing = [g.value for g in GateName if g not in account.verdicts]
    return (
        f"The run got as far as {_last_phase(account)}; no verdict yet from {wording.join_words(missing)}. "
        "Nothing was switched."
    )


def _say_closed(account: Account) -> str:
    verdict = account.closed[0]
    name = verdict.gate.value
    if not verdict.findings:
        return f"The {name} gate is closed, since nothing was checked. Nothing was switched."
    first, more = verdict.failures[0], len(verdict.failures) - 1
    others = f" and {wording.count(more, 'more finding')}" if more else ""
    said = f"{first.check} ({first.where}): required {first.required}, measured {first.measured}{others}"
    return f"The {name} gate is closed: {wording.shorten(said, 320)}. Nothing was switched."


def _say_open(account: Account) -> str:
    files = wording.count(account.source_count, "file")
    end = "This was a dry run: nothing was switched." if account.dry_run else "No switch is recorded yet."
    return f"All three gates are open: {files} can become {account.target}. {end}"


def _say_waiting(account: Account) -> str:
    until = wording.format_moment(account.question.expires_at) if account.question else "it is decided"
    files = wording.count(account.source_count, "file")
    return (
        f"All three gates are open: {files} can become {account.target}. "
        f"The run waits for a person until {until}; nothing was switched."
    )


def _say_rejected(account: Account) -> str:
    said = account.decision.sentence() if account.decision else "rejected"
    return f"The gates are open, but the switch was not approved: {said.rstrip('.')}. Nothing was switched."


def _say_undone(account: Account) -> str:
    why = f": {wording.shorten(account.reason, 300).rstrip('.')}" if account.reason else ""
    return f"The cut-over was begun and taken back{why}. The application uses its old files, as before."


def _say_interrupted(account: Account) -> str:
    what = "A rollback" if account.entries[-1].event == "rollback" or account.cutover else "The cut-over"
    why = f" ({wording.shorten(account.reason, 300).rstrip('.')})" if account.reason else ""
    return f"{what} was begun and no end of it is recorded{why}. The journal knows each step that was done."


def _say_switched(account: Account) -> str:
    end = (
        "the old files are set aside, not archived yet" if account.cutover else "the old files are set aside"
    )
    return f"The application runs on {account.target}{_moved(account)}; {end}."


def _say_archived(account: Account) -> str:
    return f"The application runs on {account.target}{_moved(account)}; the old files are archived."


def _moved(account: Account) -> str:
    if not (account.unified and account.source_count):
        return ""
    rows = sum(t.rows for t in account.unified.tables)
    moved = f"{wording.count(rows, 'row')} out of {wording.count(account.source_count, 'file')}"
    validation = account.verdicts.get(GateName.VALIDATION)
    return f": {moved}, every one proven equal" if validation and validation.passed else f": {moved}"


def _say_rolled_back(account: Account) -> str:
    carried = sum(sum(c[1:]) for c in account.rollback.carried) if account.rollback else 0
    since = "nothing had been written since the switch"
    if carried:
        since = f"{wording.count(carried, 'change')} made since the switch went back with it"
    return f"The switch was taken back: the application uses its old files again, and {since}."


_HEADLINES = {
    Standing.EMPTY: _say_empty,
    Standing.STOPPED: _say_stopped,
    Standing.CLOSED: _say_closed,
    Standing.OPEN: _say_open,
    Standing.WAITING: _say_waiting,
    Standing.REJECTED: _say_rejected,
    Standing.UNDONE: _say_undone,
    Standing.INTERRUPTED: _say_interrupted,
    Standing.SWITCHED: _say_switched,
    Standing.ARCHIVED: _say_archived,
    Standing.ROLLED_BACK: _say_rolled_back,
}


def _last_phase(account: Account) -> str:
    ended = (
        ("the suites", GateName.SUITES in account.verdicts),
        ("validation", GateName.VALIDATION in account.verdicts),
        ("the merge", account.unified is not None),
        ("the backup", account.backups is not None),
    )
    return next((name for name, done in ended if done), "the plan")


# ---- what to do next -----------------------------------------------------------------------------


def next_steps(account: Account) -> list[Step]:
    """What a person does now, most urgent first; never empty."""
    name, where = account.run.name, standing(account)
    back = Step("To take the switch back, with the rows written since:", f"unify-db rollback {name}")
    if where in {Standing.SWITCHED, Standing.ARCHIVED}:
        return [*_keep_switch(account), back]
    if where is Standing.INTERRUPTED:
        return [
            Step("Go on from where it stopped:", f"unify-db resume {name}"),
            Step("Or take back what was begun:", f"unify-db rollback {name}"),
        ]
    return {
        Standing.EMPTY: [Step("See where the run stands:", f"unify-db status {name}")],
        Standing.STOPPED: _steps_stopped(account),
        Standing.CLOSED: _steps_closed(account),
        Standing.OPEN: _steps_open(account),
        Standing.WAITING: _steps_waiting(account),
        Standing.REJECTED: [Step("New evidence is made, and asked about, by:", "unify-db run")],
        Standing.UNDONE: [
            Step("Mend what is named above, then start a new run:", "unify-db run"),
        ],
        Standing.ROLLED_BACK: [Step("A new run starts over, whenever you like:", "unify-db run")],
    }[where]


def _keep_switch(account: Account) -> list[Step]:
    found = []
    if account.failed and account.archive is None:
        found.append(
            Step("The old files are not archived yet; go on:", f"unify-db resume {account.run.name}")
        )
    if account.run.patch.exists():
        found.append(
            Step(
                "If you deploy from git, commit the switch there; the next deploy undoes it otherwise:",
                f"git apply {account.run.patch}",
            )
        )
    return found


def _steps_stopped(account: Account) -> list[Step]:
    if account.plan and account.plan.collisions:
        return [Step("Resolve the collisions below, then plan again:", "unify-db plan")]
    return [
        Step("Go on from where it stopped:", f"unify-db resume {account.run.name}"),
        Step("See why it stopped:", f"unify-db status {account.run.name}"),
    ]


def _steps_closed(account: Account) -> list[Step]:
    advice = {
        GateName.VALIDATION: "The unified file does not equal the backups; the findings below say where.",
        GateName.SUITES: "Look at the tests below that pass on the old files alone.",
        GateName.BENCHMARK: "Look at what got slower or larger below; if the machine was busy, try again.",
    }
    return [*(Step(advice[v.gate]) for v in account.closed), Step("Then rehearse again:", "unify-db dry-run")]


def _steps_open(account: Account) -> list[Step]:
    if account.dry_run:
        return [Step("Look at the edits below. This makes the switch:", "unify-db run")]
    return [
        Step("See whether the run waits for a person:", f"unify-db status {account.run.name}"),
        Step("If it stopped, go on:", f"unify-db resume {account.run.name}"),
    ]


def _steps_waiting(account: Account) -> list[Step]:
    name = account.run.name
    shown = account.question.evidence_sha256[:12] if account.question else ""
    return [
        Step("Look at the evidence below, then switch over:", f"unify-db approve {name} --evidence {shown}"),
        Step("Or end the run and change nothing:", f'unify-db reject {name} --reason "..."'),
        Step("If the process that waits is gone, afterwards:", f"unify-db resume {name}"),
    ]
