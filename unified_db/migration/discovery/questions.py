"""What nobody can tell from an application's files, as questions to a person in the order of `unify.toml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unified_db.migration import wording
from unified_db.migration.collisions import VERSION_TABLE
from unified_db.migration.config import MigrationConfig
from unified_db.migration.discovery.finds import EditProposal
from unified_db.migration.discovery.outcome import Discovery, OpenQuestion, Rename
from unified_db.sqlite import fold

_MOST_PLACES = 6


def name_edit(edit: EditProposal) -> str:
    """What a question about *edit* is about."""
    return f"edit {edit.file} {edit.key or edit.name or edit.old or edit.kind}"


def find_questions(found: Discovery) -> tuple[OpenQuestion, ...]:
    """The questions that *found* leaves open."""
    return tuple(_questions(found))


def still_open(found: Discovery, config: MigrationConfig) -> tuple[OpenQuestion, ...]:
    """Those of the questions of *found* that *config*, which a person wrote or changed, does not answer."""
    answered = {"staging.reviewed"} if config.staging.reviewed else set()
    answered |= {f"app.{key}" for key in ("start", "stop", "ready") if getattr(config.app, key)}
    answered |= {f"source {s.path}" for s in config.source} | {f"suite {s.name}" for s in config.suite}
    answered |= {f"edit {e.file} {e.key or e.name or e.old or e.kind}" for e in config.edit}
    answered |= {f"rename {r.object}" for r in config.rename}
    answered |= {"suite"} if config.suite else set()
    answered |= {"benchmark.request"} if any(r.changes for r in config.benchmark.request) else set()
    return tuple(q for q in found.questions if q.about not in answered)


def _questions(found: Discovery) -> Iterator[OpenQuestion]:
    for disagreement in found.reading.disagreements:
        sentence = (
            f"Split brain: {disagreement.sentence} Which of these files is the right one? "
            f"{disagreement.remedy} Then remove unify.toml and run `unify-db init` again."
        )
        yield OpenQuestion(about="split brain", sentence=" ".join(sentence.split()), answer="none")
    yield from _about_sources(found)
    yield from _about_server(found)
    for edit in (e for e in found.edits if not e.sure):
        yield OpenQuestion(
            about=name_edit(edit),
            sentence=f"{edit.file}: {edit.why.rstrip('.')}. Make this edit?",
            answer="confirm",
        )
    yield from (OpenQuestion(about="reading", sentence=ask, answer="none") for ask in found.reading.asks)
    yield from _about_rehearsal(found)


def _about_sources(found: Discovery) -> Iterator[OpenQuestion]:
    for source in found.sources:
        if not source.sure:
            sentence = f"Is {source.path} in use, and shall it move? ({source.why})"
            yield OpenQuestion(about=f"source {source.path}", sentence=sentence, answer="confirm")
        elif source.doubt:
            yield OpenQuestion(about=f"source {source.path}", sentence=source.doubt, answer="none")
    if not any(s.kind == "checkpoints" or s.holds_checkpoints for s in found.sources if s.sure):
        sentence = "No file with LangGraph's checkpoints was found. Where are they?"
        yield OpenQuestion(about="source", sentence=sentence, answer="none")
    yield from map(_about_rename, found.renames)


def _about_rename(rename: Rename) -> OpenQuestion:
    about = f"rename {rename.name}"
    both = f"{rename.source} and {rename.other} both have a table {rename.name}."
    if rename.sure:
        sentence = (
            f"{both} Shall the one of {rename.source} be called {rename.to} in the unified file? "
            f"{wording.count(len(rename.edits), 'edit')} of the application's code would say it, too."
        )
        return OpenQuestion(about=about, sentence=sentence, answer="confirm", proposal="no")
    sentence = f"{both} Which name shall the one of {rename.source} get in the unified file?"
    return OpenQuestion(about=about, sentence=f"{sentence} {_left(rename)}", answer="none")


def _left(rename: Rename) -> str:
    """Where the code says the old name, as far as that is known."""
    if fold(rename.name) == VERSION_TABLE:
        return f'Its env.py has to say it, too: context.configure(..., version_table="{rename.to}").'
    if not rename.left:
        return "The application's code has to say it, too; the edits for it are below, where any were found."
    shown = ", ".join(rename.left[:_MOST_PLACES])
    more = len(rename.left) - _MOST_PLACES
    shown += f" and {more} more" if more > 0 else ""
    return (
        f"The application's code has to say it, too. For {shown} there is no edit yet: where that table is "
        "meant, add one; else name the file in `ignore`."
    )


def _about_server(found: Discovery) -> Iterator[OpenQuestion]:
    server = found.server
    if server is None:
        sentence = "No server was found: is this an application without one? Else give the command."
        yield OpenQuestion(about="app.start", sentence=sentence, answer="text")
    else:
        if not server.sure:
            sentence = (
                f"Does this start the server in the foreground, on the port it is given? ({server.why})"
            )
            yield OpenQuestion(about="app.start", sentence=sentence, answer="text", proposal=server.start)
        if not server.ready:
            sentence = "Which path answers 2xx once the server is ready?"
            yield OpenQuestion(about="app.ready", sentence=sentence, answer="text", proposal="/")
        if not server.stop:
            sentence = "Which command stops the server? Empty: you stop it yourself before the cut-over."
            yield OpenQuestion(about="app.stop", sentence=sentence, answer="text")
    if found.python and not _has_runtime(found.root, found.python):
        sentence = f"{found.python} does not have unify-db's runtime. Install it there before the dry run."
        yield OpenQuestion(about="app.python", sentence=sentence, answer="none")


def _about_rehearsal(found: Discovery) -> Iterator[OpenQuestion]:
    for suite in (s for s in found.suites if not s.sure):
        sentence = f"Does `{suite.command}` run the suite {suite.name}? ({suite.why})"
        yield OpenQuestion(about=f"suite {suite.name}", sentence=sentence, answer="confirm")
    if not found.suites:
        sentence = (
            "No test suite was found. Which command tests the application? Without one the gate is closed."
        )
        yield OpenQuestion(about="suite", sentence=sentence, answer="none")
    if found.write is not None:
        sentence = (
            f"Does {found.write.method} {found.write.path} write, with the values that unify.toml proposes? "
            "Then the benchmark sends it to copies of the application."
        )
        yield OpenQuestion(about="benchmark.request", sentence=sentence, answer="confirm")
    elif found.server is not None:
        sentence = "Which request writes? Without one, writing under load is not measured."
        yield OpenQuestion(about="benchmark.request", sentence=sentence, answer="none")
    sentence = "A rehearsal runs the application for real, on a copy. Have you looked at what it would reach?"
    yield OpenQuestion(about="staging.reviewed", sentence=sentence, answer="confirm", proposal="no")


def _has_runtime(root: Path, python: str) -> bool:
    """True where unify-db is installed beside the interpreter *python* of the tree at *root*."""
    home = (root / python).parent.parent
    return any(home.glob("lib/python*/site-packages/unify_db-*.dist-info"))
