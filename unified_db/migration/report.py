"""What a run found and did, on one page for people: report.html, report.md, and the summary in Prefect.

Pure: records in, text out. The pages of single phases are made in :mod:`phase_pages`. It shows names,
counts, sizes, digests and places, never a value out of a database, a dotenv file or a request; logins
in URLs are masked wherever they turn up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unified_db import files
from unified_db.migration import account as accounts
from unified_db.migration import (
    criteria,
    markdown,
    phase_pages,
    plots,
    question_pages,
    standings,
    tables,
    wording,
)
from unified_db.migration.account import Account
from unified_db.migration.phase_pages import phase_markdown
from unified_db.migration.records import (
    GateName,
    Latency,
)
from unified_db.migration.runs import RunFolder
from unified_db.migration.standings import Standing

__all__ = [
    "phase_markdown",
    "question_markdown",
    "render_html",
    "summary_markdown",
    "write_report",
]

_TEMPLATES = Path(__file__).with_name("templates")
_OWNER_ONLY = 0o600
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
    where = standings.standing(account)
    return {
        "account": account,
        "headline": standings.headline(account),
        "standing": where.value,
        "tone": _TONES[where],
        "steps": standings.next_steps(account),
        "timeline": _timeline(account),
        "criteria": tables.criteria(criteria.criteria(account), "Success criteria"),
        "metrics": tables.criteria(criteria.metrics(account), "Metrics"),
        "gates": list(GateName),
        "tests": accounts.sort_tests(account),
        "failure": phase_pages.failure,
        "in_full": _MAX_TESTS_IN_FULL,
        "latency": _views(account, account.benchmark.latencies if account.benchmark else ()),
        "operations": _views(account, account.benchmark.operations if account.benchmark else ()),
        "edits": [
            (edit, phase_pages.diff_lines(edit)) for edit in (account.plan.edits if account.plan else ())
        ],
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


def _warnings(account: Account) -> list[str]:
    return [*_unreadable(account), *(account.plan.notes if account.plan else ())]


def _unreadable(account: Account) -> list[str]:
    return [
        f"{name} in the run's folder cannot be read; what it says is missing here."
        for name in account.unreadable
    ]


def _most_pressing(account: Account) -> list[str]:
    """What cannot be read, with what the plan notes as a number alone."""
    notes = len(account.plan.notes) if account.plan else 0
    said = f"The plan notes {wording.count(notes, 'risk or missing setting', 'risks and missing settings')}."
    return [*_unreadable(account), said] if notes else _unreadable(account)


# ---- Markdown: summary and whole -----------------------------------------------------------------


def summary_markdown(run: RunFolder, *, at_work: bool = False) -> str:
    """The run on one page: sentence, verdicts, response times as a picture, next step, details.

    With *at_work* that of a run that goes on: how far it is, and what was decided by now.
    """
    account = accounts.load_account(run)
    if at_work:
        return _page_at_work(account)
    return markdown.join(
        f"# {markdown.plain(standings.headline(account))}",
        markdown.titled(tables.gates(account)),
        phase_pages.latency_picture(account),
        _steps(account),
        phase_pages.warned(_most_pressing(account)),
        _details(account),
        phase_pages.where_more(account),
    )


def _page_at_work(account: Account) -> str:
    kind = "dry run" if account.dry_run else "run"
    return markdown.join(
        f"# The {kind} is at work; this page follows it",
        "Nothing of the application is changed by it." if account.dry_run else _until_when(account),
        markdown.titled(tables.spans(accounts.timeline(account))),
        phase_pages.warned(_most_pressing(account)),
        markdown.titled(tables.gates(account)),
        phase_pages.latency_picture(account),
    )


def _until_when(account: Account) -> str:
    if account.cutover is not None:
        return f"The application runs on {markdown.code(account.target)}."
    return "Nothing of the application is changed before all three gates are open."


def _summary_text(account: Account) -> str:
    return markdown.join(
        f"# {markdown.plain(standings.headline(account))}",
        _steps(account),
        phase_pages.warned(_most_pressing(account)),
        markdown.titled(tables.gates(account)),
        _details(account),
    ).rstrip("\n")


def _details(account: Account) -> str:
    return markdown.join(
        markdown.titled(tables.criteria(criteria.criteria(account), "What the plan asks for")),
        markdown.titled(tables.criteria(criteria.metrics(account), "What the plan monitors")),
        _pause(account),
    ).rstrip("\n")


def _steps(account: Account) -> str:
    lines = [
        f"- {markdown.plain(s.text)}" + (f" {markdown.code(s.command)}" if s.command else "")
        for s in standings.next_steps(account)
    ]
    return f"**Next** (in {markdown.code(str(account.home))}):\n\n" + "\n".join(lines)


def _pause(account: Account) -> str:
    if account.cutover is None:
        return ""
    away = wording.format_ms(account.cutover.downtime_ms)
    pause = wording.format_ms(account.cutover.write_pause_ms)
    return f"The application was away for {away}; {pause} of that was ours, the rest a plain restart."


def _whole_markdown(account: Account) -> str:
    """report.md: the summary and every phase, without pictures, readable in a terminal."""
    demoted = [re.sub(r"(?m)^(#+ )", r"#\1", part) for part in phase_pages.all_phases(account)]
    return markdown.join(_summary_text(account), *demoted, markdown.titled(tables.digest_table(account)))


def question_markdown(run: RunFolder, *, refused: str = "") -> str:
    """What stands above the form that asks a person about *run*.

    *refused* says why the last answer was not taken, where there was one.
    """
    return question_pages.form(accounts.load_account(run), refused=refused)
