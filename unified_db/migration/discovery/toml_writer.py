"""`unify.toml` for what was found: values where it is sure, questions (`# ?`) where a person has to say.

A file that is there keeps every character: what was found since is put behind it, as questions.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_db import files
from unified_db.migration.config import load_config, parse_config
from unified_db.migration.discovery.blocks import (
    Block,
    Key,
    asked,
    comment_out,
    comments,
    sentence,
    squeeze,
    title,
    write_value,
)
from unified_db.migration.discovery.finds import EditProposal, RequestFind
from unified_db.migration.discovery.outcome import Discovery
from unified_db.migration.discovery.questions import name_edit

Answers = Mapping[str, str | bool]

_HEAD = """\
# How `unify-db` moves this application from its SQLite files to one. Written by `unify-db init`.
# Paths are relative to the folder of this file. A line that begins with `# ?` is a question to you:
# answer it beside it, and remove the line. Everything here is yours to change; `unify-db init`
# changes nothing that is there, and adds what it finds later at the end, as questions.
#
#   unify-db plan        what would move, collide and be edited; looks only
#   unify-db dry-run     everything short of the switch; changes nothing of the application
#   unify-db run         the whole move
#   unify-db rollback    takes it back
#
# docs/configuration.md describes every key."""
_MOST_SETTINGS = 60
_FOUND_SINCE = "Found on a later look. Remove the `# ` of what is right; leave or remove the rest"


def write_config(found: Discovery, file: Path, answers: Answers) -> bool:
    """Write *file*, or add to it what it does not have yet; True where it changed.

    The file is whole or as before, also after a power cut, and nothing else is written.

    Raises:
        ConfigError: *file* is there and is no valid configuration; it is left as it is.
    """
    if not file.exists():
        text = render(found, file, answers)
        parse_config(tomllib.loads(text), file=file)
        files.write_durably(file, text.encode())
        return True
    load_config(file)
    content = file.read_bytes()
    added = render_added(found, content.decode("utf-8-sig"))
    if not added:
        return False
    newline = "\r\n" if b"\r\n" in content else "\n"
    gap = "" if content.endswith(b"\n") else newline
    files.write_durably(file, content + (gap + newline + added.replace("\n", newline)).encode())
    return True


def render(found: Discovery, file: Path, answers: Answers) -> str:
    """The whole file."""
    page = _Page(found, answers)
    parts = [
        _HEAD.split("\n"),
        page.app(file),
        page.sources(),
        page.target(),
        page.edits(),
        page.suites(),
        page.benchmark(),
        page.continuity(),
        page.staging(),
        page.approval(),
    ]
    return "\n".join("\n".join(part).rstrip("\n") + "\n" for part in parts)


def render_added(found: Discovery, existing: str) -> str:
    """What *existing* does not have yet, all of it commented out; empty where it has everything."""
    page = _Page(found, {})
    values = tomllib.loads(existing)
    has = squeeze(existing)
    lines: list[str] = []
    for block in page.blocks():
        if not _is_there(block, values) and squeeze("\n".join(block.body())) not in has:
            quiet = Block(
                block.header, block.keys, block.notes, block.questions or ("Is this right?",), False
            )
            lines += quiet.lines()
    for key in page.missing_of_app(values.get("app", {})):
        if squeeze(key.line()) not in has:
            lines += [*asked(f"[app] has no {key.name}. Is it this?"), comment_out(key.line()), ""]
    return "\n".join([*title(_FOUND_SINCE), *lines]).rstrip("\n") + "\n" if lines else ""


_IDENTITY = {
    "source": ("path",),
    "rename": ("source", "object"),
    "edit": ("file", "kind", "key", "name", "old"),
    "suite": ("command",),
    "request": ("method", "path"),
}


