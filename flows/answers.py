"""What a verb answers: one JSON object with documented keys, and the same for people.

Read from records and journal alone, so that `status` tells what the run itself told.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from unified_db.errors import ExitCode, UnifyError
from unified_db.migration import criteria, standings
from unified_db.migration.account import load_account
from unified_db.migration.journal import read_state
from unified_db.migration.records import (
    ArchiveRecord,
    CutoverRecord,
    Decision,
    GateName,
    MigrationPlan,
    Question,
    RollbackRecord,
    Verdict,
    count_tables,
)
from unified_db.migration.runs import RunFolder
from unified_db.migration.standalone import MergeReport

_MAX_FINDINGS = 10


@dataclass(frozen=True)
class Answer:
    """What a verb has to say when it has ended.

    Attributes:
        message: One sentence.
        hint: What to do next; empty where nothing is.
        facts: The verb's own keys of the JSON object.
        page: What people see on standard output; without it message and hint.
    """

    message: str
    hint: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    page: RenderableType | None = None
    exit_code: ExitCode = ExitCode.DONE
    error: str | None = None


def as_json(verb: str, run: str | None, answer: Answer) -> dict[str, Any]:
    """The one object that `--json` prints."""
    return {
        "ok": answer.exit_code == ExitCode.DONE,
        "verb": verb,
        "run": run,
        "exit_code": int(answer.exit_code),
        "error": answer.error,
        "message": answer.message or None,
        "hint": answer.hint or None,
        **answer.facts,
    }


def answer_failure(error: UnifyError, run: RunFolder | None) -> Answer:
    """An error of ours as an answer, with what its run left."""
    return Answer(
        message=error.message,
        hint=error.hint,
        facts=run_facts(run) if run is not None else {},
        exit_code=error.exit_code,
        error=type(error).__name__,
    )


def answer_run(run: RunFolder) -> Answer:
    """Where *run* stands, for `run`, `dry-run`, `resume`, `rollback` and `status`."""
    headline = standings.headline(load_account(run))
    facts = run_facts(run)
    page = _run_page(run, headline, facts)
    return Answer(message=headline, hint=facts["next"], facts=facts, page=page)


def answer_decision(run: RunFolder, decision: Decision) -> Answer:
    """What `approve` or `reject` wrote down, and what to do next."""
    facts = {**run_facts(run), "decision": decision.model_dump(mode="json")}
    return Answer(message=f"run {run.name}: {decision.sentence()}", hint=facts["next"], facts=facts)


def run_facts(run: RunFolder) -> dict[str, Any]:
    """The documented keys of a run."""
    state = read_state(run)
    question = run.load("question", Question)
    switched = run.load("cutover", CutoverRecord)
    archived = run.load("archive", ArchiveRecord)
    uncommitted = find_uncommitted(run, state.state)
    return {
        "state": state.state,
        "verdicts": [verdict_facts(v) for v in load_verdicts(run)],
        **criteria_facts(run),
        "write_pause_ms": switched.write_pause_ms if switched else None,
        "downtime_ms": switched.downtime_ms if switched else None,
        "report": str(run.report) if run.report.exists() else None,
        "archive": str(archived.folder) if archived else None,
        "next": " ".join([state.next, *_reminder(run, uncommitted)]),
        "uncommitted": list(uncommitted),
        "mentions": list(archived.mentions) if archived else [],
        "phases": list(state.phases),
        "waits_until": question.expires_at.isoformat() if question and state.state == "waiting" else None,
        "evidence": question.evidence_sha256 if question else None,
        "dry_run": state.dry_run,
        "reason": state.reason or None,
        "folder": str(run.path),
        **_rollback_facts(run, state.state),
    }


def find_uncommitted(run: RunFolder, state: str) -> tuple[str, ...]:
    """The tracked files whose last commit would bring the old paths back; none where nothing is switched."""
    if state not in {"switched", "archived"} or not run.config.exists():
        return ()
    from unified_db.migration import switch
    from unified_db.migration.config import parse_config

    try:
        # The run's own copy, as if it lay where the paths in it start from.
        values = tomllib.loads(run.config.read_text(encoding="utf-8-sig"))
        config = parse_config(values, file=run.path.parents[2] / "unify.toml")
        return switch.find_uncommitted(config, archived=state == "archived")
    except (UnifyError, OSError, ValueError):
        return ()  # where a run stands is told whatever has become of its configuration


def _reminder(run: RunFolder, uncommitted: Sequence[str]) -> list[str]:
    if not uncommitted:
        return []
    said = (
        f"The last commit still has the old text of {_list(uncommitted)}: commit the switch, or the next "
        f"deploy brings the old paths back. In another checkout {run.patch} makes it; its head says how."
    )
    return [said]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_FINDINGS} more" if len(names) > _MAX_FINDINGS else ""
    return ", ".join(names[:_MAX_FINDINGS]) + more


def _rollback_facts(run: RunFolder, state: str) -> dict[str, Any]:
    """What a rollback did besides putting rows and files back; empty lists where nothing of that is."""
    record = run.load("rollback", RollbackRecord) if state == "rolled_back" else None
    return {
        "schema_carried": [
            {"source": source, "change": what} for source, what in (record.schema_carried if record else ())
        ],
        "left_behind": list(record.left_behind) if record else [],
        "set_aside": [a.model_dump(mode="json") for a in (record.set_aside if record else ())],
    }


def criteria_facts(run: RunFolder) -> dict[str, Any]:
    """The six success criteria and five metrics of the migration plan, as this run measured them.

    `passed` is null where the run has not measured it.
    """
    account = load_account(run)
    both = {"criteria": criteria.criteria(account), "metrics": criteria.metrics(account)}
    return {
        key: [
            {"criterion": c.name, "required": c.required, "measured": c.measured, "passed": c.passed}
            for c in found
        ]
        for key, found in both.items()
    }


def load_verdicts(run: RunFolder) -> list[Verdict]:
    """The verdicts that *run* has, in the order of the gates."""
    found = (run.load(f"verdict-{gate.value}", Verdict) for gate in GateName)
    return [v for v in found if v is not None]


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """A verdict as `--json` shows it."""
    return {
        "gate": verdict.gate.value,
        "passed": verdict.passed,
        "findings": [f.model_dump() for f in verdict.findings],
    }


def answer_merge(report: MergeReport) -> Answer:
    """What `merge` or `validate` found."""
    passed = all(v.passed for v in report.verdicts)
    sentence = "; ".join(v.sentence() for v in report.verdicts)
    built = "merged and proven equal" if report.changed else "compared"
    message = f"{report.target}: {count_tables(report.tables)} tables {built}" if passed else sentence
    facts = {
        "target": str(report.target),
        "tables": [
            {
                "name": t.name,
                "source": t.source,
                "rows": t.rows,
                "original": t.original,
                "united": t.united,
            }
            for t in report.tables
        ],
        "bytes": report.size_bytes,
        "seconds": {phase: round(s, 3) for phase, s in report.seconds.items()},
        "verdicts": [verdict_facts(v) for v in report.verdicts],
        "backups": str(report.backups) if report.backups else None,
        "changed": report.changed,
    }
    return Answer(
        message=message,
        hint=_hint_of_merge(report) if passed else "The findings name the first differences.",
        facts=facts,
        page=Group(_table_page(report), *(verdict_line(v) for v in report.verdicts), Text(message)),
        exit_code=ExitCode.DONE if passed else ExitCode.GATE_CLOSED,
        error=None if passed else "GateClosedError",
    )


def _hint_of_merge(report: MergeReport) -> str:
    """What is left to do where a table has another name now: no application was looked at."""
    renamed = [f"{t.original} of {t.source} is now {t.name}" for t in report.tables if t.original]
    if not renamed:
        return ""
    return f"{'; '.join(renamed)}: change what names it in the application before it uses this file."


def answer_plan(run: RunFolder, plan: MigrationPlan) -> Answer:
    """The plan of *run* as a review."""
    from flows.review import review
    from unified_db.migration import phase_pages, wording

    rows = sum(t.rows for s in plan.sources for t in s.tables)
    open_risks = sum(not r.handled for r in plan.risks)
    open_, missing = wording.count(open_risks, "open risk"), wording.count(len(plan.missing), "setting")
    noted = f", {open_}, {missing} missing" if open_risks or plan.missing else ""
    message = f"{len(plan.sources)} sources, {rows:,} rows, about {plan.estimated_s:.0f} s of work{noted}"
    hint = _after_the_plan(plan)
    places = {"folder": str(run.path), "schema": str(run.schema), "patch": str(run.patch)}
    lines = [_line(name, path) for name, path in places.items() if name != "folder"]
    page = Page(
        Group(review(load_account(run)), *lines, Text(""), Text(hint)),
        f"{phase_pages.phase_markdown('plan', run)}\n\n{hint}\n",
    )
    facts = {"plan": plan.model_dump(mode="json"), **places}
    return Answer(message=message, hint=hint, facts=facts, page=page)


def _after_the_plan(plan: MigrationPlan) -> str:
    rehearse = "`unify-db dry-run` rehearses the whole move; nothing of the application changes."
    return f"Fill in what is missing; then {rehearse}" if plan.missing else rehearse


@dataclass(frozen=True)
class Page:
    """What a terminal shows, and the same as Markdown for a pipe."""

    shown: RenderableType
    markdown: str

    def __rich__(self) -> RenderableType:
        """What a terminal shows."""
        return self.shown

    def __str__(self) -> str:
        return self.markdown


def show(console: Console, answer: Answer) -> None:
    """Print *answer* for people."""
    if isinstance(answer.page, Page) and not console.is_terminal:
        console.print(str(answer.page), markup=False, highlight=False, soft_wrap=True)
    elif answer.page is not None:
        # Nothing breaks a path or a command into two lines but the terminal itself, which can copy it.
        console.print(answer.page, soft_wrap=True)
    else:
        console.print(answer.message, markup=False, highlight=False, soft_wrap=True)
        if answer.hint:
            console.print(answer.hint, markup=False, highlight=False, soft_wrap=True)


def _run_page(run: RunFolder, headline: str, facts: Mapping[str, Any]) -> RenderableType:
    done = facts["dry_run"] and facts["state"] == "closed" and not facts["reason"]
    lines: list[RenderableType] = [Text(headline, style="bold"), Text("")]
    lines.append(_line("run", f"{run.name} ({'dry run, done' if done else facts['state']})"))
    lines += [_line("phases", ", ".join(facts["phases"]))] if facts["phases"] else []
    if facts["reason"] and facts["state"] in {"closed", "interrupted", "switched"}:
        lines.append(_line("stopped", facts["reason"]))
    lines += [verdict_line(v) for v in load_verdicts(run)]
    lines += [_line("evidence", facts["evidence"])] if facts["state"] == "waiting" else []
    if facts["downtime_ms"] is not None:
        away = f"{facts['downtime_ms']:.0f} ms, {facts['write_pause_ms']:.0f} ms more than a plain restart"
        lines.append(_line("away", away))
    if facts["state"] in {"switched", "archived"}:
        lines.append(_line("patch", f"{run.patch} (the switch, for `git apply` in other checkouts)"))
    if facts["mentions"]:
        lines.append(_line("mentions", f"an old path is still named at {_list(facts['mentions'])}"))
    if facts["state"] == "rolled_back":
        lines += _rollback_lines(run)
    lines += [_line(name, facts[name]) for name in ("archive", "report") if facts[name]]
    return Group(*lines, Text(""), Text(facts["next"]))


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<9}", "dim"), text)


def _rollback_lines(run: RunFolder) -> list[RenderableType]:
    record = run.load("rollback", RollbackRecord)
    if record is None:
        return []
    rows = sum(inserted + updated + deleted for _, inserted, updated, deleted in record.carried)
    lines = [_line("carried", f"{rows} rows written since the switch")]
    lines += [_line("schema", f"{source}: {what}") for source, what in record.schema_carried]
    lines += [_line("left", f"in the unified file: {what}") for what in record.left_behind]
    lines += [_line("aside", f"{a.path} was {a.why}: kept at {a.kept}") for a in record.set_aside]
    return [*lines, *([_line("kept", str(record.kept_aside))] if record.kept_aside else [])]


def verdict_line(verdict: Verdict) -> RenderableType:
    """A verdict for people: one line, and the findings that close it."""
    style = "green" if verdict.passed else "red"
    first = Text.assemble(("gate     ", "dim"), (verdict.sentence(), style))
    others = [
        Text(f"{'':11}{f.check} at {f.where}: required {f.required}, measured {f.measured}")
        for f in verdict.failures[:_MAX_FINDINGS]
    ]
    return Group(first, *others)


def _table_page(report: MergeReport) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("from", style="dim")
    table.add_column("rows", justify="right")
    for facts in report.tables:
        was = f" (there {facts.original})" if facts.original else ""
        united = " (united)" if facts.united else ""
        table.add_row(Text(facts.name + united), Text(facts.source + was), f"{facts.rows:,}")
    return table
