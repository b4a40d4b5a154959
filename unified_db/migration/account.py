"""What the records of one run say together: where it stands, what comes next, what each phase took.

Pure: reads the run's folder, changes nothing, shows nothing. `report.py` renders what is found here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from unified_db.errors import JournalError
from unified_db.migration import wording
from unified_db.migration.config import BenchmarkConfig
from unified_db.migration.journal import Entry, read_entries
from unified_db.migration.records import (
    Approval,
    ArchiveRecord,
    Backups,
    BenchmarkEvidence,
    CutoverRecord,
    Decision,
    GateName,
    MigrationPlan,
    Question,
    Record,
    RollbackRecord,
    SuitesEvidence,
    TestOutcome,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder

_R = TypeVar("_R", bound=Record)

_PASSED = "passed"


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
class Limits:
    """What the benchmark gate of this run allowed."""

    max_ratio: float
    min_diff_ms: float


@dataclass(frozen=True)
class Step:
    """One thing to do next: a sentence, and a command where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Span:
    """One phase on the timeline; seconds is None where it is not known, ended False where it failed."""

    phase: str
    seconds: float | None
    note: str
    ended: bool = True


@dataclass(frozen=True)
class Account:
    """All records of a run; each is None where its phase has not ended."""

    run: RunFolder
    plan: MigrationPlan | None
    backups: Backups | None
    unified: UnifiedFile | None
    verdicts: dict[GateName, Verdict]
    suites: SuitesEvidence | None
    benchmark: BenchmarkEvidence | None
    approval: Approval | None
    cutover: CutoverRecord | None
    archive: ArchiveRecord | None
    rollback: RollbackRecord | None
    limits: Limits
    question: Question | None = None
    decision: Decision | None = None
    entries: tuple[Entry, ...] = ()
    unreadable: tuple[str, ...] = field(default=())

    @property
    def closed(self) -> tuple[Verdict, ...]:
        """The verdicts that keep a gate closed."""
        return tuple(v for v in self.verdicts.values() if not v.passed)

    @property
    def dry_run(self) -> bool:
        """True where the run was never meant to switch."""
        begun = next((e for e in self.entries if (e.event, e.status) == ("run", "begin")), None)
        return bool(begun and begun.fields.get("dry_run"))

    @property
    def reason(self) -> str:
        """Why the run stopped, as its journal tells it; empty where it went on."""
        ends = [e for e in self.entries if e.status in {"failed", "undone"} and e.fields.get("reason")]
        return str(ends[-1].fields["reason"]) if ends else ""

    @property
    def failed(self) -> bool:
        """True where the last that the journal tells of is that the run failed."""
        marks = [(e.event, e.status) for e in self.entries if e.event == "run"]
        return bool(marks) and marks[-1] == ("run", "failed")

    @property
    def target(self) -> str:
        """The unified file's name, for sentences."""
        place = self.cutover.target if self.cutover else self.plan.target if self.plan else None
        return place.name if place else "the unified file"

    @property
    def source_count(self) -> int:
        """How many files the application uses today."""
        return len(self.plan.sources) if self.plan else len(self.backups.items) if self.backups else 0

    def place(self, path: Path) -> str:
        """*path* relative to the application's root where it lies below it."""
        root = _application_root(self.plan) or self.home
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    @property
    def home(self) -> Path:
        """The folder of the configuration, where the commands are typed."""
        return self.run.path.parent.parent.parent


def _application_root(plan: MigrationPlan | None) -> Path | None:
    """The root that the sources' labels are relative to."""
    for source in plan.sources if plan else ():
        if str(source.path).endswith(f"/{source.label}"):
            return Path(str(source.path).removesuffix(f"/{source.label}"))
    return None


def load_account(run: RunFolder) -> Account:
    """Read every record of *run* that is there; one that cannot be read is named, not fatal."""
    reader = _Reader(run)
    return Account(
        run=run,
        plan=reader.read("plan", MigrationPlan),
        backups=reader.read("backup", Backups),
        unified=reader.read("merge", UnifiedFile),
        verdicts={g: v for g in GateName if (v := reader.read(f"verdict-{g.value}", Verdict))},
        suites=reader.read("evidence-suites", SuitesEvidence),
        benchmark=reader.read("evidence-benchmark", BenchmarkEvidence),
        approval=reader.read("approval", Approval),
        cutover=reader.read("cutover", CutoverRecord),
        archive=reader.read("archive", ArchiveRecord),
        rollback=reader.read("rollback", RollbackRecord),
        limits=_read_limits(run.config),
        question=reader.read("question", Question),
        decision=reader.read("decision", Decision),
        entries=reader.read_journal(),
        unreadable=tuple(reader.unreadable),
    )


class _Reader:
    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self.unreadable: list[str] = []

    def read(self, name: str, kind: type[_R]) -> _R | None:
        try:
            return self._run.load(name, kind)
        # A report of what is left matters most when something is broken.
        except (OSError, ValidationError):
            self.unreadable.append(f"{name}.json")
            return None

    def read_journal(self) -> tuple[Entry, ...]:
        try:
            return tuple(read_entries(self._run.journal))
        except (OSError, ValueError, KeyError, JournalError):
            self.unreadable.append(self._run.journal.name)
            return ()


