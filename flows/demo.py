"""`unify-db demo`: the whole move on a fresh copy of the example, and checks that it still works."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows import answers, example, order
from flows.answers import Answer
from unified_db.errors import ExitCode, UsageError
from unified_db.migration import account
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Finding, MigrationPlan
from unified_db.migration.runs import RunFolder

if TYPE_CHECKING:
    from flows.ending import Call

log = logging.getLogger("unified_db.demo")

_CONVERSATION = "seed-0001"
_INTERRUPTED = "seed-interrupted"


def run_demo(call: Call, into: Path | None, *, through_prefect: bool) -> Answer:
    """Copy, fill, move and check the example; it is left running on its unified file.

    Raises:
        UsageError: *into* is there and not empty.
        UnifyError: As a run raises it.
    """
    from flows.cli import migrate

    started = time.monotonic()
    folder = new_folder(into)
    config = example.copy_example(folder)
    log_file = folder / "demo.log"
    log.info("demo: a fresh copy of the example in %s", folder)
    example.create_tables(config, log_file)
    example.start(config, folder / "server.log")
    log.info("demo: its server answers on port %d", config.app.port)
    try:
        log.info("demo: filled through its HTTP API (%s)", example.seed(config, log_file))
        before = _count_messages(config)
        call.run = order.begin(config, dry_run=False)
        home = folder / "prefect" if through_prefect else None
        migrate(config, call.run, dry_run=False, through_prefect=through_prefect, prefect_home=home)
        checks = check_application(config, messages_before=before)
    except BaseException:
        example.stop(config, log_file)
        raise
    return _answer(config, call.run, checks, home=home, seconds=time.monotonic() - started)


def new_folder(into: Path | None) -> Path:
    """*into*, or a new folder for this moment under `unify-db-demo` here; made and empty.

    Raises:
        UsageError: It is there and not empty.
    """
    if into is None:
        parent = Path("unify-db-demo")
        parent.mkdir(exist_ok=True)
        # Demos made inside of a repository stay out of it.
        (parent / ".gitignore").write_text("*\n")
        into = parent / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UsageError(f"{into} is not empty", hint="Nothing was done. Name a new folder with --into.")
    into.mkdir(parents=True, exist_ok=True)
    return into.resolve()


def check_application(config: MigrationConfig, *, messages_before: int) -> tuple[Finding, ...]:
    """Ask the application what a user would: does yesterday's conversation go on?"""
    with _client(config) as client:
        return (
            _check("it serves", "/api/ping", "200", lambda: str(client.get("/api/ping").status_code)),
            _check(
                "a conversation begun before goes on",
                _CONVERSATION,
                f"{messages_before} messages, then {messages_before + 2}",
                lambda: f"{_history(client)} messages, then {_say_more(client)}",
            ),
            _check("an interrupted graph resumes", _INTERRUPTED, "resumed", lambda: _resume(client)),
            *(_check_fence(config, config.resolve(s.path)) for s in config.source),
        )


def _check(what: str, where: str, required: str, measure: Callable[[], str]) -> Finding:
    try:
        measured = measure()
    except (httpx.HTTPError, KeyError, ValueError) as error:
        measured = f"{type(error).__name__}: {error}"
    return Finding(check=what, where=where, required=required, measured=measured, passed=measured == required)


