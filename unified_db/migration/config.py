"""`unify.toml` as a checked value: where the application is, what moves, what is edited.

Reading is strict: an unknown key is an error with the nearest known one in the hint, since
a misspelt key that is silently ignored is a setting the user believes in.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from unified_db.errors import ConfigError
from unified_db.migration.continuity_config import ContinuityConfig
from unified_db.migration.records import SourceKind
from unified_db.migration.section import PLACEHOLDER, Section
from unified_db.spelling import spelled

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: object) -> object:
    """Turn "90s", "15m", "24h", "1d 6h" into a timedelta; anything else is passed on to Pydantic."""
    if isinstance(text, str) and re.fullmatch(rf"(?:{_DURATION_PART.pattern}\s*)+", text):
        return timedelta(seconds=sum(float(n) * _UNIT_SECONDS[u] for n, u in _DURATION_PART.findall(text)))
    return text


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


class AppConfig(Section):
    """The application: where it is and how it is started and stopped."""

    root: Path = Field(Path(), description="The application's tree, relative to unify.toml.")
    cwd: Path = Field(Path(), description="Where its commands run, relative to root.")
    python: Path | None = Field(
        None,
        description="The application's interpreter, relative to root; "
        "without it the one that runs unify-db. It must be able to import unified_db.",
    )
    start: str = Field(
        "",
        description="The command that starts the server; {python}, {port} and {root} are filled in. "
        "Empty for an application without a server.",
    )
    stop: str = Field(
        "",
        description="The command that stops the server. Empty: you stop it yourself before the cut-over.",
    )
    port: int = Field(8000, ge=1, le=65535, description="The port that the real server listens on.")
    ready: str = Field("/", description="A path that answers 2xx once the server is ready, or a whole URL.")
    ready_timeout_s: float = Field(60.0, gt=0, description="Seconds a start may take.")
    stop_timeout_s: float = Field(30.0, gt=0, description="Seconds a stop may take.")
    log: Path | None = Field(
        None, description="The server's log, relative to root; without it we keep what it prints."
    )
    env: dict[str, str] = Field({}, description="Added to the environment of the application's commands.")


class SourceConfig(Section):
    """One SQLite file that the application uses today."""

    path: Path = Field(description="The file, relative to root.")
    kind: SourceKind = Field("other", description="application, checkpoints, store or other.")
    threads: tuple[str, ...] = Field(
        (),
        description='Columns that name LangGraph threads, each as "table.column", such as '
        '"conversations.thread_id": the proof then also looks for threads that lost their checkpoints, and '
        "for checkpoints that lost their rows.",
    )

    @field_validator("threads")
    @classmethod
    def _have_both_parts(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for column in columns:
            if not all(column.rpartition(".")[::2]):
                raise ValueError(f'{column!r} is no "table.column"')
        return columns


class TargetConfig(Section):
    """The unified file."""

    path: Path = Field(description="Where the unified file will be, relative to root.")


class RenameConfig(Section):
    """An object of a source that gets another name in the unified file, where two have the same."""

    source: Path = Field(description="The source that has the object, as [[source]] path names it.")
    object: str = Field(description="Its table, index, view or trigger; SQLite renames what refers to it.")
    to: str = Field(description="Its name in the unified file.")
    ignore: tuple[str, ...] = Field(
        (),
        description="Files (globs, relative to root) whose mentions of the name mean something else. "
        "A run is refused until edits cover all others.",
    )


class UnionConfig(Section):
    """A table of several sources that becomes one; their definitions agree, and no key has two rows."""

    table: str = Field(description="The table, by its name in the unified file.")
    home: Path = Field(
        description="The source whose rowids are kept, and to which rows written since return on a rollback."
    )


class EditConfig(Section):
    """One edit of the application's tree that the switch makes and the rollback takes back."""

    file: Path = Field(description="The file, relative to root.")
    kind: Literal[
        "dotenv",
        "python-constant",
        "python-default",
        "python-import",
        "python-literal",
        "toml",
        "yaml",
        "json",
        "ini",
        "requirement",
        "text",
    ] = Field(description="What is edited.")
    when: Literal["switch", "archive"] = Field(
        "switch", description="With the switch, or once the old files are archived."
    )
    key: str | None = Field(
        None,
        description="dotenv: the key; toml, yaml, json: the dotted path, a number for a place in a list; "
        "ini: section.option.",
    )
    name: str | None = Field(
        None,
        description="python-constant: NAME or Class.NAME; python-default: function.parameter; "
        "python-literal: the constant, function or Class.method that has it, without it the whole file.",
    )
    value: str | None = Field(
        None,
        description="The new value. requirement: the whole line; "
        "without it the place unify-db was installed from.",
    )
    old: str | None = Field(
        None,
        description="python-import: old dotted name; python-literal: the old value of the text literal, in "
        "an f-string of the piece between two fields; text: the exact old text.",
    )
    new: str | None = Field(
        None,
        description="python-import: new dotted name; python-literal: the new value; text: the new text.",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> EditConfig:
        needed = {
            "dotenv": ("key", "value"),
            "python-constant": ("name", "value"),
            "python-default": ("name", "value"),
            "python-import": ("old", "new"),
            "python-literal": ("old", "new"),
            "toml": ("key", "value"),
            "yaml": ("key", "value"),
            "json": ("key", "value"),
            "ini": ("key", "value"),
            "requirement": (),
            "text": ("old", "new"),
        }[self.kind]
        missing = [n for n in needed if getattr(self, n) is None]
        if missing:
            raise ValueError(f"an edit of kind {self.kind!r} needs {' and '.join(missing)}")
        return self


class SuiteConfig(Section):
    """One of the application's own test suites."""

    name: str = Field(description="How the suite is called in tables.")
    command: str = Field(
        description="{python}, {port}, {root} and {junit} are filled in; "
        "with {junit} the outcome is read test by test, else by exit code."
    )
    timeout_s: float = Field(600.0, gt=0, description="Seconds until the whole process group is ended.")


class RequestConfig(Section):
    """One request that the benchmark sends to both sides."""

    name: str = Field(description="How the endpoint is called in tables.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("GET", description="HTTP method.")
    path: str = Field(
        description="Path with query; {uuid} is filled in afresh for every request, {column} from `values`."
    )
    body: dict[str, Any] | None = Field(
        None, description="JSON body; {uuid} and {column} in its texts are filled in as in the path."
    )
    values: str = Field(
        "",
        description='A SELECT on one source, such as "SELECT thread_id FROM conversations LIMIT 50"; each '
        "request takes its {column} values from one of the rows (the first 1000), the same on both sides.",
    )
    expect_status: int = Field(200, description="The status that counts as no error.")
    expect_text: str = Field("", description="What the answer's text must hold; filled in as the path is.")
    expect_json: dict[str, Any] = Field(
        {}, description="What the answer's JSON must hold at least; filled in as the body is."
    )
    changes: bool = Field(
        False,
        description="True where the request changes state. It must then hold {uuid}, so that it makes a "
        "thread or row of its own each time and touches none of the application's.",
    )

    @model_validator(mode="after")
    def _is_filled_in(self) -> RequestConfig:
        unknown = [n for n in PLACEHOLDER.findall(self.path) if n != "uuid"]
        if unknown and not self.values:
            raise ValueError(f"{{{unknown[0]}}} in the path needs `values`, a query that has this column")
        if self.changes and "{uuid}" not in f"{self.path} {self.body}":
            raise ValueError("a request that changes state needs {uuid} in its path or body")
        return self


class BenchmarkConfig(Section):
    """The benchmark gate."""

    max_ratio: float = Field(1.10, gt=1, description="A median slower by more than this closes the gate.")
    min_diff_ms: float = Field(1.0, ge=0, description="A difference below this never closes the gate.")
    budget_s: float = Field(300.0, gt=0, description="Seconds after which an undecided gate closes.")
    request: tuple[RequestConfig, ...] = Field((), description="What is asked of both sides.")


class StagingConfig(Section):
    """The copy of the application's tree that suites and benchmark run on."""

    reviewed: bool = Field(
        False,
        description="Set to true once you have looked at the environment a staged copy runs with: "
        "it could send mail or call a paid model.",
    )
    exclude: tuple[str, ...] = Field((), description="Folder and file names (globs) that are not copied.")
    include: tuple[str, ...] = Field(
        (),
        description="Names (globs) that are copied though they are left out otherwise: version control, "
        "virtual environments, node_modules, caches, pid files.",
    )
    shared: tuple[str, ...] = Field(
        (),
        description="Large files and folders (globs) that the application only reads: copied once, as one "
        "file of both copies. Writing to one closes the gate.",
    )
    env: dict[str, str] = Field({}, description="Overlays the environment of staged processes.")


class ApprovalConfig(Section):
    """Who decides about the switch."""

    mode: Literal["auto", "ask"] = Field("auto", description="auto: the gates alone; ask: also a person.")
    max_age: Duration = Field(timedelta(hours=24), description="Older evidence must be made again.")
    timeout: Duration = Field(
        timedelta(hours=24),
        gt=timedelta(0),
        le=timedelta(days=7),
        description="How long a run waits for a person, at most 7d; then it ends with nothing changed.",
    )


class CutoverConfig(Section):
    """The cut-over."""

    soak_s: float = Field(
        10.0,
        ge=0,
        description="Seconds the new state is watched before it counts: requests, response times, error rate "
        "and memory against what the benchmark saw of the old files, and the log. What is clearly worse "
        "takes all back.",
    )


class ArchiveConfig(Section):
    """The archive of the old files."""

    retention_days: int = Field(30, ge=0, description="Days the archive is meant to be kept.")


class MigrationConfig(Section):
    """All of unify.toml, plus where it lies.

    Attributes:
        file: unify.toml itself, absolute.
    """

    file: Path = Field(exclude=True, json_schema_extra={"internal": True})
    app: AppConfig
    source: tuple[SourceConfig, ...] = Field(min_length=1)
    target: TargetConfig
    rename: tuple[RenameConfig, ...] = ()
    union: tuple[UnionConfig, ...] = ()
    edit: tuple[EditConfig, ...] = ()
    suite: tuple[SuiteConfig, ...] = ()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    continuity: tuple[ContinuityConfig, ...] = ()
    staging: StagingConfig = StagingConfig()
    approval: ApprovalConfig = ApprovalConfig()
    cutover: CutoverConfig = CutoverConfig()
    archive: ArchiveConfig = ArchiveConfig()

    @field_validator("suite")
    @classmethod
    def _suite_names_differ(cls, suites: tuple[SuiteConfig, ...]) -> tuple[SuiteConfig, ...]:
        names = [s.name for s in suites]
        if len(set(names)) != len(names):
            raise ValueError("two suites have the same name")
        return suites

    @field_validator("continuity")
    @classmethod
    def _conversation_names_differ(
        cls, conversations: tuple[ContinuityConfig, ...]
    ) -> tuple[ContinuityConfig, ...]:
        names = [c.name for c in conversations]
        if len(set(names)) != len(names):
            raise ValueError("two conversations have the same name")
        return conversations

    @model_validator(mode="after")
    def _paths_differ(self) -> MigrationConfig:
        paths = [self.resolve(s.path) for s in self.source]
        if len(set(paths)) != len(paths):
            raise ValueError("two sources are the same file")
        for named in (*(r.source for r in self.rename), *(u.home for u in self.union)):
            if self.resolve(named) not in paths:
                raise ValueError(f"{named} is named by a rename or union, but is no [[source]]")
        if self.resolve(self.target.path) in paths:
            raise ValueError("the target is one of the sources; give the unified file a path of its own")
        return self

    @property
    def root(self) -> Path:
        """The application's tree, absolute."""
        return (self.file.parent / self.app.root).resolve()

    @property
    def cwd(self) -> Path:
        """Where the application's commands run, absolute."""
        return self.resolve(self.app.cwd)

    @property
    def python(self) -> Path:
        """The application's interpreter; not resolved, since a venv's is a link."""
        if self.app.python is None:
            return Path(sys.executable)
        return self.root / self.app.python

    @property
    def target_path(self) -> Path:
        """The unified file's place, absolute."""
        return self.resolve(self.target.path)

    @property
    def state_folder(self) -> Path:
        """`.unify-db` beside unify.toml."""
        return self.file.parent / ".unify-db"

    def resolve(self, path: Path) -> Path:
        """*path* made absolute against the application's root, links followed."""
        return (self.root / path).resolve()

    def label(self, path: Path) -> str:
        """How *path* is named in tables: relative to the root where it lies below it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def command(self, template: str, *, root: Path | None = None, **values: object) -> list[str]:
        """Split a command and fill in {python}, {root}, {port} and what *values* adds; no shell."""
        fields = {"python": self.python, "root": root or self.root, "port": self.app.port, **values}
        return [_fill(word, fields) for word in shlex.split(template)]


def _fill(word: str, fields: dict[str, object]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: str(fields.get(m[1], m[0])), word)


def load_config(path: Path) -> MigrationConfig:
    """Read *path*, or `unify.toml` in it where it is a folder.

    Raises:
        ConfigError: Missing, not TOML, or with a key or value that is not allowed; the message
            names each place.
    """
    path = path / "unify.toml" if path.is_dir() else path
    if not path.exists():
        raise ConfigError(
            f"no configuration at {path}",
            hint="Give one with --config, or copy examples/chat_backend/unify.toml and adapt it.",
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="Mend the file and run again.") from error
    return parse_config(values, file=path)


def parse_config(values: dict[str, Any], *, file: Path) -> MigrationConfig:
    """Check *values* as the content of *file*.

    Raises:
        ConfigError: As in :func:`load_config`.
    """
    try:
        config = MigrationConfig.model_validate({**values, "file": file.resolve()})
    except ValidationError as error:
        places = "; ".join(_describe(item) for item in error.errors())
        raise ConfigError(
            f"{file.name}: {places}", hint="docs/configuration.md lists every key with its meaning."
        ) from error
    named = (config.file, config.cwd, config.target_path, *(config.resolve(s.path) for s in config.source))
    for path in named:
        require_utf_8(path)
    return config


def require_utf_8(path: Path) -> None:
    """Return where the records of a run, which are UTF-8, can hold *path*.

    Raises:
        ConfigError: They cannot.
    """
    if spelled(str(path)) != str(path):
        raise ConfigError(
            f"{path} has a name that is no UTF-8, and the records of a run are",
            hint="Nothing was changed. Rename that folder or file; `unify-db merge` takes any name.",
        )


def _describe(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "file"
    message = item["msg"].removeprefix("Value error, ")
    return f"{place}: {'unknown key' if item['type'] == 'extra_forbidden' else message}"
