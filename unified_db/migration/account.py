"""What the records of one run say together: all of them, its tests in groups, what each phase took.

Pure: reads the run's folder, changes nothing, shows nothing. Where the run stands is for `standings.py`
to say; `report.py` renders what is found in both.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import datetime
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
    count_tables,
)
from unified_db.migration.runs import RunFolder

_R = TypeVar("_R", bound=Record)

_PASSED = "passed"


@dataclass(frozen=True)
class Limits:
    """What the benchmark gate of this run allowed."""

    max_ratio: float
    min_diff_ms: float


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
        tables = wording.count(count_tables(account.unified.tables), "table")
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
