"""What was found in an application's tree: records alone, each with the place that says so.

Values are kept where they are paths, URLs of SQLite, commands and names; nothing else of a setting is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from unified_db.migration.records import Record

DatabaseKind = Literal["checkpoints", "store", "application", "other"]
SettingKind = Literal[
    "dotenv",
    "python-constant",
    "python-default",
    "python-literal",
    "settings-field",
    "environment",
    "command-line",
    "derived",
    "toml",
    "yaml",
    "json",
    "ini",
]
Role = Literal["checkpoints", "store", "engine", "unknown"]


class Place(Record):
    """A line of a file, relative to the application's root."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class DatabaseFind(Record):
    """A SQLite file of the tree, or one that only its WAL shows.

    Attributes:
        path: Relative to the application's root.
        kind: What it most likely is.
        why: Sentences that say what speaks for that, strongest first.
        era: LangGraph's tables: "current", "before task_path", "before checkpoint_ns"; else empty.
        decoy: Why it is probably not in use (a test database, an old copy, a vector store); else empty.
        problem: Why it cannot be read; else empty.
        table_names: Its tables, in the order of their creation.
    """

    path: Path
    kind: DatabaseKind
    why: tuple[str, ...]
    tables: int = 0
    rows: int = 0
    size_bytes: int = 0
    era: str = ""
    alembic: bool = False
    decoy: str = ""
    problem: str = ""
    table_names: tuple[str, ...] = ()


class PathSetting(Record):
    """One place that says, or has a part in saying, where a database is.

    Attributes:
        kind: In which way the value stands there.
        key: What an edit of this place is addressed by: a dotenv key, `NAME` or `Class.NAME`,
            `function.parameter`, a dotted path, `section.option`; empty for a literal in the code.
        raw: The value as it stands there: a path or a URL of SQLite.
        style: How the value names the file.
        relative_to: What a relative value is relative to.
        resolved: The file that it names, relative to the root where it lies in it; None where that
            cannot be told.
        base: The folder that *part* is relative to, written as *resolved*; None where nothing can be
            put in its place.
        part: What of *raw* is the path, or the end of it that stands here.
        wins: True where this is the value that the application uses as far as can be read.
        role: What the application does with it.
        why: One sentence: how the value gets from here to where it is used, or why it loses.
        commented: A line that is commented out.
    """

    kind: SettingKind
    place: Place
    key: str
    raw: str
    style: Literal["path", "url", "async-url"]
    relative_to: Literal["cwd", "file", "absolute", "unknown"] = "unknown"
    resolved: Path | None = None
    base: Path | None = None
    part: str = ""
    wins: bool = False
    role: Role = "unknown"
    why: str = ""
    commented: bool = False


class SaverUse(Record):
    """A place that builds one of LangGraph's SQLite savers or stores, or one of ours.

    Attributes:
        name: The dotted name as imported, such as `langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver`.
        imported: Where the import stands.
        built: How it is built: "from_conn_string", "connection", or "unknown".
        resolved: The file that it opens, where that can be told; relative to the root where it lies in it.
        why: How the path comes here, or why it cannot be told.
    """

    name: str
    place: Place
    imported: Place
    is_async: bool
    built: Literal["from_conn_string", "connection", "unknown"]
    resolved: Path | None = None
    why: str = ""


class EngineUse(Record):
    """A place that makes a SQLAlchemy engine or opens a file with `sqlite3` or `aiosqlite`."""

    place: Place
    call: str
    is_async: bool
    resolved: Path | None = None
    why: str = ""


class Disagreement(Record):
    """Two places that say where the same thing is, and name different files (a split brain).

    Attributes:
        sentence: What reads the value where, and which file each of them opens now.
        remedy: How they come to agree, whichever file is the right one; a sentence, too.
    """

    settings: tuple[PathSetting, ...]
    sentence: str
    remedy: str = ""


class TreeReading(Record):
    """What the application's sources and settings say about its databases.

    Attributes:
        cwd: The folder, relative to the root, that relative paths were taken to be relative to.
        cwd_why: What speaks for it.
        unread: Files that could not be read or parsed, with the reason.
        asks: What could not be told, each as a question to a person.
    """

    cwd: str = "."
    cwd_why: str = ""
    settings: tuple[PathSetting, ...] = ()
    savers: tuple[SaverUse, ...] = ()
    engines: tuple[EngineUse, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    unread: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()


class ServerFind(Record):
    """How the application's server seems to start.

    Attributes:
        start: The command with {python} and {port} filled in by us.
        cwd: Where it runs, relative to the root.
        ready: A path that answers once it serves; empty where none was found.
        stop: A command that stops it; empty where none was found.
        sure: False where a person has to confirm.
    """

    framework: Literal["fastapi", "flask", "streamlit", "django", "script", "other"]
    start: str
    cwd: str
    port: int
    ready: str
    stop: str
    why: str
    sure: bool


class SuiteFind(Record):
    """A test suite, as a command of `[[suite]]`."""

    name: str
    command: str
    why: str
    sure: bool


class RequestFind(Record):
    """A route that the benchmark could ask.

    Attributes:
        values: A SELECT that gives what is named in braces in the path; empty where nothing is.
        body: Of a request that writes what it sends; None for none.
        status: Of a good answer.
    """

    name: str
    method: str
    path: str
    why: str
    sure: bool
    values: str = ""
    body: dict[str, JsonValue] | None = None
    status: int = 200


class EditProposal(Record):
    """An edit that makes the application use the unified file, as an entry of `[[edit]]`.

    Attributes:
        why: One sentence: what the edit does, or why a person has to decide.
        sure: False where a person has to confirm.
    """

    file: str
    kind: str
    key: str | None = None
    name: str | None = None
    value: str | None = None
    old: str | None = None
    new: str | None = None
    when: Literal["switch", "archive"] = "switch"
    why: str
    sure: bool