def _read_limits(config: Path) -> Limits:
    """The limits in the run's copy of unify.toml; the defaults where it cannot be read."""
    try:
        section = tomllib.loads(config.read_text(encoding="utf-8-sig")).get("benchmark", {})
        chosen = BenchmarkConfig.model_validate(
            {k: v for k, v in section.items() if k in {"max_ratio", "min_diff_ms"}}
        )
    except (OSError, ValueError, AttributeError):
        chosen = BenchmarkConfig.model_validate({})
    return Limits(max_ratio=chosen.max_ratio, min_diff_ms=chosen.min_diff_ms)


# ---- where the run stands ------------------------------------------------------------------------


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


# ---- tests, phases, digests ----------------------------------------------------------------------


@dataclass(frozen=True)
class SortedTests:
    """The tests of a run by what the unified file did to them.

    Attributes:
        broken: Close the gate: passed before and not after, or fail on the unified file alone.
        unsteady: Fail on the unified file, and on the old files too when they are run again.
        mended: Did not pass before, pass after.
        changed: Another outcome, and passing on neither side.
        still_red: Failing on both sides, which may stay so.
        same: All others.
    """

    broken: list[TestOutcome] = field(default_factory=list)
    unsteady: list[TestOutcome] = field(default_factory=list)
    mended: list[TestOutcome] = field(default_factory=list)
    changed: list[TestOutcome] = field(default_factory=list)
    still_red: list[TestOutcome] = field(default_factory=list)
    same: list[TestOutcome] = field(default_factory=list)


def sort_tests(account: Account) -> SortedTests:
    """The tests of the run by what happened to them."""
    found = SortedTests()
    for test in account.suites.tests if account.suites else ():
        _group_of(found, test).append(test)
    return found


def _group_of(found: SortedTests, test: TestOutcome) -> list[TestOutcome]:
    if test.standing != "open":
        return found.broken if test.standing == "closes" else found.unsteady
    if test.after == _PASSED and test.before != _PASSED:
        return found.mended
    if test.before != test.after:
        return found.changed
    return found.still_red if test.before in {"failed", "error"} else found.same


def timeline(account: Account) -> list[Span]:
    """The phases that were begun, in the order of the plan, with what each took."""
    spans = [_span(account, phase, seconds, note) for phase, seconds, note in _recorded_spans(account)]
    known = {s.phase for s in spans}
    for entry in account.entries:
        phase = str(entry.fields.get("phase", ""))
        if entry.event == "phase" and entry.status == "begin" and phase not in known:
            known.add(phase)
            spans.append(_span(account, phase, None, ""))
    order = {e.fields.get("phase"): e.number for e in reversed(account.entries) if e.event == "phase"}
    return sorted(spans, key=lambda s: order.get(s.phase, 0)) if order else spans


def _recorded_spans(account: Account) -> list[tuple[str, float | None, str]]:
    found: list[tuple[str, float | None, str]] = []
    if account.plan:
        found.append(("plan", None, wording.count(len(account.plan.sources), "source")))
    if account.backups:
        held = f"writers held off for {wording.format_ms(account.backups.lock_ms)}"
        found.append(("backup", account.backups.seconds, held))
    if account.unified:
        tables = wording.count(len(account.unified.tables), "table")
        found.append(("merge", account.unified.seconds, tables))
    for gate, phase in ((GateName.VALIDATION, "validate"), *((g, g.value) for g in list(GateName)[1:])):
        verdict = account.verdicts.get(gate)
        if verdict:
            state = "open" if verdict.passed else "closed"
            checks = wording.count(len(verdict.findings), "check")
            found.append((phase, verdict.seconds, f"gate {state}, {checks}"))
    return [*found, *_recorded_ends(account)]


def _recorded_ends(account: Account) -> list[tuple[str, float | None, str]]:
    found: list[tuple[str, float | None, str]] = []
    if account.cutover:
        stopped = wording.format_ms(account.cutover.downtime_ms)
        found.append(("cutover", None, f"application away for {stopped}"))
    if account.archive:
        found.append(("archive", None, wording.count(len(account.archive.files), "file")))
    if account.rollback:
        found.append(("rollback", None, wording.format_moment(account.rollback.rolled_back_at)))
    return found


def _span(account: Account, phase: str, seconds: float | None, note: str) -> Span:
    """A phase with its longest stretch in the journal: a phase that was kept on a resume took no time."""
    begun: datetime | None = None
    longest, ended = seconds, True
    for entry in account.entries:
        if entry.event != "phase" or entry.fields.get("phase") != phase:
            continue
        if entry.status == "begin":
            begun = entry.at
        elif begun is not None:
            longest = max(longest or 0.0, (entry.at - begun).total_seconds())
            ended = entry.status == "done"
    return Span(phase=phase, seconds=longest, note=note or ("" if ended else "failed"), ended=ended)


def digests(account: Account) -> list[tuple[str, str, str]]:
    """(what, file, SHA-256) of everything that the run's proof rests on."""
    found: list[tuple[str, str, str]] = []
    if account.backups:
        found += [("backup", b.label, b.sha256) for b in account.backups.items]
    if account.unified:
        found.append(("unified file, as merged", account.unified.path.name, account.unified.sha256))
    if account.plan:
        found += [("before its edit", str(e.file), e.before_sha256) for e in account.plan.edits]
    if account.archive:
        found += [("archived file", f.archived.name, f.sha256) for f in account.archive.files]
    if account.question and not account.approval:
        found.append(("evidence that is asked about", "all verdicts", account.question.evidence_sha256))
    if account.approval:
        found.append(
            ("evidence that was approved", account.approval.approved_by, account.approval.evidence_sha256)
        )
    return found
