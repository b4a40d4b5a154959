"""The frozen values that flow from phase to phase; all of them survive a trip through JSON.

A record says what a phase found or did. It holds no connection, no session and no value
out of a database: tables, counts, sizes, digests and places only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from unified_db.sqlite import fold

SourceKind = Literal["application", "checkpoints", "store", "other"]
ObjectKind = Literal["table", "index", "trigger", "view"]


class Record(BaseModel):
    """Base of all records: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SchemaObject(Record):
    """One entry of a database's schema.

    Attributes:
        sql: The definition as stored; None for the indexes that SQLite makes itself.
    """

    kind: ObjectKind
    name: str
    table: str
    sql: str | None


class Rename(Record):
    """An object of one source that has another name in the unified file; *source* is a label."""

    source: str
    object: str
    to: str


class Union(Record):
    """A table of several sources that is one table in the unified file.

    Attributes:
        table: Its name in the unified file.
        home: Label of the source whose rowids are kept, and to which new rows return on a rollback.
    """

    table: str
    home: str


class Layout(Record):
    """What the unified file has otherwise than its sources; empty where every object keeps its name."""

    renames: tuple[Rename, ...] = ()
    unions: tuple[Union, ...] = ()


class TableFacts(Record):
    """What the plan tells of one table: how many rows, and which columns of its sequence matter.

    Attributes:
        name: Its name in the file that is spoken of.
        sequence: The AUTOINCREMENT counter, None where the table has none.
        original: Its name in the source, where the unified file has it under another one.
        united: True where the unified file has the rows of several sources in it.
    """

    name: str
    source: str
    rows: int
    sequence: int | None = None
    original: str | None = None
    united: bool = False


def count_tables(facts: Iterable[TableFacts]) -> int:
    """How many tables *facts* of one file are about: a united one has a fact for each of its sources."""
    return len({fold(fact.name) for fact in facts})


class SourceFacts(Record):
    """One source as the plan read it.

    Attributes:
        label: How the source is named in tables: its path relative to the application's root.
        size_bytes: Main file alone.
        wal_bytes: What lies in the WAL beside it, 0 without one.
        handles: Processes that have the file open now, as "pid command".
        threads: The columns that name LangGraph threads, as "table.column".
    """

    label: str
    path: Path
    kind: SourceKind
    size_bytes: int
    wal_bytes: int
    page_size: int
    encoding: str
    journal_mode: str
    user_version: int
    application_id: int
    tables: tuple[TableFacts, ...]
    objects: tuple[SchemaObject, ...]
    handles: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()


class Collision(Record):
    """The same name in two sources.

    Attributes:
        definitions: Each source's label with its SQL, shortened and with its strings masked.
        ways_out: What a person may do about it: a sentence each, with what to add to `unify.toml`.
    """

    name: str
    definitions: tuple[tuple[str, str], ...]
    ways_out: str


class EditPreview(Record):
    """One edit that the switch (or the archive) would make.

    Attributes:
        diff: Unified diff with the values of dotenv files masked where they are not ours.
        before_sha256: Digest of the file that the diff applies to.
    """

    file: Path
    kind: str
    when: Literal["switch", "archive"]
    summary: str
    diff: str
    before_sha256: str


class SpaceNeed(Record):
    """Bytes that a run needs on one file system, and what is free there."""

    folder: Path
    needed_bytes: int
    free_bytes: int


class Risk(Record):
    """Something about the application that makes the move, or life after it, go wrong.

    Attributes:
        name: Which risk it is, as a short key that stays, such as "stock-saver".
        sentence: What was found and what it leads to, in plain words.
        where: The places that it was found at, as "file" or "file:line".
        remedy: What to do; where it is *handled*, what takes care of it.
        handled: True where the configuration takes care of it already.
    """

    name: str
    sentence: str
    where: tuple[str, ...] = ()
    remedy: str = ""
    handled: bool = False


class MigrationPlan(Record):
    """What would move, what would collide, what would be edited, how long, how much space."""

    run: str
    created_at: datetime
    target: Path
    sources: tuple[SourceFacts, ...]
    collisions: tuple[Collision, ...]
    edits: tuple[EditPreview, ...]
    space: tuple[SpaceNeed, ...]
    estimated_s: float
    versions: dict[str, str]
    risks: tuple[Risk, ...] = ()
    """What may go wrong with this application; those that nothing takes care of first."""
    missing: tuple[str, ...] = ()
    """What `unify.toml` does not say yet, and what that leads to: a sentence each."""
    layout: Layout = Layout()
    mentions: tuple[tuple[str, str], ...] = ()
    """(name, "file:line") of where the application would still use the old name of what is renamed."""
    reaching: tuple[str, ...] = ()
    """"FILE: KEY" of what looks like a credential or an address, which a staged copy would use."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_run(cls, values: Any) -> Any:
        # Their plans have an empty list of that name, and a rollback reads them days later.
        return {k: v for k, v in values.items() if k != "warnings"} if isinstance(values, dict) else values

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of before the move: open risks, and what is missing."""
        risks = (f"{r.sentence} {r.remedy}".strip() for r in self.risks if not r.handled)
        return (*risks, *self.missing)