def _is_there(block: Block, values: Mapping[str, Any]) -> bool:
    """True where *values* have an entry for the same thing, whatever it says of it."""
    kind = block.header.strip("[]").rpartition(".")[2]
    if kind not in _IDENTITY:
        return False
    entries: Sequence[Mapping[str, Any]] = values.get(kind, ())
    if kind == "request":
        entries = values.get("benchmark", {}).get("request", ())
    own = {k.name: k.value for k in block.keys}
    names = _IDENTITY[kind]
    defaults = {"method": "GET"}
    mine = [_plain(own.get(n, defaults.get(n))) for n in names]
    if kind == "suite" and any(e.get("name") == own.get("name") for e in entries):
        return True
    return any([_plain(e.get(n, defaults.get(n))) for n in names] == mine for e in entries)


def _plain(value: object) -> object:
    return value.removeprefix("./") if isinstance(value, str) else value


class _Page:
    """The parts of the file, each as lines."""

    def __init__(self, found: Discovery, answers: Answers) -> None:
        self._found = found
        self._answers = answers
        self._asked = {q.about: q.sentence for q in found.questions}

    def blocks(self) -> Iterator[Block]:
        """Every entry that may stand more than once."""
        yield from self._source_blocks()
        yield from self._rename_blocks()
        yield from self._edit_blocks()
        yield from self._suite_blocks()
        yield from self._request_blocks()

    def _open(self, about: str) -> tuple[str, ...]:
        """The question about that, where it was asked of nobody yet."""
        return (self._asked[about],) if about in self._asked and about not in self._answers else ()

    def _is_active(self, about: str, *, sure: bool) -> bool:
        return bool(self._answers.get(about, sure))

    # ---- the parts, in the order of the file ---------------------------------------------------------

    def app(self, file: Path) -> list[str]:
        """[app]: where the application is, how it starts and stops."""
        found, server = self._found, self._found.server
        notes = comments(f"How it starts: {server.why}.") if server else []
        keys = [
            Key("root", _relative(found.root, file), "the tree that is copied for the rehearsal"),
            Key("cwd", found.cwd, "the folder in which its commands run"),
            *self._python(),
            *self._server(),
        ]
        lines = [*title("The application: where it lies, how it is started and stopped"), *notes, "[app]"]
        for key in keys:
            lines += [*asked(*self._open(f"app.{key.name}")), key.line()]
        return lines

    def _python(self) -> Iterator[Key]:
        if self._found.python:
            yield Key("python", self._found.python, "the interpreter that stands for {python}")
        else:
            yield Key("python", ".venv/bin/python", "without it: the one that runs unify-db", active=False)

    def _server(self) -> Iterator[Key]:
        server = self._found.server
        start = str(self._answers.get("app.start", server.start if server else ""))
        yield Key("start", start, "stays in the foreground; {port} is a free one")
        if start:
            stop = str(self._answers.get("app.stop", server.stop if server else ""))
            ready = str(self._answers.get("app.ready", (server.ready if server else "") or "/"))
            yield Key("stop", stop, "returns once the server has ended")
            yield Key("port", server.port if server else 8000, "the one that the real server listens on")
            yield Key("ready", ready, "answers 2xx when the application can serve")

    def missing_of_app(self, app: Mapping[str, Any]) -> Iterator[Key]:
        """Keys of [app] that are found now, and that a file does not have."""
        if self._found.server is not None and not app.get("start"):
            yield from (k for k in self._server() if k.value and not app.get(k.name))

    def sources(self) -> list[str]:
        """[[source]]: the files of today, and a question for each that may be one."""
        lines = title("The files of today")
        lines += asked(*(q.sentence for q in self._found.questions if q.about in {"split brain", "source"}))
        for block in self._source_blocks():
            lines += block.lines()
        told = [f"{d.path}: {d.decoy or d.problem}" for d in self._found.databases if d.decoy or d.problem]
        named = {str(s.path) for s in self._found.sources}
        told = [line for line in told if line.partition(":")[0] not in named]
        return [*lines, *(comments("Not taken for one of them:", *told) if told else [])]

    def _source_blocks(self) -> Iterator[Block]:
        for source in self._found.sources:
            about = f"source {source.path}"
            keys = [Key("path", str(source.path)), Key("kind", source.kind)]
            if source.threads:
                keys.append(Key("threads", source.threads, "the proof looks for threads without checkpoints"))
            yield Block(
                header="[[source]]",
                keys=tuple(keys),
                notes=(sentence(source.why),),
                questions=self._open(about),
                active=self._is_active(about, sure=source.sure),
            )

    def target(self) -> list[str]:
        """[target], and [[rename]] for names that two sources have."""
        lines = [
            *title("The one file that replaces them"),
            "[target]",
            Key("path", str(self._found.target), "must not exist yet").line(),
            "",
        ]
        return lines + [line for block in self._rename_blocks() for line in block.lines()]

    def _rename_blocks(self) -> Iterator[Block]:
        """Each [[rename]] with the edits that say the new name in the code: all of them, or none."""
        for rename in self._found.renames:
            about = f"rename {rename.name}"
            keys = (Key("source", str(rename.source)), Key("object", rename.name), Key("to", rename.to))
            active = self._is_active(about, sure=False)
            yield Block("[[rename]]", keys, questions=self._open(about), active=active)
            for edit in rename.edits:
                notes = (f"With that rename: {edit.why}.",)
                yield Block("[[edit]]", tuple(_edit_keys(edit)), notes=notes, active=active)

    def edits(self) -> list[str]:
        """[[edit]]: what has to change in the application."""
        lines = [
            *title("What has to change in the application"),
            *comments("`unify-db plan` shows all of it as a diff. Made with the switch, taken back with it."),
            *asked(*(q.sentence for q in self._found.questions if q.about == "reading")),
            "",
        ]
        return lines + [line for block in self._edit_blocks() for line in block.lines()]

    def _edit_blocks(self) -> Iterator[Block]:
        for edit in self._found.edits:
            about = name_edit(edit)
            yield Block(
                header="[[edit]]",
                keys=tuple(_edit_keys(edit)),
                notes=(sentence(edit.why),) if edit.sure or about in self._answers else (),
                questions=self._open(about),
                active=self._is_active(about, sure=edit.sure),
            )

    def suites(self) -> list[str]:
        """[[suite]]: the application's own tests."""
        lines = [
            *title("The application's own tests"),
            *comments(
                "They run on a copy of the tree, once on the old files and once on the unified one. A "
                "test that passes before has to pass after. {junit} is where pytest leaves its results."
            ),
            *asked(*self._open("suite")),
        ]
        if not self._found.suites:
            example = (Key("name", "tests"), Key("command", "{python} -m pytest tests -q --junitxml {junit}"))
            lines += Block("[[suite]]", example, active=False).lines()
        return lines + [line for block in self._suite_blocks() for line in block.lines()]

    def _suite_blocks(self) -> Iterator[Block]:
        for suite in self._found.suites:
            about = f"suite {suite.name}"
            yield Block(
                header="[[suite]]",
                keys=(Key("name", suite.name), Key("command", suite.command), Key("timeout_s", 600)),
                notes=(sentence(suite.why),),
                questions=self._open(about),
                active=self._is_active(about, sure=suite.sure),
            )

    def benchmark(self) -> list[str]:
        """[benchmark] with its requests."""
        lines = [
            *title("Response times on a copy of the tree, old files against the unified one"),
            "[benchmark]",
            Key("max_ratio", 1.10, "slower than this closes the gate,").line(),
            Key("min_diff_ms", 1.0, "unless the difference is too small to matter").line(),
            Key("budget_s", 300, "how long measuring may take; it ends when all is decided").line(),
            "",
        ]
        lines += [line for block in self._request_blocks() for line in block.lines()]
        if self._found.server is not None:
            lines += self._write_block().lines()
        return lines

    def _write_block(self) -> Block:
        example = RequestFind(
            name="chat",
            method="POST",
            path="/api/chat",
            why="An example",
            sure=False,
            body={"message": "hello", "thread_id": "bench-{uuid}"},
        )
        request = self._found.write or example
        return Block(
            header="[[benchmark.request]]",
            keys=(
                *_request_keys(request),
                Key("changes", True, "it writes: {uuid} makes a thread or row of its own each time"),
            ),
            notes=(sentence(request.why),),
            questions=self._open("benchmark.request"),
            active=self._is_active("benchmark.request", sure=False),
        )

    def _request_blocks(self) -> Iterator[Block]:
        for request in self._found.requests:
            yield Block(
                header="[[benchmark.request]]",
                keys=tuple(_request_keys(request)),
                notes=(sentence(request.why),),
                questions=() if request.sure else ("Does it answer 200 as it stands?",),
                active=request.sure,
            )

    def continuity(self) -> list[str]:
        """[[continuity]]: an example for a person to fill in."""
        if self._found.server is None:
            return []
        columns = [c for s in self._found.sources for c in s.threads]
        table, _, column = columns[0].rpartition(".") if columns else ("conversations", "", "thread_id")
        reads = next((r.path for r in self._found.requests if r.values), f"/api/history/{{{column}}}")
        example = [
            "[[continuity]]",
            'name = "a conversation begun before goes on"',
            f"values = {write_value(f'SELECT {column} FROM {table} LIMIT 3')}",
            "[[continuity.request]]",
            f"path = {write_value(reads)}",
        ]
        return [
            *title("Conversations begun before the move go on"),
            *comments(
                "Requests that show that a conversation goes on, asked of both sides on fresh copies; the "
                "answers have to be equal. Fill in this example: without one, no conversation is asked."
            ),
            *(comment_out(line) for line in example),
        ]

    def staging(self) -> list[str]:
        """[staging]: the copy of the tree, and whether a person looked at what it reaches."""
        reaching = self._found.reaching
        more = len(reaching) - _MOST_SETTINGS
        reviewed = bool(self._answers.get("staging.reviewed", False))
        told = comments(
            "Settings whose names say that they let it act or reach out, by name only:",
            *reaching[:_MOST_SETTINGS],
            *([f"and {more} more, which `unify-db plan --json` lists"] if more > 0 else []),
        )
        return [
            *title("The copy of the tree"),
            *comments(
                "The copy runs the application for real. Say here that you have looked at what it would "
                "reach from there: mail servers, other databases, paid services."
            ),
            *(told if reaching else comments("No setting was found whose name says that it reaches out.")),
            *([] if reviewed else asked("Have you looked at it? Then set this to true; a dry run needs it.")),
            "[staging]",
            Key("reviewed", reviewed).line(),
            Key("exclude", (), "files and folders that are not copied").line(),
            "",
            *comments("Environment variables of the copy, instead of the real ones."),
            "[staging.env]",
            *(comment_out(f'{name} = "..."') for name in _overlayable(reaching)),
        ]

    def approval(self) -> list[str]:
        """[approval], [cutover] and [archive], as they are without a word."""
        return [
            *title("Who decides, and when"),
            "[approval]",
            Key("mode", "auto", 'open gates are enough; "ask": a person approves, too').line(),
            Key("max_age", "24h", "older results have to be made again").line(),
            "",
            "[cutover]",
            Key("soak_s", 10, "how long the switched application is watched").line(),
            "",
            "[archive]",
            Key("retention_days", 30, "how long the old files are kept").line(),
        ]


def _request_keys(request: RequestFind) -> Iterator[Key]:
    yield from (Key("name", request.name), Key("method", request.method), Key("path", request.path))
    if request.body is not None:
        yield Key("body", request.body)
    if request.values:
        yield Key("values", request.values)
    if request.status != 200:
        yield Key("expect_status", request.status)


def _edit_keys(edit: EditProposal) -> Iterator[Key]:
    for name in ("file", "kind", "key", "name", "value", "old", "new"):
        value = getattr(edit, name)
        if value is not None and str(value):
            yield Key(name, str(value))
    if getattr(edit, "when", "switch") != "switch":
        yield Key("when", "archive", "once the old files are archived")


def _overlayable(reaching: Sequence[str]) -> list[str]:
    names = [r.partition(": ")[2].partition(" ")[0] for r in reaching]
    return [n for n in dict.fromkeys(names) if re.fullmatch(r"[A-Z_][A-Z0-9_]*", n)][:10]


def _relative(root: Path, file: Path) -> str:
    return os.path.relpath(root, file.resolve().parent)
