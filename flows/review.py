"""The plan as a review on a terminal: what moves, the edits as coloured diffs, risks, what is missing.

Shows a record and judges nothing. In a pipe, and in Prefect, the same is Markdown (`phase_pages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unified_db.migration import phase_pages, wording
from unified_db.migration.account import Account
from unified_db.migration.records import EditPreview, MigrationPlan, Risk, SpaceNeed

_MOST_TABLES = 24
_MOST_PLACES = 6
_DIFF_STYLES = {"added": "green", "removed": "red", "place": "cyan", "same": "dim"}


def review(account: Account) -> RenderableType:
    """The plan of a run, top to bottom as somebody decides on it.

    Args:
        account: The run's records, with its plan among them.
    """
    plan = account.plan
    assert plan is not None
    rows = sum(t.rows for s in plan.sources for t in s.tables)
    sources = wording.count(len(plan.sources), "file")
    first = f"{sources} with {wording.count(rows, 'row')} would become {account.place(plan.target)}"
    return Group(
        Text(first, style="bold"),
        *_section("Sources", "read only, nothing was changed", [_sources(plan), _tables(plan)]),
        *_section("Renamed and united", "", _layout(plan)),
        *_section("Edits", _say_edits(plan), [_edit(account, e) for e in plan.edits if e.diff]),
        *_section("Still to be edited", "they name what is renamed", _mentions(plan)),
        *_section("Risks", _say_risks(plan.risks), [_risks(plan.risks)] if plan.risks else []),
        *_section("Missing", "in unify.toml", _signed(plan.missing, "○", "yellow")),
        *_section("A staged copy would use", "names of keys alone", _reaching(plan)),
        *_section("Time and space", "", [_costs(plan)]),
        Text(""),
    )


def _section(title: str, said: str, parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    """A heading with its parts below it; nothing without a part."""
    if parts:
        yield Text("")
        yield Text.assemble((title, "bold blue"), (f"  {said}" if said else "", "dim"))
        yield from (Padding(part, (0, 0, 0, 2)) for part in parts)


# ---- what moves ----------------------------------------------------------------------------------


def _sources(plan: MigrationPlan) -> Table:
    table = _grid("file", "kind", "tables", "rows", "size", "in its WAL", "journal", numbers=(2, 3, 4, 5))
    for source in plan.sources:
        wal = wording.format_bytes(source.wal_bytes) if source.wal_bytes else "none"
        table.add_row(
            Text(source.label, style="bold"),
            source.kind,
            str(len(source.tables)),
            wording.format_number(sum(t.rows for t in source.tables)),
            wording.format_bytes(source.size_bytes),
            wal,
            source.journal_mode,
        )
    return table


def _tables(plan: MigrationPlan) -> RenderableType:
    found = [t for s in plan.sources for t in s.tables]
    shown = sorted(found, key=lambda t: t.rows, reverse=True)[:_MOST_TABLES]
    table = _grid("table", "rows", "from", numbers=(1,))
    for facts in (t for t in found if t in shown):
        table.add_row(Text(facts.name), wording.format_number(facts.rows), Text(facts.source, style="dim"))
    rest = len(found) - len(shown)
    more = [Text(f"and {wording.count(rest, 'smaller table')}", style="dim")] if rest else []
    return Group(Text(""), table, *more)


def _layout(plan: MigrationPlan) -> list[RenderableType]:
    renames = [
        Text.assemble(r.object, (f" of {r.source}", "dim"), " becomes ", (r.to, "bold"))
        for r in plan.layout.renames
    ]
    unions = [
        Text.assemble((u.table, "bold"), " is one table of all; new rows go back to ", (u.home, "dim"))
        for u in plan.layout.unions
    ]
    return [*renames, *unions]


def _mentions(plan: MigrationPlan) -> list[RenderableType]:
    return _signed([f"{name} at {place}" for name, place in plan.mentions], "✗", "red")


# ---- what is edited ------------------------------------------------------------------------------


def _say_edits(plan: MigrationPlan) -> str:
    times = [e.when for e in plan.edits if e.diff]
    parts = [f"{wording.count(times.count(w), 'file')} at the {w}" for w in dict.fromkeys(times)]
    return wording.join_words(parts)


def _edit(account: Account, edit: EditPreview) -> RenderableType:
    later = Text(" (once the old files are archived)", style="dim") if edit.when == "archive" else Text("")
    head = Text.assemble((account.place(edit.file), "bold"), later)
    lines = [line for line in phase_pages.diff_lines(edit) if line.kind != "file"]
    diff = [_text(line.text, _DIFF_STYLES[line.kind]) for line in lines]
    return Group(head, Padding(Group(*diff), (0, 0, 1, 2)))


# ---- what to think of ----------------------------------------------------------------------------


def _say_risks(risks: Sequence[Risk]) -> str:
    handled = sum(r.handled for r in risks)
    open_ = f"{len(risks) - handled} open" if handled < len(risks) else "none open"
    return f"{open_}, {handled} taken care of" if handled else open_


def _risks(risks: Sequence[Risk]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for risk in risks:
        sign, style = ("✓", "green") if risk.handled else ("!", "yellow")
        table.add_row(Text(sign, style=style), _risk(risk))
    return table


def _risk(risk: Risk) -> RenderableType:
    parts = [_text(risk.sentence, "dim" if risk.handled else "")]
    told = all(place in risk.sentence for place in risk.where)
    parts += [] if told else [_text(places(risk.where), "cyan")]
    parts += [_text(f"→ {risk.remedy}", "dim" if risk.handled else "green")] if risk.remedy else []
    return Group(*parts)


def places(where: Sequence[str]) -> str:
    """The first of *where* on one line, with how many more there are."""
    more = len(where) - _MOST_PLACES
    return ", ".join(where[:_MOST_PLACES]) + (f" and {more} more" if more > 0 else "")


def _signed(sentences: Sequence[str], sign: str, style: str) -> list[RenderableType]:
    """A list of sentences behind a sign; empty without any."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row(Text(sign, style=style), _text(sentence))
    return [table] if sentences else []


def _reaching(plan: MigrationPlan) -> list[RenderableType]:
    by_file: dict[str, list[str]] = {}
    for where, _, key in (r.partition(": ") for r in plan.reaching):
        by_file.setdefault(where, []).append(key)
    table = Table.grid(padding=(0, 2))
    for where, keys in by_file.items():
        table.add_row(Text(where, style="bold"), Text(", ".join(keys)))
    return [table] if by_file else []


# ---- what it costs -------------------------------------------------------------------------------


def _costs(plan: MigrationPlan) -> RenderableType:
    took = wording.format_seconds(plan.estimated_s)
    lines = [Text(f"about {took} of work, nearly all of it while the application serves")]
    return Group(*lines, *(_space(need) for need in plan.space))


def _space(need: SpaceNeed) -> Text:
    needed, free = wording.format_bytes(need.needed_bytes), wording.format_bytes(need.free_bytes)
    return _text(f"{needed} of the {free} that are free at {need.folder}")


def _text(text: str, style: str = "") -> Text:
    """Words of a record, without secrets; folded, since a review that cuts lines off hides them."""
    return Text(wording.mask(text), style=style, no_wrap=False, overflow="fold")


def _grid(*columns: str, numbers: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(
            name, justify="right" if place in numbers else "left", overflow="fold", no_wrap=place in numbers
        )
    return table
