"""`unify-db init`: looks at an application's tree, tells what it found, asks, and writes `unify.toml`."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.text import Text

from flows.answers import Answer, show
from unified_db.errors import UsageError
from unified_db.migration import wording
from unified_db.migration.config import MigrationConfig, load_config, require_utf_8
from unified_db.migration.discover import discover
from unified_db.migration.discovery.finds import DatabaseFind, EditProposal, PathSetting
from unified_db.migration.discovery.outcome import Discovery, OpenQuestion
from unified_db.migration.discovery.questions import still_open
from unified_db.migration.discovery.toml_writer import write_config
from unified_db.migration.risks import lock_up

_WIDEST = 100
_MOST = 12

Line = tuple[str, str]


@dataclass(frozen=True)
class _Place:
    """Where to look, and where the configuration is or will be."""

    root: Path
    file: Path
    existing: MigrationConfig | None


def can_ask(*, yes: bool, as_json: bool) -> bool:
    """True where a person sits at the terminal and wishes to be asked."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    return interactive and not yes and not as_json and not os.environ.get("CI")


def initiate(folder: Path | None, config: Path | None, *, asks: bool) -> Answer:
    """Look at the application in *folder*, ask where *asks* says so, and write its configuration.

    Raises:
        UsageError: No folder, nothing to unify in it, or a configuration of another folder is there.
        ConfigError: The configuration that is there is not valid; it stays as it is.
    """
    place = _find_place(folder, config)
    target = place.existing.target.path if place.existing else None
    found = discover(place.root, file=place.file, target=target)
    questions = still_open(found, place.existing) if place.existing else found.questions
    told = found.model_copy(update={"questions": questions})
    answers: dict[str, str | bool] = {}
    if asks:
        show(Console(), Answer(message="", page=Group(*_page(told))))
    if asks and place.existing is None:
        answers = ask(questions)
    changed = write_config(found, place.file, answers)
    left = [q for q in questions if q.about not in answers]
    message = _message(place, changed=changed, left=len(left))
    hints = _hints(place, reviewed=bool(answers.get("staging.reviewed")))
    lines = [] if asks else [*_page(told), Text("")]
    return Answer(
        message=message,
        hint=" ".join(hints),
        facts=_facts(found, left, place, changed=changed),
        page=Group(*lines, Text(message, style="bold"), *map(Text, hints)),
    )


def _find_place(folder: Path | None, config: Path | None) -> _Place:
    root = (folder or Path()).resolve()
    require_utf_8(root)
    file = (config or root / "unify.toml").resolve()
    file = file / "unify.toml" if file.is_dir() else file
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} is no folder", hint="Nothing was written. Name another --config.")
    if not file.exists():
        return _Place(root, file, None)
    existing = load_config(file)
    if folder is not None and existing.root != root:
        raise UsageError(
            f"{file} is about {existing.root}, not about {root}",
            hint="Nothing was written. Name another file with --config.",
        )
    return _Place(existing.root, file, existing)


def ask(questions: Sequence[OpenQuestion]) -> dict[str, str | bool]:
    """Ask each question that can be answered at a prompt, with what stands now as the default.

    Raises:
        KeyboardInterrupt: The person ended it.
    """
    answers: dict[str, str | bool] = {}
    try:
        for question in questions:
            if question.answer == "confirm":
                default = question.proposal == "yes"
                answers[question.about] = typer.confirm(_prompt(question), default=default)
            elif question.answer == "text":
                shown = bool(question.proposal)
                answers[question.about] = typer.prompt(
                    _prompt(question),
                    default=question.proposal,
                    show_default=shown,
                    prompt_suffix=" ",
                )
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return answers


