"""The command `unify-db`: its verbs and options. How every verb ends is in `flows.ending`.

What is heavy is imported in the verb that needs it: `--help` and `status` are typed often.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import Call, TerminatedError, answer_mistake, code_of_help, serve, take_signals
from flows.streams import take_streams
from unified_db.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from flows.answers import Answer
    from unified_db.migration.config import MigrationConfig
    from unified_db.migration.records import Choice
    from unified_db.migration.runs import RunFolder

log = logging.getLogger("unified_db.command")

app = typer.Typer(
    name="unify-db",
    help="Move a LangGraph application's SQLite files into one, prove it, and take it back on request.",
    epilog="Exit codes: 0 done, 1 our bug, 2 wrong use, 3 a gate is closed, 4 a source cannot be used, "
    "5 undone after the stop, 130/143 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer brings its own copy of Click's errors; this is their common base.
_UsageMistake: type[Exception] = typer.BadParameter.__mro__[1].__mro__[1]

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The application's unify.toml, or the folder it lies in.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, all else on standard error.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
NoPrefectOption = Annotated[bool, typer.Option("--no-prefect", help="Run without showing it in Prefect.")]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's name, as `unify-db status` gives it, or its beginning."),
]

EvidenceOption = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="DIGEST",
        help="The digest of the evidence that you looked at, or its beginning; any other is refused.",
    ),
]
DeciderOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; your account without it.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the report.")]

RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="SOURCE:OLD=NEW",
        help="Give a table, index, view or trigger of SOURCE another name in the unified file.",
    ),
]
UnionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--union",
        metavar="[SOURCE:]TABLE",
        help="Make one table of the rows that several sources have in TABLE; SOURCE keeps its rowids.",
    ),
]

_CONFIG = Path("unify.toml")


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Show the version or, without a verb, the help."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"unify-db {version_of('unify-db')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("init", short_help="Write unify.toml for an application.")
def initiate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The application's folder; this one without it.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="The file to write, instead of unify.toml in the application's folder."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: what is not sure stands in the file as a question.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at an application's tree, find its databases and where their paths are set, write unify.toml.

    Nothing else is changed, and nothing of the application is run. A file that is there is kept; what it
    does not have yet is added to it as questions.
    """
    from flows.initiate import can_ask
    from flows.initiate import initiate as work

    asks = can_ask(yes=yes, as_json=as_json)
    serve(Call("init", as_json, debug, talks=asks), lambda _call: work(folder, config, asks=asks))


