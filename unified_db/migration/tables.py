"""The tables that people read about a run, as plain cells: one making for HTML, Markdown and Prefect.

Pure: an account (or one of its records) in, tables out. How a cell looks is `report.py`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unified_db.migration import wording
from unified_db.migration.account import Account, Span, digests
from unified_db.migration.criteria import Criterion, within
from unified_db.migration.records import (
    Finding,
    Latency,
    MigrationPlan,
    SuiteFiles,
    TableFacts,
    TestOutcome,
    Verdict,
)

CellKind = Literal["text", "code", "number", "mark"]

_MOST_LINES = 4


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        kind: code for names out of the database or the tree, mark for a result.
        passed: For a mark: True, False, or None for what was not measured.
    """

    text: str
    kind: CellKind = "text"
    passed: bool | None = None


@dataclass(frozen=True)
class Table:
    """A caption, the column names and the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def plain(self) -> list[dict[str, str]]:
        """The rows as text by column name."""
        return [{c: cell.text for c, cell in zip(self.columns, row, strict=True)} for row in self.rows]


def text(value: object) -> Cell:
    """A cell of words."""
    return Cell(wording.mask(str(value)))


def name(value: object) -> Cell:
    """A cell that names a table, a file or a digest."""
    return Cell(wording.mask(str(value)), "code")


def number(value: float | str) -> Cell:
    """A cell with a number, right-aligned; text is taken as formatted already."""
    return Cell(value if isinstance(value, str) else wording.format_number(value), "number")


def mark(passed: bool | None) -> Cell:
    """A cell with a result in words, so that no colour is needed to read it."""
    words = {True: "✓ passed", False: "✗ failed", None: "○ not measured"}
    return Cell(words[passed], "mark", passed)


def _table(caption: str, columns: str, rows: Iterable[Sequence[Cell]]) -> Table:
    return Table(caption, tuple(c.strip() for c in columns.split("|")), tuple(tuple(r) for r in rows))


# ---- what moves ----------------------------------------------------------------------------------


def sources(plan: MigrationPlan) -> Table:
    """The files the application uses today."""
    rows = [
        (
            name(s.label),
            text(s.kind),
            number(len(s.tables)),
            number(sum(t.rows for t in s.tables)),
            number(wording.format_bytes(s.size_bytes)),
            number(wording.format_bytes(s.wal_bytes) if s.wal_bytes else "none"),
            text(s.journal_mode),
            text("; ".join(s.handles) or "nobody"),
        )
        for s in plan.sources
    ]
    return _table("Sources", "file | kind | tables | rows | size | in its WAL | journal | open in", rows)


def planned_tables(plan: MigrationPlan) -> Table:
    """Every table of every source as the plan read it."""
    rows = [
        (name(t.name), name(s.label), number(t.rows), number("" if t.sequence is None else str(t.sequence)))
        for s in plan.sources
        for t in s.tables
    ]
    return _table("Tables", "table | from | rows | sequence", rows)


def merged_tables(account: Account) -> Table:
    """Every table of the unified file."""
    found = account.unified.tables if account.unified else ()
    rows = [
        (
            name(t.name),
            name(f"{t.source}{_became(t)}"),
            number(t.rows),
            number("" if t.sequence is None else str(t.sequence)),
        )
        for t in found
    ]
    return _table("Tables of the unified file", "table | from | rows | sequence", rows)


def _became(facts: TableFacts) -> str:
    was = f", there called {facts.original}" if facts.original else ""
    return f"{was}, united" if facts.united else was


def layout(plan: MigrationPlan) -> Table:
    """What gets another name in the unified file, and which tables become one there."""
    renames = [
        (name(r.object), name(r.source), text("is renamed to"), name(r.to)) for r in plan.layout.renames
    ]
    unions = [
        (name(u.table), text("all"), text("is one table; at home in"), name(u.home))
        for u in plan.layout.unions
    ]
    return _table("Renamed and united", "object | from | becomes | of", [*renames, *unions])


def collisions(plan: MigrationPlan) -> Table:
    """Names that two sources share."""
    rows = [
        (name(c.name), text(wording.join_words(d[0] for d in c.definitions)), text(c.ways_out))
        for c in plan.collisions
    ]
    return _table("Collisions", "name | in | ways out", rows)


def mentions(plan: MigrationPlan) -> Table:
    """Places of the application that use an old name, and that no edit covers."""
    rows = [(name(old), name(place)) for old, place in plan.mentions]
    return _table("Still to be edited, since they name what is renamed", "name | place", rows)


def reaching(plan: MigrationPlan) -> Table:
    """Settings that look like credentials or addresses, by name alone."""
    rows = [(name(where), name(key)) for where, _, key in (r.partition(": ") for r in plan.reaching)]
    return _table("What a staged copy would use: review it before the rehearsal", "where | key", rows)


def edits(account: Account) -> Table:
    """The edits that switch and archive make."""
    rows = [
        (name(account.place(e.file)), text(e.kind), text(f"at the {e.when}"), text(e.summary))
        for e in (account.plan.edits if account.plan else ())
    ]
    return _table("Edits", "file | kind | when | what", rows)


def space(plan: MigrationPlan) -> Table:
    """What a run needs on each file system."""
    rows = [
        (
            name(s.folder),
            number(wording.format_bytes(s.needed_bytes)),
            number(wording.format_bytes(s.free_bytes)),
            mark(s.needed_bytes <= s.free_bytes),
        )
        for s in plan.space
    ]
    return _table("Space", "folder | needed | free | result", rows)


def versions(plan: MigrationPlan) -> Table:
    """What was installed."""
    return _table("Versions", "what | version", [(text(k), name(v)) for k, v in plan.versions.items()])


def backups(account: Account) -> Table:
    """The copies of all sources."""
    rows = [
        (
            name(b.label),
            number(wording.format_bytes(b.size_bytes)),
            name(b.sha256[:16]),
            name(account.place(b.path)),
        )
        for b in (account.backups.items if account.backups else ())
    ]
    return _table("Backups", "source | size | sha256 | copy", rows)


# ---- what the gates found ------------------------------------------------------------------------


def findings(items: Iterable[Finding], caption: str) -> Table:
    """Findings, those that close the gate first."""
    rows = [
        (text(f.check), text(f.where), text(f.required), text(f.measured), mark(f.passed))
        for f in sorted(items, key=lambda f: f.passed)
    ]
    return _table(caption, "check | where | required | measured | result", rows)


def gates(account: Account) -> Table:
    """One row per gate that has a verdict; why it is closed where one is."""
    verdicts = account.verdicts.values()
    rows = [
        (
            text(v.gate.value),
            Cell("✓ open" if v.passed else "✗ closed", "mark", v.passed),
            number(f"{len(v.findings) - len(v.failures)} of {len(v.findings)}"),
            number(wording.format_seconds(v.seconds)),
        )
        for v in verdicts
    ]
    columns = "gate | state | checks passed | took"
    if account.closed:
        explained = [(*row, text(_first_failure(v))) for row, v in zip(rows, verdicts, strict=True)]
        return _table("Gates", f"{columns} | why", explained)
    return _table("Gates", columns, rows)


def _first_failure(verdict: Verdict) -> str:
    if not verdict.findings:
        return "nothing was checked, and that is no pass"
    if verdict.passed:
        return ""
    first = verdict.failures[0]
    said = f"{first.check} ({first.where}): required {first.required}, measured {first.measured}"
    return wording.shorten(said, 300)


def suites(account: Account) -> Table:
    """Each suite on the old files and on the unified file, and the database files it opened there."""
    evidence = account.suites
    if evidence is None:
        return _table("Suites", "suite", ())
    files = {f.suite: f for f in evidence.files}
    newly = Counter(t.suite for t in evidence.tests if t.standing == "closes")
    rows = [
        (text(n), text(b), text(a), number(newly[n]), *_files_of(files.get(n))) for n, b, a in evidence.counts
    ]
    columns = "suite | on the old files | on the unified file | newly failing"
    return _table("Suites", f"{columns} | opened before | opened after", rows)


def _files_of(files: SuiteFiles | None) -> tuple[Cell, Cell]:
    if files is None:
        return text(wording.UNKNOWN), text(wording.UNKNOWN)
    before, after = (", ".join(names) or "none seen" for names in (files.before, files.after))
    return text(before), text(after if files.unified else f"{after}: proves nothing about the move")


def compared_tests(items: Iterable[TestOutcome], caption: str) -> Table:
    """Tests that fail on the unified file: what they do on each side, with the first lines of the failure."""
    rows = [
        (
            text(t.suite),
            name(t.test),
            text(_told(f"{t.before}; {t.again}" if t.again else t.before, t.again_detail)),
            text(_told(t.after, t.detail)),
        )
        for t in items
    ]
    return _table(caption, "suite | test | on the old files | on the unified file", rows)


def _told(outcome: str, detail: str) -> str:
    lines = wording.mask_failure(detail).splitlines()[:_MOST_LINES]
    return f"{outcome}: {' ⏎ '.join(line.strip() for line in lines)}" if lines else outcome


def tests(items: Iterable[TestOutcome], caption: str) -> Table:
    """Tests with their outcome on both sides."""
    rows = [(text(t.suite), name(t.test), text(t.before), text(t.after)) for t in items]
    return _table(caption, "suite | test | before | after", rows)


def latencies(account: Account, items: Sequence[Latency], caption: str) -> Table:
    """Response times on both sides, with the interval of their ratio."""
    rows = [
        (
            text(one.name),
            number(one.concurrency),
            number(wording.format_ms(one.before_ms)),
            number(wording.format_ms(one.after_ms)),
            number(wording.format_ms(one.before_p95_ms)),
            number(wording.format_ms(one.after_p95_ms)),
            number(wording.format_ratio(one.ratio)),
            number(wording.format_bounds(one.low, one.high)),
            number(_control_of(account, one)),
            mark(within(account, one)),
        )
        for one in items
    ]
    columns = (
        "request | at a time | median before | after | p95 before | p95 after | ratio | interval "
        "| old against old | result"
    )
    return _table(caption, columns, rows)


def _control_of(account: Account, latency: Latency) -> str:
    """The same of the old application against a second copy of itself: what is only noise."""
    evidence = account.benchmark
    beside = (*evidence.control, *evidence.control_operations) if evidence else ()
    key = (latency.name, latency.concurrency)
    found = next((c for c in beside if (c.name, c.concurrency) == key), None)
    if found is None:
        return wording.UNKNOWN
    return f"{wording.format_ratio(found.ratio)} ({wording.format_bounds(found.low, found.high)})"


def criteria(items: Iterable[Criterion], caption: str) -> Table:
    """What the plan asks for, against what was measured; the result first, as pages cut wide tables off."""
    rows = [(text(c.name), mark(c.passed), text(c.measured), text(c.required)) for c in items]
    return _table(caption, "criterion | result | measured | required", rows)


# ---- what was done -------------------------------------------------------------------------------


def spans(items: Iterable[Span]) -> Table:
    """The phases and what they took."""
    rows = [
        (text(s.phase), number("" if s.seconds is None else wording.format_seconds(s.seconds)), text(s.note))
        for s in items
    ]
    return _table("Phases", "phase | took | result", rows)


def cutover(account: Account) -> Table:
    """The switch in numbers."""
    record = account.cutover
    if record is None:
        return _table("Cut-over", "what | measured", ())
    restart = max(record.downtime_ms - record.write_pause_ms, 0.0)
    rows = [
        ("switched", wording.format_moment(record.switched_at)),
        ("stop to first healthy answer", wording.format_ms(record.downtime_ms)),
        ("of it a plain restart", wording.format_ms(restart)),
        ("of it our pause for writers", wording.format_ms(record.write_pause_ms)),
        ("rows written after the backup, carried over", wording.format_number(record.late_rows)),
        ("files edited", wording.format_number(len(record.edited))),
        ("process started", "none: you start it" if record.pid is None else str(record.pid)),
    ]
    return _table("Cut-over", "what | measured", [(text(a), text(b)) for a, b in rows])


def originals(account: Account) -> Table:
    """Where the old files lie now."""
    moved = account.cutover.originals if account.cutover else ()
    rows = [(name(account.place(old)), name(account.place(new))) for old, new in moved]
    return _table("Old files", "was at | lies at", rows)


def archive(account: Account) -> Table:
    """The archived files."""
    rows = [
        (
            name(f.label),
            number(wording.format_bytes(f.original_bytes)),
            number(wording.format_bytes(f.archived_bytes)),
            name(f.sha256[:16]),
            name(f.archived.name),
        )
        for f in (account.archive.files if account.archive else ())
    ]
    return _table("Archived files", "file | size | archived | sha256 | as", rows)


def places(items: Iterable[str], caption: str, column: str) -> Table:
    """A list of places as a table of one column."""
    return _table(caption, column, [(name(p),) for p in items])


def paths(account: Account, items: Iterable[Path], caption: str) -> Table:
    """A list of files as a table of one column."""
    return places((account.place(p) for p in items), caption, "file")


def carried(account: Account) -> Table:
    """What was written since the switch and went back into the old files."""
    rows = [
        (name(table), *(number(n) for n in counts))
        for table, *counts in (account.rollback.carried if account.rollback else ())
    ]
    return _table("Carried back", "table | inserted | updated | deleted", rows)


def schema_carried(account: Account) -> Table:
    """What of the schema changed since the switch and went back into the old files."""
    changes = account.rollback.schema_carried if account.rollback else ()
    return _table("Schema carried back", "into | what", [(name(s), text(what)) for s, what in changes])


def set_aside(account: Account) -> Table:
    """What a rollback found in its places and kept elsewhere."""
    found = account.rollback.set_aside if account.rollback else ()
    rows = [(name(account.place(a.path)), text(a.why), name(account.place(a.kept))) for a in found]
    return _table("Set aside", "file | what it was | kept at", rows)


def digest_table(account: Account) -> Table:
    """Everything that the run's proof rests on, by SHA-256."""
    return _table(
        "Digests", "what | file | sha256", [(text(a), name(b), name(c)) for a, b, c in digests(account)]
    )