def _prompt(question: OpenQuestion) -> str:
    """The question as it is asked, broken between words and not by the terminal."""
    # Room for the answer on the last line.
    width = min(_WIDEST, Console().width) - 12
    return textwrap.fill(
        f"? {question.sentence}",
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _message(place: _Place, *, changed: bool, left: int) -> str:
    name = os.path.relpath(place.file)
    open_questions = f"{left} question{'s' * (left != 1)} open" if left else "no question open"
    if not changed:
        return f"{name} has all of that already: not changed, {open_questions}"
    what = "added to, with what was found since" if place.existing else "written"
    return f"{name} {what}, {open_questions}"


def _hints(place: _Place, *, reviewed: bool) -> list[str]:
    beside = "" if place.file == Path("unify.toml").resolve() else f" --config {os.path.relpath(place.file)}"
    is_reviewed = reviewed or (place.existing is not None and place.existing.staging.reviewed)
    first = [] if is_reviewed else ["Set reviewed = true in [staging] before `unify-db dry-run`."]
    return [f"Next: `unify-db plan{beside}` shows what would move, collide and be edited.", *first]


def _facts(found: Discovery, left: Sequence[OpenQuestion], place: _Place, *, changed: bool) -> dict[str, Any]:
    whole = found.model_dump(mode="json")
    reading = whole.pop("reading")
    return {
        **{
            key: whole[key]
            for key in ("databases", "sources", "edits", "renames", "server", "suites", "requests")
        },
        **{key: reading[key] for key in ("settings", "savers", "engines", "disagreements", "unread")},
        "questions": [q.model_dump() for q in left],
        "target": str(found.target),
        "reaching": list(found.reaching),
        "left_out": list(found.left_out),
        "config": str(place.file),
        "changed": changed,
    }


# ---- what people see -----------------------------------------------------------------------------


def _page(found: Discovery) -> Iterator[Text]:
    yield Text.assemble("Looked at ", (str(found.root), "bold"))
    yield from _databases(found)
    yield from _settings(found)
    yield from _uses(found)
    yield from _section("Edits", [(_edit_line(e), e.why) for e in found.edits])
    yield from _renames(found)
    yield from _rehearsal(found)
    yield from _not_looked_at(found)
    yield from _open_questions(found.questions)


def _section(name: str, entries: Sequence[Line]) -> Iterator[Text]:
    if entries:
        yield Text("")
        yield Text(name, style="bold")
        for first, rest in entries[:_MOST]:
            yield Text(f"  {first}")
            yield from _wrapped(rest)
        if len(entries) > _MOST:
            yield Text(f"  and {len(entries) - _MOST} more, which --json lists", style="dim")


def _wrapped(text: str, *, indent: str = "      ", style: str = "dim") -> Iterator[Text]:
    width = min(_WIDEST, Console().width) - 1
    # A path or a command that breaks could not be copied.
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield from (Text(line, style=style) for line in lines)


def _databases(found: Discovery) -> Iterator[Text]:
    chosen = {s.path: s for s in found.sources}
    order = {path: number for number, path in enumerate(chosen)}
    width = max((len(str(d.path)) for d in found.databases), default=0)
    for group, style in (("Databases", ""), ("Not taken for a source", "dim")):
        finds = [d for d in found.databases if (d.path in chosen) == (group == "Databases")]
        finds.sort(key=lambda d: order.get(d.path, 0))
        if finds:
            yield Text("")
            yield Text(group, style="bold")
        for find in finds[:_MOST]:
            source = chosen.get(find.path)
            sign = "  " if source is None else "✓ " if source.sure else "? "
            yield Text.assemble(
                f"  {sign}",
                (f"{find.path!s:<{width}}", style or "cyan"),
                f"  {find.kind:<11} {_size(find)}",
            )
            why = source.why if source else find.decoy or find.problem or "; ".join(find.why)
            yield from _wrapped(why)
            if source and source.threads:
                yield from _wrapped(f"threads are named by {', '.join(source.threads)}")
    yield Text("")
    yield Text.assemble("  → ", (str(found.target), "cyan"), "  the one file that replaces them")


def _size(find: DatabaseFind) -> str:
    if not find.tables:
        return ""
    tables = f"{find.tables} table{'s' * (find.tables != 1)}"
    return f"{tables}, {find.rows:,} row{'s' * (find.rows != 1)}"


def _settings(found: Discovery) -> Iterator[Text]:
    settings = sorted(found.reading.settings, key=lambda s: (s.role, not s.wins))
    if not settings:
        return
    yield Text("")
    yield Text("Where their paths are set", style="bold")
    for setting in settings[:_MOST]:
        sign, style = ("✓ ", "green") if setting.wins else ("  ", "dim")
        yield Text.assemble((f"  {sign}", style), (str(setting.place), "cyan"), f"  {_setting(setting)}")
        yield from _wrapped(setting.why)
    if len(settings) > _MOST:
        yield Text(f"  and {len(settings) - _MOST} more, which --json lists", style="dim")


def _setting(setting: PathSetting) -> str:
    return f"{setting.key} = {setting.raw}" if setting.key else setting.raw


def _uses(found: Discovery) -> Iterator[Text]:
    reading = found.reading
    entries = [(f"{s.place}  {s.name.rpartition('.')[2]}{_kind(s.is_async)}", "") for s in reading.savers]
    entries += [(f"{e.place}  {e.call}{_kind(e.is_async)}", "") for e in reading.engines]
    yield from _section("Savers, engines and connections", entries)
    exchanged = {(e.file, e.old) for e in found.edits if e.kind == "python-import" and e.sure}
    kept = [s for s in reading.savers if (s.imported.file, s.name) not in exchanged]
    for risk in lock_up(reading, kept):
        sentence = f"Risk: {risk.sentence} {risk.remedy}"
        yield from _wrapped(sentence, indent="  ", style="dim" if risk.handled else "yellow")


def _kind(is_async: bool) -> str:
    return " (async)" if is_async else " (sync)"


def _edit_line(edit: EditProposal) -> str:
    key = edit.key or edit.name or ""
    if edit.kind == "python-import":
        key = f"{(edit.old or '').rpartition('.')[2]} → {edit.new}"
    elif edit.kind == "requirement":
        key = "a line for the runtime"
    elif edit.value is not None:
        key = f"{key} → {edit.value}"
    elif edit.new is not None:
        key = _changed_line(edit.old or "", edit.new)
        key = f"{edit.old} → {key}" if edit.kind == "python-literal" else key
    return f"{'' if edit.sure else '? '}{edit.file}  {' '.join(key.split())}"


def _renames(found: Discovery) -> Iterator[Text]:
    """Names that two sources have, with what a rename would edit; none of it stands without a yes."""
    entries: list[Line] = []
    for rename in found.renames:
        why = f"{rename.source} and {rename.other} both have a table of that name"
        entries += [(f"? table {rename.name} of {rename.source} → {rename.to}", why)]
        entries += [(f"  {wording.shorten(_edit_line(e), _WIDEST - 8)}", "") for e in rename.edits]
    yield from _section("Renames", entries)


def _changed_line(old: str, new: str) -> str:
    """The first line of *new* that *old* does not have."""
    known = set(old.splitlines())
    return next((line for line in new.splitlines() if line not in known), new).strip()


def _rehearsal(found: Discovery) -> Iterator[Text]:
    server = found.server
    if server is not None:
        entries = [(f"start  {server.start}", server.why), (f"cwd    {server.cwd}", "")]
        entries += [(f"ready  {server.ready} on port {server.port}", "")] if server.ready else []
        entries += [(f"stop   {server.stop}", "")] if server.stop else []
        yield from _section("Server", entries)
    yield from _section("Tests", [(f"{s.name}  {s.command}", s.why) for s in found.suites])
    requests = [(f"{'' if r.sure else '? '}{r.method} {r.path}", "") for r in found.requests]
    yield from _section("Requests for the benchmark", requests)
    names = [(key, "") for key in found.reaching]
    yield from _section("A staged copy would run with these settings", names)


def _not_looked_at(found: Discovery) -> Iterator[Text]:
    told = (*found.left_out, *found.reading.unread)
    if told:
        yield Text("")
        yield Text("Not looked at", style="bold")
    for sentence in told[:_MOST]:
        yield from _wrapped(sentence, indent="  ")
    if len(told) > _MOST:
        yield Text(f"  and {len(told) - _MOST} more, which --json lists", style="dim")


def _open_questions(questions: Sequence[OpenQuestion]) -> Iterator[Text]:
    if questions:
        yield Text("")
        yield Text("Questions", style="bold")
    for number, question in enumerate(questions, 1):
        style = "red" if question.about == "split brain" else "yellow"
        first, *others = _wrapped(question.sentence, indent="     ", style=style)
        yield Text(f"{number:>3}. {first.plain.strip()}", style=style)
        yield from others