@app.command(short_help="What would move, collide and be edited; looks only.")
def plan(config: ConfigOption = _CONFIG, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Look only: what would move, what would collide, what would be edited, how long, how much space."""

    def work(call: Call) -> Answer:
        from flows import order
        from flows.answers import answer_plan
        from flows.direct import Direct

        loaded = _load(config)
        call.run = order.begin(loaded, dry_run=True)
        return answer_plan(call.run, order.look(Direct(), loaded, call.run))

    serve(Call("plan", as_json, debug), work)


@app.command("dry-run", short_help="The whole flow short of the switch.")
def dry_run(
    config: ConfigOption = _CONFIG,
    no_prefect: NoPrefectOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Do everything short of the switch: nothing of the application changes."""
    serve(
        Call("dry-run", as_json, debug),
        lambda call: _migrate(call, config, dry_run=True, through_prefect=not no_prefect),
    )


@app.command(short_help="The whole flow.")
def run(
    config: ConfigOption = _CONFIG,
    no_prefect: NoPrefectOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make the whole move: rehearse, decide, switch the application over, archive its old files."""
    serve(
        Call("run", as_json, debug),
        lambda call: _migrate(call, config, dry_run=False, through_prefect=not no_prefect),
    )


@app.command(short_help="Where a run stands and what to do next.")
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; the newest one without it.")
    ] = None,
    config: ConfigOption = _CONFIG,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell where a run stands, its verdicts, and what to do next."""

    def work(call: Call) -> Answer:
        from flows.answers import answer_run

        call.run = _find_run(config, run)
        return answer_run(call.run)

    serve(Call("status", as_json, debug), work)


@app.command(short_help="Go on after a crash.")
def resume(
    run: RunArgument,
    config: ConfigOption = _CONFIG,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go on with a run after a crash, without Prefect; what was done is not done again."""

    def work(call: Call) -> Answer:
        from flows import order
        from flows.answers import answer_run
        from flows.direct import Direct

        call.run = _find_run(config, run)
        order.resume(Direct(), _config_of(call.run, config), call.run)
        return answer_run(call.run)

    serve(Call("resume", as_json, debug), work)


@app.command(short_help="Let a run that waits make the switch.")
def approve(
    run: RunArgument,
    evidence: EvidenceOption = None,
    by: DeciderOption = None,
    reason: ReasonOption = "",
    config: ConfigOption = _CONFIG,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Approve the switch of a run that waits for a person; the run goes on by itself. Needs no Prefect."""
    serve(
        Call("approve", as_json, debug),
        lambda call: _decide(call, config, run, choice="approve", by=by, evidence=evidence, reason=reason),
    )


@app.command(short_help="End a run that waits; nothing changes.")
def reject(
    run: RunArgument,
    evidence: EvidenceOption = None,
    by: DeciderOption = None,
    reason: ReasonOption = "",
    config: ConfigOption = _CONFIG,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Reject the switch of a run that waits for a person: it ends with nothing changed. Needs no Prefect."""
    serve(
        Call("reject", as_json, debug),
        lambda call: _decide(call, config, run, choice="reject", by=by, evidence=evidence, reason=reason),
    )


@app.command(short_help="Take the cut-over back.")
def rollback(
    run: RunArgument,
    config: ConfigOption = _CONFIG,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take the cut-over of a run back, with the rows written since; needs no Prefect."""

    def work(call: Call) -> Answer:
        from flows import order
        from flows.answers import answer_run
        from flows.direct import Direct

        call.run = _find_run(config, run)
        order.roll_back(Direct(), _config_of(call.run, config), call.run)
        return answer_run(call.run)

    serve(Call("rollback", as_json, debug), work)


@app.command(short_help="Merge files without an application.")
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", readable=False, help="SQLite files, in use or not.")
    ],
    into: Annotated[Path, typer.Option("--into", metavar="TARGET", readable=False, help="The unified file.")],
    backups: Annotated[
        Path | None, typer.Option("--backups", metavar="DIR", help="Where the copies of the sources go.")
    ] = None,
    rename: RenameOption = None,
    union: UnionOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Back files up at one instant, merge them, prove the result equal; no application needed."""

    def work(_call: Call) -> Answer:
        from flows.answers import answer_merge
        from unified_db.migration.standalone import merge_sources

        return answer_merge(
            merge_sources(sources, into, backups=backups, renames=rename or (), unions=union or ())
        )

    serve(Call("merge", as_json, debug), work)


@app.command(short_help="Compare a unified file with its sources.")
def validate(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", readable=False, help="The files it was made from.")
    ],
    against: Annotated[
        Path, typer.Option("--against", metavar="TARGET", readable=False, help="The unified file.")
    ],
    rename: RenameOption = None,
    union: UnionOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare a unified file with its sources, cell by cell; exit 3 where they differ."""

    def work(_call: Call) -> Answer:
        from flows.answers import answer_merge
        from unified_db.migration.standalone import validate_sources

        return answer_merge(validate_sources(sources, against, renames=rename or (), unions=union or ()))

    serve(Call("validate", as_json, debug), work)


@app.command(short_help="Copy a live database.")
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="A SQLite file, in use or not.")
    ],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The folder for the copy.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy a live SQLite file as one consistent image, with what is in its WAL."""

    def work(_call: Call) -> Answer:
        from flows.answers import Answer
        from unified_db.migration.backup import backup_file

        copy = backup_file(file, into)
        facts = {"backup": str(copy.path), "bytes": copy.size_bytes, "sha256": copy.sha256}
        return Answer(message=f"{copy.path}: {copy.size_bytes:,} bytes, checked", facts=facts)

    serve(Call("backup", as_json, debug), work)


@app.command(short_help="Put a backup in place.")
def restore(
    backup: Annotated[
        Path, typer.Argument(metavar="BACKUP", readable=False, help="A copy that `unify-db backup` made.")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", readable=False, help="The database that it replaces.")
    ],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Put a backup in the place of a database; the file that was there is kept beside it."""

    def work(_call: Call) -> Answer:
        from flows.answers import Answer
        from unified_db.migration.backup import restore_file

        restored = restore_file(backup, to)
        return Answer(message=f"{restored}: restored from {backup}", facts={"restored": str(restored)})

    serve(Call("restore", as_json, debug), work)


@app.command(short_help="All of it on a copy of the example.")
def demo(
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="An empty or new folder for the demo.")
    ] = None,
    no_prefect: NoPrefectOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Do all of it on a fresh copy of the example application, which is left running."""

    def work(call: Call) -> Answer:
        from flows.demo import run_demo

        return run_demo(call, into, through_prefect=not no_prefect)

    serve(Call("demo", as_json, debug), work)


def _migrate(call: Call, config: Path, *, dry_run: bool, through_prefect: bool) -> Answer:
    from flows import order
    from flows.answers import answer_run

    loaded = _load(config)
    call.run = order.begin(loaded, dry_run=dry_run)
    log.info("run %s of %s", call.run.name, loaded.root)
    migrate(loaded, call.run, dry_run=dry_run, through_prefect=through_prefect)
    return answer_run(call.run)


def _decide(
    call: Call,
    config: Path,
    name: str,
    *,
    choice: Choice,
    by: str | None,
    evidence: str | None,
    reason: str,
) -> Answer:
    from flows.answers import answer_decision
    from unified_db.migration import approval, gates

    call.run = _find_run(config, name)
    decision = approval.decide(
        call.run, choice, by=by or gates.account_name(), evidence=evidence, reason=reason
    )
    return answer_decision(call.run, decision)


def migrate(
    config: MigrationConfig,
    run: RunFolder,
    *,
    dry_run: bool,
    through_prefect: bool,
    prefect_home: Path | None = None,
) -> None:
    """Do *run*, shown in Prefect (the one at home in *prefect_home*) where wished and possible."""
    if through_prefect:
        from flows import through_prefect as prefect

        prefect.migrate(config, run, dry_run=dry_run, home=prefect_home)
    else:
        from flows import order
        from flows.direct import Direct

        order.migrate(Direct(), config, run, dry_run=dry_run)


def _load(config: Path) -> MigrationConfig:
    from unified_db.migration.config import load_config

    return load_config(config)


def _file_of(config: Path) -> Path:
    return (config / "unify.toml" if config.is_dir() else config).resolve()


def _find_run(config: Path, name: str | None) -> RunFolder:
    """The run called *name*; `unify.toml` itself is not read, so that a broken one is in nobody's way."""
    from unified_db.migration.runs import open_run

    state_folder = _file_of(config).parent / ".unify-db"
    if not state_folder.is_dir():
        _load(config)  # names the mistake where it is the configuration that is missing
    run = open_run(state_folder, name)
    if not run.journal.exists():
        raise UsageError(f"run {run.name} has no journal", hint=f"It never began; {run.path} may be removed.")
    return run


def _config_of(run: RunFolder, config: Path) -> MigrationConfig:
    """The configuration that *run* began with, whatever `unify.toml` says by now."""
    import tomllib

    from unified_db.migration.config import parse_config

    if not run.config.exists():
        return _load(config)
    values = tomllib.loads(run.config.read_text(encoding="utf-8-sig"))
    return parse_config(values, file=_file_of(config))


def main(arguments: Sequence[str]) -> int:
    """Run the command line *arguments*; the exit code."""
    take_streams()
    take_signals()
    code = _run_app(arguments)
    prefect = sys.modules.get("flows.through_prefect")
    if prefect is not None and prefect.failed.is_set():
        # Everything is said and on the disk; what is left would wait for an API that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run_app(arguments: Sequence[str]) -> int:
    try:
        # What is returned is the code of typer.Exit, or None where the help was printed.
        code = app(args=list(arguments), prog_name="unify-db", standalone_mode=False)
        return int(code) if code else code_of_help()
    except _UsageMistake as error:
        return answer_mistake(arguments, error)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except TerminatedError:
        return int(ExitCode.TERMINATED)
