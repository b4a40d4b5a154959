"""What a run found and did, for people: report.html, report.md, Prefect's artifacts, unified-schema.md.

Pure: records in, text out. It shows names, counts, sizes, digests and places, never a value out of
a database, a dotenv file or a request; logins in URLs are masked wherever they turn up.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unified_db import files
from unified_db.migration import account as accounts
from unified_db.migration import criteria, markdown, plots, question_pages, tables, wording
from unified_db.migration.account import Account, Standing
from unified_db.migration.records import (
    BenchmarkEvidence,
    EditPreview,
    GateName,
    Latency,
    MigrationPlan,
    SchemaObject,
    SourceFacts,
    TestOutcome,
)
from unified_db.migration.runs import RunFolder
from unified_db.migration.tables import Table

_TEMPLATES = Path(__file__).with_name("templates")
_OWNER_ONLY = 0o600
_MAX_PICTURE_CHARS = 100_000
_MAX_TESTS_IN_FULL = 50

_TONES = {
    Standing.EMPTY: "neutral",
    Standing.STOPPED: "warn",
    Standing.CLOSED: "bad",
    Standing.OPEN: "good",
    Standing.WAITING: "warn",
    Standing.REJECTED: "bad",
    Standing.UNDONE: "bad",
    Standing.INTERRUPTED: "bad",
    Standing.SWITCHED: "good",
    Standing.ARCHIVED: "good",
    Standing.ROLLED_BACK: "neutral",
}


def write_report(run: RunFolder) -> Path:
    """Write report.html and report.md of *run* from the records that are there.

    Both are for their owner only and replaced as a whole, so it may be called after every phase.

    Returns:
        The path of report.html.
    """
    account = accounts.load_account(run)
    files.write_durably(run.summary, _whole_markdown(account).encode(), mode=_OWNER_ONLY)
    files.write_durably(run.report, render_html(account).encode(), mode=_OWNER_ONLY)
    return run.report


# ---- HTML ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff and what it is: added, removed, place, file or same."""

    kind: str
    text: str


@dataclass(frozen=True)
class LatencyView:
    """One measured request with its two figures."""

    latency: Latency
    passed: bool
    why: str
    spread: Markup
    interval: Markup


def render_html(account: Account) -> str:
    """The whole report as one HTML page that needs nothing else."""
    page = _environment().get_template("report.html.j2").render(**_context(account))
    # Once more over everything: no login may come through by a way that nobody thought of.
    return wording.mask(page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_masked,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tables=tables, wording=wording, hatch=plots.hatch)
    return environment


def _masked(value: object) -> object:
    if value is None:
        return ""
    return value if isinstance(value, Markup) else wording.mask(str(value))


def _context(account: Account) -> dict[str, Any]:
    where = accounts.standing(account)
    return {
        "account": account,
        "headline": accounts.headline(account),
        "standing": where.value,
        "tone": _TONES[where],
        "steps": accounts.next_steps(account),
        "timeline": _timeline(account),
        "criteria": tables.criteria(criteria.criteria(account), "Success criteria"),
        "metrics": tables.criteria(criteria.metrics(account), "Metrics"),
        "gates": list(GateName),
        "tests": accounts.sort_tests(account),
        "failure": _failure,
        "in_full": _MAX_TESTS_IN_FULL,
        "latency": _views(account, account.benchmark.latencies if account.benchmark else ()),
        "operations": _views(account, account.benchmark.operations if account.benchmark else ()),
        "edits": [(edit, diff_lines(edit)) for edit in (account.plan.edits if account.plan else ())],
        "warnings": _warnings(account),
        "rows": sum(t.rows for t in account.unified.tables) if account.unified else None,
    }


def _timeline(account: Account) -> list[tuple[accounts.Span, float]]:
    """Each phase with its share of the longest, in per cent."""
    found = accounts.timeline(account)
    longest = max((s.seconds or 0.0 for s in found), default=0.0)
    return [(s, 100 * (s.seconds or 0.0) / longest if longest else 0.0) for s in found]


def _views(account: Account, latencies: tuple[Latency, ...]) -> list[LatencyView]:
    axis = plots.ratio_axis(latencies, account.limits.max_ratio)
    return [
        LatencyView(
            latency=one,
            passed=criteria.within(account, one),
            why=criteria.why(account, one),
            spread=plots.spread(one),
            interval=plots.interval(one, axis),
        )
        for one in latencies
    ]