class Backup(Record):
    """Our consistent copy of one source.

    Attributes:
        sha256: Digest of the finished copy.
        journal_mode: The source's own, which a restored copy gets back.
        threads: The columns that name LangGraph threads, as "table.column".
    """

    label: str
    source: Path
    path: Path
    kind: SourceKind
    size_bytes: int
    sha256: str
    journal_mode: str
    threads: tuple[str, ...] = ()


class Backups(Record):
    """The copies of all sources, which show one instant.

    Attributes:
        taken_at: The instant, UTC.
        lock_ms: How long writers of all sources were held off.
        layout: What the unified file that is made of them has otherwise than they.
    """

    taken_at: datetime
    lock_ms: float
    seconds: float
    items: tuple[Backup, ...]
    layout: Layout = Layout()


class UnifiedFile(Record):
    """The merged file before the switch puts it into place."""

    path: Path
    size_bytes: int
    sha256: str
    tables: tuple[TableFacts, ...]
    seconds: float


class Finding(Record):
    """One thing checked, with what was required and what was measured.

    Attributes:
        undecided: Neither worse nor not: time was up before what was measured was sure.
    """

    check: str
    where: str
    required: str
    measured: str
    passed: bool
    undecided: bool = False


class GateName(StrEnum):
    """The gates of a run, in their order."""

    VALIDATION = "validation"
    SUITES = "suites"
    BENCHMARK = "benchmark"


class Verdict(Record):
    """What a gate says: a list of findings. Nothing checked is not a pass."""

    gate: GateName
    findings: tuple[Finding, ...]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True where at least one thing was checked and every one of them passed."""
        return bool(self.findings) and all(f.passed for f in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that close the gate."""
        return tuple(f for f in self.findings if not f.passed)

    def sentence(self) -> str:
        """The verdict in one sentence for people."""
        if not self.findings:
            return f"{self.gate.value}: closed, since nothing was checked"
        if self.passed:
            return f"{self.gate.value}: open, {len(self.findings)} checks passed"
        first = self.failures[0]
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return (
            f"{self.gate.value}: closed: {first.check} at {first.where}: "
            f"required {first.required}, measured {first.measured}{more}"
        )


class TestOutcome(Record):
    """One test on both sides.

    An outcome is passed, passed on retry (the runner's own), failed, error, skipped, xfailed or absent.

    Attributes:
        detail: The first lines of its failure on the unified file, or else on the old files.
        standing: What it means for the gate; flaky where it fails on the old files too when run again.
        again: What running it again on the old files showed, in words.
        again_detail: The first lines of its failure there.
    """

    __test__ = False  # pytest would take the name for a test class

    suite: str
    test: str
    before: str
    after: str
    detail: str = ""
    standing: Literal["open", "closes", "flaky"] = "open"
    again: str = ""
    again_detail: str = ""


class SuiteFiles(Record):
    """The database files that a suite opened on each side, as names and counts for people.

    Attributes:
        unified: True where the unified file was among them on its side.
    """

    suite: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    unified: bool


class SuitesEvidence(Record):
    """What the application's own tests did on the old files and on the unified file."""

    tests: tuple[TestOutcome, ...]
    counts: tuple[tuple[str, str, str], ...]
    """(suite, before, after) as short text such as '14 passed, 1 failed'."""
    files: tuple[SuiteFiles, ...] = ()


class Latency(Record):
    """Response times of one request at one concurrency on both sides.

    Attributes:
        ratio: Median after divided by median before.
        low: Lower bound of the ratio's confidence interval.
        high: Upper bound of it.
        before_sample_ms: A thinned sample for the plot, as for after.
    """

    name: str
    concurrency: int
    before_ms: float
    after_ms: float
    before_p95_ms: float
    after_p95_ms: float
    ratio: float
    low: float
    high: float
    requests: int
    before_sample_ms: tuple[float, ...] = ()
    after_sample_ms: tuple[float, ...] = ()


class BenchmarkEvidence(Record):
    """What the benchmark measured; the verdict judges it."""

    latencies: tuple[Latency, ...]
    operations: tuple[Latency, ...]
    """LangGraph's put, get, list and resume on both files, measured like endpoints."""
    blocks: int
    before_rss_bytes: int
    after_rss_bytes: int
    before_errors: int
    after_errors: int
    before_log_errors: int
    after_log_errors: int
    sources_bytes: int
    unified_bytes: int
    restart_ms: float
    """Stop issued to first healthy answer of a plain restart of the old side."""
    control: tuple[Latency, ...] = ()
    """The old application against a second copy of itself: before and after are both the old files."""
    control_operations: tuple[Latency, ...] = ()
    control_said: str = ""
    """What the control shows, in a sentence."""
    operations_by: str = ""
    """How LangGraph's operations were timed, and by which interpreter."""
    operations_files: tuple[str, ...] = ()
    """pytest-benchmark's JSON of each block, relative to the run's folder."""


