"""What looking at an application's tree comes to: what moves, what is proposed, what is open."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unified_db.migration.discovery.finds import (
    DatabaseFind,
    EditProposal,
    RequestFind,
    ServerFind,
    SuiteFind,
    TreeReading,
)
from unified_db.migration.discovery.sources_in_use import SourceChoice
from unified_db.migration.records import Record


class OpenQuestion(Record):
    """Something that a person has to say, or should know before a run.

    Attributes:
        about: What it is about, as a key: `app.stop`, `source PATH`, `suite NAME`, `staging.reviewed`.
        sentence: The question itself.
        answer: How it can be answered at a prompt: with a text, with yes or no, or only by thinking.
        proposal: What stands until somebody answers.
    """

    about: str
    sentence: str
    answer: Literal["text", "confirm", "none"]
    proposal: str = ""


class Rename(Record):
    """A name that two sources have, and another one for it in the unified file.

    Attributes:
        source: Whose table gets the other name; *other* keeps its own.
        edits: What says the new name in the application's code.
        left: "file:line" of what still says the old one after these edits.
        sure: True where the edits are all that it takes, so that a yes is enough.
    """

    source: Path
    other: Path
    name: str
    to: str
    edits: tuple[EditProposal, ...] = ()
    left: tuple[str, ...] = ()
    sure: bool = False


class Discovery(Record):
    """All that was found, and what `unify.toml` should say.

    Attributes:
        root: The application's tree, absolute.
        databases: Every SQLite file of the tree, and those that a setting names.
        sources: The databases that may move; those that are `sure` do.
        python: The application's interpreter, relative to the root; empty for the one that runs unify-db.
        write: A request that changes state, for a person to look at; None where none can be told.
        reaching: Names of settings that let a staged copy act on the world.
        left_out: What of the tree was passed over though it is none of a tool's own: a sentence each.
        questions: In the order in which they are asked.
    """

    root: Path
    databases: tuple[DatabaseFind, ...]
    reading: TreeReading
    sources: tuple[SourceChoice, ...]
    target: Path
    cwd: str
    python: str
    server: ServerFind | None
    suites: tuple[SuiteFind, ...]
    requests: tuple[RequestFind, ...]
    write: RequestFind | None
    edits: tuple[EditProposal, ...]
    renames: tuple[Rename, ...]
    reaching: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    questions: tuple[OpenQuestion, ...] = ()