def _failure(test: TestOutcome) -> str:
    return wording.mask_failure(test.detail)


def _warnings(account: Account) -> list[str]:
    unreadable = [
        f"{name} in the run's folder cannot be read; what it says is missing here."
        for name in account.unreadable
    ]
    return [*unreadable, *(account.plan.warnings if account.plan else ())]


def diff_lines(edit: EditPreview) -> list[DiffLine]:
    """The lines of an edit's diff; values of a dotenv file that are not the switch's own are hidden."""
    masked = wording.mask_dotenv_diff(edit.diff) if edit.kind == "dotenv" else wording.mask(edit.diff)
    return [DiffLine(_diff_kind(line), line) for line in masked.splitlines()]


def _diff_kind(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return "file"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")


# ---- Markdown: summary and whole -----------------------------------------------------------------


def summary_markdown(run: RunFolder) -> str:
    """The run on one page: sentence, next step, verdicts, response times as a picture."""
    account = accounts.load_account(run)
    return markdown.join(_summary_text(account), _latency_picture(account), _where_more(account))


def _summary_text(account: Account) -> str:
    return markdown.join(
        f"# {markdown.plain(accounts.headline(account))}",
        _steps(account),
        _warned(_warnings(account)),
        _titled(tables.gates(account)),
        _titled(tables.criteria(criteria.criteria(account), "What the plan asks for")),
        _titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        _pause(account),
    ).rstrip("\n")


def _steps(account: Account) -> str:
    lines = [
        f"- {markdown.plain(s.text)}" + (f" {markdown.code(s.command)}" if s.command else "")
        for s in accounts.next_steps(account)
    ]
    return f"**Next** (in {markdown.code(str(account.home))}):\n\n" + "\n".join(lines)


def _warned(warnings: Sequence[str]) -> str:
    lines = [f"- {markdown.plain(w)}" for w in warnings]
    return "**Warnings:**\n\n" + "\n".join(lines) if lines else ""


def _titled(content: Table, *, limit: int = 200) -> str:
    body = markdown.table(content, limit=limit)
    return f"## {content.caption}\n\n{body}" if body else ""


def _pause(account: Account) -> str:
    if account.cutover is None:
        return ""
    away = wording.format_ms(account.cutover.downtime_ms)
    pause = wording.format_ms(account.cutover.write_pause_ms)
    return f"The application was away for {away}; {pause} of that was ours, the rest a plain restart."


def _latency_picture(account: Account) -> str:
    measured = account.benchmark.latencies if account.benchmark else ()
    if not measured:
        return ""
    uri = plots.data_uri(plots.picture(measured, account.limits.max_ratio))
    words = f"Response times before and after of {wording.count(len(measured), 'request')}"
    if len(uri) > _MAX_PICTURE_CHARS:
        return f"{words}: see report.html."
    return f"## Response times\n\n![{words}]({uri})"


def _where_more(account: Account) -> str:
    return f"Everything of this run: {markdown.code(str(account.run.report))}"


def _whole_markdown(account: Account) -> str:
    """report.md: the summary and every phase, without pictures, readable in a terminal."""
    # The page of the approval repeats the summary, for whoever sees that page alone.
    phases = {**_PHASES, "approval": question_pages.page}
    parts = [render(account) for phase, render in phases.items() if _has(account, phase)]
    demoted = [re.sub(r"(?m)^(#+ )", r"#\1", part) for part in parts]
    return markdown.join(_summary_text(account), *demoted, _titled(tables.digest_table(account)))


# ---- Markdown: one phase -------------------------------------------------------------------------


def phase_markdown(phase: str, run: RunFolder) -> str:
    """What a person sees in Prefect about *phase*: a sentence and compact tables, under 1 MB.

    Args:
        phase: plan, backup, merge, validate, suites, benchmark, approval, cutover, archive or rollback.
        run: Where its records are; a phase without one says so.
    """
    account = accounts.load_account(run)
    if not _has(account, phase):
        return f"# {phase}: nothing is recorded yet\n"
    return _PHASES[phase](account)


def question_markdown(run: RunFolder, *, refused: str = "") -> str:
    """What stands above the form that asks a person about *run*.

    *refused* says why the last answer was not taken, where there was one.
    """
    return question_pages.form(accounts.load_account(run), refused=refused)


def phase_table(phase: str, run: RunFolder) -> list[dict[str, str]]:
    """The one table that says most about *phase*, as plain text cells; empty without a record."""
    account = accounts.load_account(run)
    if not _has(account, phase):
        return []
    rows = _PHASE_TABLES[phase](account).plain()[:_MAX_ROWS]
    return [{k: wording.shorten(v, _MAX_CELL) for k, v in row.items()} for row in rows]


_MAX_ROWS = 500
_MAX_CELL = 300

_PHASE_GATES = {"validate": GateName.VALIDATION, "suites": GateName.SUITES, "benchmark": GateName.BENCHMARK}


def _has(account: Account, phase: str) -> bool:
    if phase in _PHASE_GATES:
        return _PHASE_GATES[phase] in account.verdicts
    record = {"backup": "backups", "merge": "unified", "approval": "question"}.get(phase, phase)
    return getattr(account, record) is not None


def _plan_markdown(account: Account) -> str:
    plan = account.plan
    assert plan is not None
    rows = sum(t.rows for s in plan.sources for t in s.tables)
    clash = f"; {wording.count(len(plan.collisions), 'collision')} in the way" if plan.collisions else ""
    sentence = (
        f"{wording.count(len(plan.sources), 'file')} with {wording.count(rows, 'row')} would become "
        f"{plan.target.name} in about {wording.format_seconds(plan.estimated_s)}{clash}"
    )
    return markdown.join(
        f"# {markdown.plain(sentence)}",
        _warned(plan.warnings),
        *(
            _titled(t)
            for t in (
                tables.collisions(plan),
                tables.layout(plan),
                tables.mentions(plan),
                tables.reaching(plan),
                tables.sources(plan),
                tables.planned_tables(plan),
                tables.edits(account),
            )
        ),
        *(
            markdown.fence("\n".join(line.text for line in diff_lines(e)), "diff")
            for e in plan.edits
            if e.diff
        ),
        _titled(tables.space(plan)),
        _titled(tables.versions(plan)),
    )


def _backup_markdown(account: Account) -> str:
    backups = account.backups
    assert backups is not None
    size = wording.format_bytes(sum(b.size_bytes for b in backups.items))
    sentence = (
        f"{wording.count(len(backups.items), 'backup')}, {size}, of one instant: "
        f"{wording.format_moment(backups.taken_at)}"
    )
    return markdown.join(
        f"# {markdown.plain(sentence)}",
        f"Writers were held off for {wording.format_ms(backups.lock_ms)}; "
        f"all of it took {wording.format_seconds(backups.seconds)}. "
        "Each copy is a plain SQLite file, what was in the WAL included: `cp` restores it.",
        markdown.table(tables.backups(account)),
    )


def _merge_markdown(account: Account) -> str:
    unified = account.unified
    assert unified is not None
    rows = sum(t.rows for t in unified.tables)
    sentence = (
        f"One file of {wording.format_bytes(unified.size_bytes)} with "
        f"{wording.count(len(unified.tables), 'table')} and {wording.count(rows, 'row')}"
    )
    return markdown.join(
        f"# {sentence}",
        f"Merged from the backups in {wording.format_seconds(unified.seconds)}; "
        "it takes its place only with the switch.",
        markdown.table(tables.merged_tables(account)),
        f"SHA-256 {markdown.code(unified.sha256)}",
    )


def _validate_markdown(account: Account) -> str:
    return markdown.join(
        _gate_heading(account, GateName.VALIDATION), _verdict_table(account, GateName.VALIDATION)
    )


def _suites_markdown(account: Account) -> str:
    found = accounts.sort_tests(account)
    compared = (
        (found.broken, "Newly failing: closes the gate"),
        (found.unsteady, "Not steady: fail on the old files too"),
    )
    groups = (
        (found.mended, "Pass only on the unified file"),
        (found.changed, "Another outcome"),
        (found.still_red, "Red before and after, which may stay so"),
    )
    return markdown.join(
        _gate_heading(account, GateName.SUITES),
        markdown.table(tables.suites(account)),
        *(_titled(tables.compared_tests(tests, caption), limit=100) for tests, caption in compared),
        *(_titled(tables.tests(tests, caption), limit=100) for tests, caption in groups),
        *(_failure_block(t) for t in found.broken[:20] if t.detail),
        _titled(tables.findings(account.verdicts[GateName.SUITES].findings, "Checks")),
    )


def _failure_block(test: TestOutcome) -> str:
    return f"{markdown.code(test.test)}\n\n{markdown.fence(_failure(test))}"


def _benchmark_markdown(account: Account) -> str:
    evidence = account.benchmark
    parts: list[str] = []
    if evidence is not None:
        parts = [
            _latency_picture(account),
            _titled(tables.latencies(account, evidence.latencies, "Requests")),
            _titled(tables.latencies(account, evidence.operations, "LangGraph operations")),
            _evidence_said(evidence),
            _titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        ]
    return markdown.join(
        _gate_heading(account, GateName.BENCHMARK),
        *parts,
        _titled(tables.findings(account.verdicts[GateName.BENCHMARK].findings, "Checks")),
    )


def _evidence_said(evidence: BenchmarkEvidence) -> str:
    blocks = wording.count(evidence.blocks, "block")
    restart = wording.format_ms(evidence.restart_ms)
    return f"Evidence: {blocks}. A plain restart of the application takes {restart}."


def _gate_heading(account: Account, gate: GateName) -> str:
    sentence = account.verdicts[gate].sentence()
    return f"# {markdown.plain(sentence[0].upper() + sentence[1:])}"


def _verdict_table(account: Account, gate: GateName) -> str:
    return markdown.table(tables.findings(account.verdicts[gate].findings, ""))


def _approval_markdown(account: Account) -> str:
    return markdown.join(
        question_pages.page(account),
        _titled(tables.gates(account)),
        _titled(tables.criteria(criteria.criteria(account), "What the plan asks for")),
        _titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        _titled(tables.edits(account)),
        _latency_picture(account),
        _where_more(account),
    )


def _cutover_markdown(account: Account) -> str:
    record = account.cutover
    assert record is not None
    sentence = (
        f"Switched to {record.target.name}: away for {wording.format_ms(record.downtime_ms)}, "
        f"{wording.format_ms(record.write_pause_ms)} of it ours"
    )
    return markdown.join(
        f"# {markdown.plain(sentence)}",
        markdown.table(tables.cutover(account)),
        _titled(tables.findings(record.health, "Health")),
        _titled(tables.paths(account, record.edited, "Edited files")),
        _titled(tables.originals(account)),
        f"To take it back: {markdown.code(f'unify-db rollback {account.run.name}')}",
    )


def _archive_markdown(account: Account) -> str:
    record = account.archive
    assert record is not None
    before = sum(f.original_bytes for f in record.files)
    after = sum(f.archived_bytes for f in record.files)
    sentence = (
        f"{wording.count(len(record.files), 'old file')} archived, {wording.format_bytes(before)} in "
        f"{wording.format_bytes(after)}, kept until {record.keep_until:%Y-%m-%d}"
    )
    return markdown.join(
        f"# {sentence}",
        f"In {markdown.code(str(record.folder))}, read back and equal by digest.",
        markdown.table(tables.archive(account)),
        _titled(tables.paths(account, record.edited, "Edited files")),
        _titled(tables.places(record.mentions, "Still naming an old path", "place")),
    )


def _rollback_markdown(account: Account) -> str:
    record = account.rollback
    assert record is not None
    aside = (
        f"The unified file is kept at {markdown.code(str(record.kept_aside))}." if record.kept_aside else ""
    )
    moment = f"Taken back at {wording.format_moment(record.rolled_back_at)}."
    changes = sum(sum(c[1:]) for c in record.carried)
    return markdown.join(
        f"# Taken back: the old files are in use again, {wording.count(changes, 'change')} carried back",
        f"{moment} {aside}".strip(),
        _titled(tables.carried(account)),
        _titled(tables.findings(record.findings, "Checks")),
        _titled(tables.paths(account, record.restored, "Restored")),
    )


_PHASES: dict[str, Callable[[Account], str]] = {
    "plan": _plan_markdown,
    "backup": _backup_markdown,
    "merge": _merge_markdown,
    "validate": _validate_markdown,
    "suites": _suites_markdown,
    "benchmark": _benchmark_markdown,
    "approval": _approval_markdown,
    "cutover": _cutover_markdown,
    "archive": _archive_markdown,
    "rollback": _rollback_markdown,
}


def _plan_table(account: Account) -> Table:
    assert account.plan is not None
    return tables.planned_tables(account.plan)


def _gate_table(gate: GateName) -> Callable[[Account], Table]:
    return lambda account: tables.findings(account.verdicts[gate].findings, gate.value)


def _health_table(account: Account) -> Table:
    return tables.findings(account.cutover.health if account.cutover else (), "Health")


def _rollback_table(account: Account) -> Table:
    return tables.findings(account.rollback.findings if account.rollback else (), "Checks")


_PHASE_TABLES: dict[str, Callable[[Account], Table]] = {
    "plan": _plan_table,
    "backup": tables.backups,
    "merge": tables.merged_tables,
    **{phase: _gate_table(gate) for phase, gate in _PHASE_GATES.items()},
    "approval": tables.gates,
    "cutover": _health_table,
    "archive": tables.archive,
    "rollback": _rollback_table,
}


# ---- unified-schema.md ---------------------------------------------------------------------------


def schema_markdown(plan: MigrationPlan) -> str:
    """unified-schema.md: every table, index, trigger and view of the unified file and where it comes from."""
    names = {t.name for s in plan.sources for t in s.tables}
    contents = [_schema_contents(s) for s in plan.sources]
    size = f"{wording.count(len(plan.sources), 'file')} with {wording.count(len(names), 'table')}"
    moment = wording.format_moment(plan.created_at)
    # Nothing is cut here: the file lies in the run's folder and is no artifact.
    parts = [
        f"# Schema of {plan.target.name}",
        f"{size}; planned {moment} in run {plan.run}. Renames: {_renames(plan)}.",
        "## Contents\n\n" + "\n".join(contents),
        _titled(tables.collisions(plan)),
        _titled(tables.layout(plan)),
        *(_schema_source(s) for s in plan.sources),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _renames(plan: MigrationPlan) -> str:
    words = [f"{r.object} of {r.source} to {r.to}" for r in plan.layout.renames]
    return markdown.plain("; ".join(words)) if words else "none"


def _schema_contents(source: SourceFacts) -> str:
    links = (
        f"  - [{markdown.plain(item.name)}](#{_anchor(source, item)})"
        for item in _objects(source, "table", "view")
    )
    return "\n".join([f"- {markdown.code(source.label)} ({source.kind})", *links])


def _anchor(source: SourceFacts, item: SchemaObject) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{item.kind}-{item.name}-{source.label}".lower()).strip("-")


def _schema_source(source: SourceFacts) -> str:
    dependents: dict[str, list[SchemaObject]] = defaultdict(list)
    for item in source.objects:
        if item.kind in {"index", "trigger"}:
            dependents[item.table].append(item)
    facts = {t.name: t for t in source.tables}
    header = (
        f"{source.kind}, {source.encoding}, pages of {source.page_size} bytes, "
        f"journal mode {source.journal_mode}, user_version {source.user_version}, "
        f"application_id {source.application_id}"
    )
    parts = [f"## From {markdown.code(source.label)}", header]
    for table in _objects(source, "table"):
        fact = facts.get(table.name)
        rows = f"{wording.count(fact.rows, 'row')}" if fact else "kept by SQLite itself"
        counter = f"; AUTOINCREMENT counter at {fact.sequence}" if fact and fact.sequence is not None else ""
        parts += [_schema_heading(source, table), f"{rows}{counter}", _definition(table)]
        parts += [_dependent(d) for d in dependents.pop(table.name, [])]
    for view in _objects(source, "view"):
        parts += [_schema_heading(source, view), "view", _definition(view)]
        parts += [_dependent(d) for d in dependents.pop(view.name, [])]
    return "\n\n".join(parts)


def _schema_heading(source: SourceFacts, item: SchemaObject) -> str:
    return f'<a id="{_anchor(source, item)}"></a>\n\n### {markdown.code(item.name)}'


def _dependent(item: SchemaObject) -> str:
    if item.sql is None:
        return f"{item.kind} {markdown.code(item.name)}: made by SQLite for a PRIMARY KEY or UNIQUE"
    return f"{item.kind} {markdown.code(item.name)}\n\n{_definition(item)}"


def _definition(item: SchemaObject) -> str:
    return markdown.fence(f"{item.sql};", "sql") if item.sql else "no definition of its own"


def _objects(source: SourceFacts, *kinds: str) -> list[SchemaObject]:
    return [o for o in source.objects if o.kind in kinds]
