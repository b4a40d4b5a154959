"""What Prefect and a terminal show of one phase: a sentence and compact tables, as Markdown and as cells.

Pure: records in, text out. The page of the whole run is made in :mod:`unified_db.migration.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unified_db.errors import UnifyError
from unified_db.migration import account as accounts
from unified_db.migration import criteria, markdown, plots, question_pages, tables, wording
from unified_db.migration.account import Account
from unified_db.migration.records import (
    BenchmarkEvidence,
    EditPreview,
    GateName,
    Risk,
    TestOutcome,
    count_tables,
)
from unified_db.migration.runs import RunFolder

_MAX_PICTURE_CHARS = 100_000


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff and what it is: added, removed, place, file or same."""

    kind: str
    text: str


def diff_lines(edit: EditPreview) -> list[DiffLine]:
    """The lines of an edit's diff; values of a dotenv file that are not the switch's own are hidden."""
    masked = wording.mask_dotenv_diff(edit.diff) if edit.kind == "dotenv" else wording.mask(edit.diff)
    return [DiffLine(_diff_kind(line), line) for line in masked.splitlines()]


def _diff_kind(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return "file"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")


def phase_markdown(phase: str, run: RunFolder) -> str:
    """What a person sees in Prefect about *phase*: a sentence and compact tables, under 1 MB.

    Args:
        phase: plan, backup, merge, validate, stage, suites, benchmark, approval, cutover, archive or
            rollback.
        run: Where its records are; a phase without one says so.
    """
    account = accounts.load_account(run)
    if not _has(account, phase):
        return f"# {phase}: nothing is recorded yet\n"
    return _PHASES[phase](account)


def stopped_markdown(phase: str, run: RunFolder, error: Exception) -> str:
    """Why *phase* ended with *error*: what it says, what to do, and what it had recorded by then."""
    account = accounts.load_account(run)
    # What another library says may hold values of the database.
    said = error.message if isinstance(error, UnifyError) else type(error).__name__
    first, *more = wording.mask(said).splitlines() or [""]
    hint = f"**Next:** {markdown.plain(error.hint)}" if isinstance(error, UnifyError) and error.hint else ""
    traceback = "" if isinstance(error, UnifyError) else f"The traceback is in {markdown.code(str(run.log))}."
    record = _PHASES[phase](account) if _has(account, phase) else ""
    return markdown.join(
        f"# {phase} stopped: {markdown.plain(wording.shorten(first, _MAX_CELL))}",
        markdown.fence("\n".join([first, *more])) if more or len(first) > _MAX_CELL else "",
        hint,
        traceback,
        record,
    )


_MAX_CELL = 300
_MOST_PLACES = 6

_PHASE_GATES = {"validate": GateName.VALIDATION, "suites": GateName.SUITES, "benchmark": GateName.BENCHMARK}


def _has(account: Account, phase: str) -> bool:
    if phase in _PHASE_GATES:
        return _PHASE_GATES[phase] in account.verdicts
    if phase == "stage":
        return (account.run.evidence / "stage.json").exists()
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
        *_risk_lists(plan.risks),
        _listed("Missing in unify.toml", plan.missing),
        *(
            markdown.titled(t)
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
        markdown.titled(tables.space(plan)),
        markdown.titled(tables.versions(plan)),
    )


def _risk_lists(risks: Sequence[Risk]) -> list[str]:
    groups = (("Risks", False), ("Risks that are taken care of", True))
    return [
        _listed(title, [_risk_line(r) for r in risks if r.handled is handled]) for title, handled in groups
    ]


def _risk_line(risk: Risk) -> str:
    shown = ", ".join(risk.where[:_MOST_PLACES])
    more = f" and {len(risk.where) - _MOST_PLACES} more" if len(risk.where) > _MOST_PLACES else ""
    return " ".join(p for p in (risk.sentence, f"({shown}{more})" if shown else "", risk.remedy) if p)


def _listed(title: str, sentences: Sequence[str]) -> str:
    lines = [f"- {markdown.plain(s)}" for s in sentences]
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


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
        f"{wording.count(count_tables(unified.tables), 'table')} and {wording.count(rows, 'row')}"
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


def _stage_markdown(account: Account) -> str:
    return markdown.join(
        "# Two copies of the application's tree, one of them switched",
        "One copy uses the old files, the other the unified file with the edits below. Suites and benchmark "
        "run on both, never on the application itself; the copies are removed afterwards.",
        markdown.titled(tables.edits(account)),
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
        *(markdown.titled(tables.compared_tests(tests, caption), limit=100) for tests, caption in compared),
        *(markdown.titled(tables.tests(tests, caption), limit=100) for tests, caption in groups),
        *(_failure_block(t) for t in found.broken[:20] if t.detail),
        markdown.titled(tables.findings(account.verdicts[GateName.SUITES].findings, "Checks")),
    )


def _failure_block(test: TestOutcome) -> str:
    return f"{markdown.code(test.test)}\n\n{markdown.fence(failure(test))}"


def _benchmark_markdown(account: Account) -> str:
    evidence = account.benchmark
    parts: list[str] = []
    if evidence is not None:
        parts = [
            latency_picture(account),
            markdown.titled(tables.latencies(account, evidence.latencies, "Requests")),
            markdown.titled(tables.latencies(account, evidence.operations, "LangGraph operations")),
            _evidence_said(evidence),
            markdown.titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        ]
    return markdown.join(
        _gate_heading(account, GateName.BENCHMARK),
        *parts,
        markdown.titled(tables.findings(account.verdicts[GateName.BENCHMARK].findings, "Checks")),
    )


def _evidence_said(evidence: BenchmarkEvidence) -> str:
    blocks = wording.count(evidence.blocks, "block")
    restart = wording.format_ms(evidence.restart_ms)
    parts = [f"Evidence: {blocks}. A plain restart of the application takes {restart}."]
    parts += [markdown.plain(evidence.control_said)] if evidence.control_said else []
    if evidence.operations_by:
        kept = ", ".join(f"[{Path(f).name}]({f})" for f in evidence.operations_files)
        parts.append(f"LangGraph operations: {markdown.plain(evidence.operations_by)}. {kept}".strip())
    return "\n\n".join(parts)


def _gate_heading(account: Account, gate: GateName) -> str:
    sentence = account.verdicts[gate].sentence()
    return f"# {markdown.plain(sentence[0].upper() + sentence[1:])}"


def _verdict_table(account: Account, gate: GateName) -> str:
    return markdown.table(tables.findings(account.verdicts[gate].findings, ""))


def _approval_markdown(account: Account) -> str:
    return markdown.join(
        question_pages.page(account),
        markdown.titled(tables.gates(account)),
        markdown.titled(tables.criteria(criteria.criteria(account), "What the plan asks for")),
        markdown.titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        markdown.titled(tables.edits(account)),
        latency_picture(account),
        where_more(account),
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
        markdown.titled(tables.findings(record.health, "Health")),
        markdown.titled(tables.paths(account, record.edited, "Edited files")),
        markdown.titled(tables.originals(account)),
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
        markdown.titled(tables.paths(account, record.edited, "Edited files")),
        markdown.titled(tables.places(record.mentions, "Still naming an old path", "place")),
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
        markdown.titled(tables.carried(account)),
        markdown.titled(tables.schema_carried(account)),
        markdown.titled(tables.places(record.left_behind, "Left in the unified file", "what")),
        markdown.titled(tables.set_aside(account)),
        markdown.titled(tables.findings(record.findings, "Checks")),
        markdown.titled(tables.paths(account, record.restored, "Restored")),
    )


_PHASES: dict[str, Callable[[Account], str]] = {
    "plan": _plan_markdown,
    "backup": _backup_markdown,
    "merge": _merge_markdown,
    "validate": _validate_markdown,
    "stage": _stage_markdown,
    "suites": _suites_markdown,
    "benchmark": _benchmark_markdown,
    "approval": _approval_markdown,
    "cutover": _cutover_markdown,
    "archive": _archive_markdown,
    "rollback": _rollback_markdown,
}


def latency_picture(account: Account) -> str:
    """Response times before and after as a picture in the text; empty where none were measured."""
    measured = account.benchmark.latencies if account.benchmark else ()
    if not measured:
        return ""
    uri = plots.data_uri(plots.picture(measured, account.limits.max_ratio))
    words = f"Response times before and after of {wording.count(len(measured), 'request')}"
    if len(uri) > _MAX_PICTURE_CHARS:
        return f"{words}: see report.html."
    return f"## Response times\n\n![{words}]({uri})"


def warned(warnings: Sequence[str]) -> str:
    """The warnings as a list with its heading; empty without one."""
    lines = [f"- {markdown.plain(w)}" for w in warnings]
    return "**Warnings:**\n\n" + "\n".join(lines) if lines else ""


def failure(test: TestOutcome) -> str:
    """The first lines of a failed test without the values that it compared."""
    return wording.mask_failure(test.detail)


def where_more(account: Account) -> str:
    """Where the whole report lies."""
    return f"Everything of this run: {markdown.code(str(account.run.report))}"


def all_phases(account: Account) -> list[str]:
    """The page of every phase that has a record, in their order."""
    # The page of the approval repeats the summary, for whoever sees that page alone.
    phases = {**_PHASES, "approval": question_pages.page}
    # That of the staging says nothing that is not on those of plan and suites.
    return [render(account) for phase, render in phases.items() if phase != "stage" and _has(account, phase)]