def _check_fence(config: MigrationConfig, old: Path) -> Finding:
    def open_it() -> str:
        try:
            with closing(sqlite3.connect(old)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_schema")
        except sqlite3.DatabaseError as error:
            return str(error)
        return "opens as a database"

    what = "the old path no longer opens as a database"
    return _check(what, config.label(old), "file is not a database", open_it)


def _count_messages(config: MigrationConfig) -> int:
    with _client(config) as client:
        return _history(client)


def _history(client: httpx.Client) -> int:
    return len(_get(client, f"/api/history/{_CONVERSATION}")["messages"])


def _say_more(client: httpx.Client) -> int:
    body = {"thread_id": _CONVERSATION, "message": "What is my name?"}
    client.post("/api/chat", json=body).raise_for_status()
    return _history(client)


def _resume(client: httpx.Client) -> str:
    if not _get(client, f"/api/history/{_INTERRUPTED}")["state"]["interrupted"]:
        return "it did not wait for a decision"
    answer = client.post(f"/api/chat/{_INTERRUPTED}/resume", json={"decision": "approve"})
    return "still interrupted" if answer.raise_for_status().json()["interrupted"] else "resumed"


def _get(client: httpx.Client, path: str) -> Any:
    return client.get(path).raise_for_status().json()


def _client(config: MigrationConfig) -> httpx.Client:
    # A proxy in the environment must not stand between us and our own server.
    return httpx.Client(base_url=f"http://127.0.0.1:{config.app.port}", timeout=30, trust_env=False)


def _answer(
    config: MigrationConfig,
    run: RunFolder,
    checks: tuple[Finding, ...],
    *,
    home: Path | None,
    seconds: float,
) -> Answer:
    passed = all(c.passed for c in checks)
    commands = _commands(config, run, home)
    failed = next((c for c in checks if not c.passed), None)
    message = f"the example runs on one file, {seconds:.0f} s after the start of the demo"
    if failed:
        message = f"{failed.check} at {failed.where}: required {failed.required}, measured {failed.measured}"
    facts = {
        **answers.run_facts(run),
        "demo": str(config.root),
        "url": f"http://127.0.0.1:{config.app.port}",
        "checks": [c.model_dump() for c in checks],
        "commands": commands,
        "seconds": round(seconds, 1),
    }
    return Answer(
        message=message,
        hint=f"`{commands['roll back']}` takes it back.",
        facts=facts,
        page=_page(run, checks, commands, message),
        exit_code=ExitCode.DONE if passed else ExitCode.UNDONE,
        error=None if passed else "DemoError",
    )


def _commands(config: MigrationConfig, run: RunFolder, home: Path | None) -> dict[str, str]:
    stop = " ".join(config.command(config.app.stop))
    commands = {
        "roll back": f"{_program('unify-db')} rollback {run.name} --config {config.file}",
        "stop the example": f"cd {config.cwd} && {stop}",
    }
    if home is not None and home.exists():
        start = f"PREFECT_HOME={home} {_program('prefect')} server start"
        return {"open Prefect's pages on http://127.0.0.1:4200": start, **commands}
    return commands


def _program(name: str) -> str:
    """How *name* is called from here: by name where the path finds ours, else by its place."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    return str(beside) if beside.exists() and (found is None or Path(found) != beside) else name


def _page(
    run: RunFolder, checks: tuple[Finding, ...], commands: dict[str, str], message: str
) -> RenderableType:
    facts = answers.run_facts(run)
    parts: list[RenderableType] = [Text(message, style="bold"), Text(""), _moved(run), Text("")]
    parts += [answers.verdict_line(v) for v in answers.load_verdicts(run)]
    parts += [_check_line(c) for c in checks]
    parts += [Text(""), Text(f"times    {_times(run)}")]
    if facts["downtime_ms"] is not None:
        parts.append(
            Text(f"away     {facts['downtime_ms']:.0f} ms, {facts['write_pause_ms']:.0f} ms of it ours")
        )
    parts += [Text(f"{name:<9}{facts[name]}") for name in ("report", "archive") if facts[name]]
    parts.append(Text(""))
    for what, command in commands.items():
        parts += [Text(f"To {what}:"), Text(f"  {command}", style="cyan")]
    return Group(*parts)


def _moved(run: RunFolder) -> RenderableType:
    plan = run.load("plan", MigrationPlan)
    table = Table(box=None, pad_edge=False)
    for name in ("table", "rows", "from", "to"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for facts in (t for s in plan.sources for t in s.tables) if plan else ():
        target = plan.target.name if plan else ""
        table.add_row(Text(facts.name), f"{facts.rows:,}", Text(facts.source), target)
    return table


def _check_line(check: Finding) -> Text:
    sign, style = ("✓", "green") if check.passed else ("✗", "red")
    return Text.assemble((f"{sign} ", style), f"{check.check}: {check.where}, {check.measured}")


def _times(run: RunFolder) -> str:
    spans = account.timeline(account.load_account(run))
    return ", ".join(f"{s.phase} {s.seconds:.1f} s" for s in spans if s.seconds is not None)
