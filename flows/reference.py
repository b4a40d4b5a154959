"""The reference of the command, made from the app that serves it; run as a program it prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from flows.cli import app

_OF_ALL = ("--json", "--debug", "--help")
_HEAD = """\
# The command

Made from the command itself by `make docs`; do not edit. `unify-db VERB --help` says the same.

Every verb takes:

| option | meaning |
|---|---|
"""
_JSON = """
## What `--json` prints

One JSON object on standard output; everything else goes to standard error. Every verb has these keys,
null where one does not apply:

| key | what it holds |
|---|---|
| `ok` | true where the exit code is 0 |
| `verb`, `run` | what was asked for, and the run's name |
| `exit_code` | as below |
| `error` | the kind of error, such as `GateClosedError` |
| `message`, `hint` | a sentence, and what to do next |

More of them: `plan` has `plan` (sources, edits, `risks`, `missing`, space), `schema` and `patch`; `merge`
and `validate` have `target`, `tables`, `bytes`, `seconds`, `verdicts`; `dry-run`, `run`, `resume`, `rollback`
and `status` have `state`, `verdicts`, `write_pause_ms`, `downtime_ms`, `report`, `archive`, `next`.
`state` is one of running, waiting, closed, switched, archived, rolled_back, interrupted. A verdict is
`{"gate", "passed", "findings": [{"check", "where", "required", "measured", "passed"}]}`.
Keys may be added; none is renamed.

## What is written where

The answer goes to standard output, everything else to standard error. What standard error does not take
(a full disk, a closed terminal) is let go, and the work goes on. Where standard output does not take the
answer, standard error says so, with what was done, and the exit code is 2 if all else went well. A reader
that wants no more, as in `| head`, changes neither the work nor its exit code.

In a name that is no UTF-8, each byte that is none is written as `\\xff`, in JSON too.

Exit codes are in the [runbook](runbook.md#exit-codes).
"""


def reference_markdown() -> str:
    """docs/cli.md: every verb with its arguments and options."""
    verbs = commands()
    some = verbs["plan"]
    lines = [*_HEAD.splitlines(), *(_row(p) for p in _params(some) if p.opts[0] in _OF_ALL[:2])]
    lines.append("| `--help` | Show the verb's help and end. |")
    for name, command in verbs.items():
        lines += _verb(name, command)
    return "\n".join([*lines, *_JSON.splitlines()]) + "\n"


def commands() -> dict[str, Any]:
    """The verbs of the command in their order, as Click has them."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _verb(name: str, command: Any) -> Iterator[str]:
    params = [p for p in _params(command) if p.opts[0] not in _OF_ALL]
    yield ""
    yield f"## `unify-db {name}`"
    yield ""
    yield " ".join(command.help.split())
    yield ""
    yield "```text"
    yield " ".join(["unify-db", name, *(_usage(p) for p in params)])
    yield "```"
    if params:
        yield ""
        yield "| argument or option | meaning |"
        yield "|---|---|"
        yield from (_row(p) for p in params)


def _params(command: Any) -> list[Any]:
    return [p for p in command.params if not getattr(p, "hidden", False)]


def _usage(param: Any) -> str:
    if param.param_type_name == "argument":
        return _value(param)
    text = param.opts[0] if param.is_flag else f"{param.opts[0]} {_value(param)}"
    return text if param.required else f"[{text}]"


def _row(param: Any) -> str:
    name = _value(param) if param.param_type_name == "argument" else param.opts[0]
    if param.param_type_name != "argument" and not param.is_flag:
        name = f"{name} {_value(param)}"
    default = param.default if isinstance(param.default, str) or hasattr(param.default, "suffix") else None
    meaning = " ".join((param.help or "").split()).replace("|", "\\|")
    return f"| `{name}` | {meaning}{f' Default: `{default}`.' if default else ''} |"


def _value(param: Any) -> str:
    return str(param.metavar or "PATH")  # every option of another type says what it takes


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