class Question(Record):
    """What a person is asked about a run.

    Attributes:
        asked_at: When it was first asked; a resumed run does not ask anew.
        expires_at: Until when it may be answered: the patience of the run or the age of its evidence.
        expires_since: Why it may not be answered later, as half a sentence.
        evidence_sha256: The digest of the evidence that the answer is about.
    """

    run: str
    asked_at: datetime
    expires_at: datetime
    expires_since: str
    evidence_sha256: str


Choice = Literal["approve", "reject", "expire"]


class Decision(Record):
    """What became of a question: a person's answer, or that none came in time.

    Attributes:
        by: Who decided.
        through: Where: the command or Prefect's pages.
        evidence_sha256: The digest of the evidence that it was made on.
    """

    run: str
    choice: Choice
    by: str
    through: str
    decided_at: datetime
    evidence_sha256: str
    reason: str = ""

    def sentence(self) -> str:
        """The decision in one sentence for people, without a full stop."""
        why = f": {self.reason}" if self.reason else ""
        if self.choice == "expire":
            return f"nobody decided in time{why}"
        moment = f"{self.decided_at:%Y-%m-%d %H:%M:%S} UTC"
        done = "approved" if self.choice == "approve" else "rejected"
        return f"{done} by {self.by} at {moment} through {self.through}{why}"


class Approval(Record):
    """Leave to switch. Only :meth:`from_verdicts` makes one, and only from open gates."""

    run: str
    approved_by: str
    approved_at: datetime
    evidence_sha256: str
    gates: tuple[GateName, ...]

    @classmethod
    def from_verdicts(
        cls,
        verdicts: tuple[Verdict, ...],
        *,
        run: str,
        approved_by: str,
        approved_at: datetime,
        evidence_sha256: str,
    ) -> Self:
        """Make an approval of *verdicts*.

        Raises:
            GateClosedError: A gate is closed, or one of the three is missing.
        """
        from unified_db.errors import GateClosedError

        hint = "Nothing was switched; the application still uses its old files."
        missing = set(GateName) - {v.gate for v in verdicts}
        if missing:
            names = ", ".join(sorted(g.value for g in missing))
            raise GateClosedError(f"no verdict from: {names}", hint=hint)
        for verdict in verdicts:
            if not verdict.passed:
                raise GateClosedError(verdict.sentence(), hint=hint)
        return cls(
            run=run,
            approved_by=approved_by,
            approved_at=approved_at,
            evidence_sha256=evidence_sha256,
            gates=tuple(v.gate for v in verdicts),
        )


class CutoverRecord(Record):
    """The switch as it was made.

    Attributes:
        downtime_ms: Stop issued to first healthy answer.
        write_pause_ms: Downtime less a plain restart of the same application.
        late_rows: Rows inserted, changed or deleted between the backup and the lock, carried over.
        edited: The files that were edited.
        originals: (old path, where the old file lies now).
        pid: The process that was started, None where a person starts it.
    """

    run: str
    switched_at: datetime
    target: Path
    downtime_ms: float
    write_pause_ms: float
    late_rows: int
    edited: tuple[Path, ...]
    originals: tuple[tuple[Path, Path], ...]
    pid: int | None
    health: tuple[Finding, ...]


class ArchivedFile(Record):
    """One old file in the archive: what it was and what it is now."""

    label: str
    original: Path
    archived: Path
    original_bytes: int
    archived_bytes: int
    sha256: str
    mode: int
    journal_mode: str


class ArchiveRecord(Record):
    """The archive of the old files.

    Attributes:
        mentions: "file:line" of what still names an old path and was not edited.
    """

    run: str
    archived_at: datetime
    folder: Path
    files: tuple[ArchivedFile, ...]
    edited: tuple[Path, ...]
    mentions: tuple[str, ...]
    keep_until: datetime


class SetAside(Record):
    """A file that a rollback found where it had to put another one back.

    Attributes:
        path: Where it was.
        kept: Where it lies now.
        why: What it is, in words.
    """

    path: Path
    kept: Path
    why: str


class RollbackRecord(Record):
    """A cut-over taken back.

    Attributes:
        carried: (table, inserted, updated, deleted) for rows written since the cut-over.
        kept_aside: Where the unified file lies now.
        schema_carried: (source, what) of the changes of the schema since the cut-over that it got.
        left_behind: Changes of the schema that no source could take; they are in the unified file.
        set_aside: Files that were in the way.
    """

    run: str
    rolled_back_at: datetime
    restored: tuple[Path, ...]
    carried: tuple[tuple[str, int, int, int], ...]
    kept_aside: Path | None
    findings: tuple[Finding, ...]
    schema_carried: tuple[tuple[str, str], ...] = ()
    left_behind: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
