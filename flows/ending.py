"""One way for every verb to end: its answer, its error or an interruption shown, and the exit code.

What is heavy is imported where it is needed, as in `flows.cli`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console

from flows import streams
from unified_db.errors import ExitCode, UnifyError, UsageError
from unified_db.spelling import spelled_in_json

if TYPE_CHECKING:
    from flows.answers import Answer
    from unified_db.migration.runs import RunFolder

# Of these the path that was given is to blame, where the system refuses it; of all others, we are.
_GIVEN_PATHS = frozenset({"init", "merge", "validate", "backup", "restore"})


class TerminatedError(BaseException):
    """SIGTERM or SIGHUP arrived. No `Exception`: nobody may take it for a failed phase and go on."""


@dataclass
class Call:
    """One call of a verb: what was asked for, and the run it concerns once that is known.

    Attributes:
        talks: True where the verb asks at the terminal, so that nothing moves beside its questions.
    """

    verb: str
    as_json: bool
    debug: bool
    run: RunFolder | None = None
    told: Console = field(default_factory=lambda: Console(stderr=True))
    talks: bool = False

    @property
    def run_name(self) -> str | None:
        """The run's name, None where there is none."""
        return self.run.name if self.run is not None else None


def serve(call: Call, work: Callable[[Call], Answer]) -> NoReturn:
    """Do *work*, show its answer or its error, and end with the exit code that says which."""
    from flows import answers
    from flows.terminal import shown

    with _reserved_output(call):
        try:
            watched = shown(call.told, debug=call.debug, quiet=call.as_json)
            with contextlib.nullcontext() if call.talks else watched:
                answer = work(call)
        except UnifyError as error:
            answer = answers.answer_failure(error, _existing(call))
        except (KeyboardInterrupt, TerminatedError) as error:
            answer = _answer_interruption(call, error)
        except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            wrong_use = call.verb in _GIVEN_PATHS
            answer = (
                answers.answer_failure(_as_wrong_use(error), _existing(call))
                if wrong_use
                else _answer_refusal(call, error) or _answer_bug(call, error)
            )
        except Exception as error:  # noqa: BLE001 -- told to the user with where its traceback is
            answer = _answer_refusal(call, error) or _answer_bug(call, error)
        if _asked_to_end and answer.error is not None:
            # SQLite turns what a callback of ours raises into an error of its own.
            answer = _answer_interruption(call, _asked_to_end[0])
    raise typer.Exit(int(_tell(call, answer)))


def _as_wrong_use(error: OSError) -> UsageError:
    """A path that the user gave and that the system refuses."""
    reason = (error.strerror or str(error)).lower()
    return UsageError(f"{error.filename}: {reason}", hint="Nothing was written there. Name another path.")


def _existing(call: Call) -> RunFolder | None:
    """The call's run, forgotten where it never began since another one was at work."""
    if call.run is not None and not call.run.path.exists():
        call.run = None
    return call.run


def _tell(call: Call, answer: Answer) -> ExitCode:
    """Show *answer*; what to end with, which is another code only where all is done and cannot be told."""
    from flows import answers

    if call.as_json:
        _print_json(answers.as_json(call.verb, call.run_name, answer))
    elif answer.error is None:
        answers.show(Console(), answer)
    if answer.error is not None:
        if answer.page is not None and not call.as_json:
            answers.show(Console(), answer)
        _tell_error(call.told, answer.message, answer.hint)
    return _code_where_told(call.told, answer.exit_code, f"What was asked for is done: {answer.message}")


def _code_where_told(console: Console, code: ExitCode, done: str) -> ExitCode:
    """*code*, or another one with a sentence where standard output did not take what was *done*."""
    refusal = streams.unwritten()
    if refusal is None:
        return code
    reason = (refusal.strerror or str(refusal)).lower()
    _tell_error(
        console, f"standard output did not take the answer: {reason}", "" if code else f"{done.rstrip('.')}."
    )
    # Wrong use: the caller gave us an output that takes nothing.
    return code or ExitCode.USAGE


def _tell_error(console: Console, message: str, hint: str) -> None:
    console.print("unify-db:", style="bold red", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", markup=False, highlight=False, soft_wrap=True)


def _answer_interruption(call: Call, error: BaseException) -> Answer:
    from flows import answers

    terminated = isinstance(error, TerminatedError)
    facts = _facts_of_stopped(call)
    return answers.Answer(
        message="terminated" if terminated else "interrupted",
        hint=str(facts.get("next", "What was not finished is gone. Run again, if you like.")),
        facts=facts,
        exit_code=ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED,
        error="Terminated" if terminated else "Interrupted",
    )


def _answer_refusal(call: Call, error: Exception) -> Answer | None:
    """A full disk, a permission, a read-only folder or a limit that no phase met; None of anything else."""
    from flows import answers
    from unified_db import causes

    facts = _facts_of_stopped(call)
    state = facts.get("next", "Nothing was done; run again.")
    refused = causes.refusal(error, hint=f"{causes.way_out(error)}. {state}")
    if refused is None:
        return None
    return replace(answers.answer_failure(refused, None), facts=facts)


def _answer_bug(call: Call, error: Exception) -> Answer:
    from flows import answers

    if call.debug:
        traceback.print_exception(error, file=sys.stderr)
    known = _existing(call)
    where = f"The traceback is in {known.log}." if known and known.log.exists() else "`--debug` shows where."
    facts = _facts_of_stopped(call)
    return answers.Answer(
        message=f"a bug of unify-db: {type(error).__name__}: {error}",
        hint=f"{where} {facts.get('next', '')}".strip(),
        facts=facts,
        exit_code=ExitCode.BUG,
        error=type(error).__name__,
    )


def _facts_of_stopped(call: Call) -> dict[str, object]:
    """What is known of the call's run, which does not go on: its journal may still say that it is at work."""
    from flows import answers
    from unified_db.migration import journal

    known = _existing(call)
    if known is None or not known.journal.exists():
        return {}
    facts = answers.run_facts(known)
    if facts["state"] == "running":
        left = journal.what_is_left(journal.read_entries(known.journal))
        told = journal.next_step(known.name, "interrupted", left=left)
        return {**facts, "state": "interrupted", "next": told}
    if facts["state"] in {"waiting", "switched"}:
        return {**facts, "next": journal.next_step(known.name, facts["state"], alive=False)}
    return facts


@contextlib.contextmanager
def _reserved_output(call: Call) -> Iterator[None]:
    """With `--json`, lead all that is written to standard output elsewhere, by child processes too."""
    if not call.as_json:
        yield
        return
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        # What is printed here is let go where standard error does not take it, like every line there.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(out, 1)
        os.close(out)


def _print_json(content: dict[str, object]) -> None:
    line = spelled_in_json(json.dumps(content, default=str, ensure_ascii=False))
    sys.stdout.flush()
    # Whatever the terminal's encoding is, JSON is UTF-8.
    sys.stdout.buffer.write(f"{line}\n".encode())


def answer_mistake(arguments: Sequence[str], error: Exception) -> int:
    """A mistake in the command line itself, which Click finds before any verb is called."""
    from flows.answers import Answer, as_json

    message = error.format_message() if hasattr(error, "format_message") else str(error)
    answer = Answer(
        message=message,
        hint="`unify-db --help` lists the verbs, `unify-db VERB --help` the options of one.",
        exit_code=ExitCode.USAGE,
        error="UsageError",
    )
    verb = next((a for a in arguments if not a.startswith("-")), "")
    call = Call(verb, as_json="--json" in arguments, debug=False)
    if call.as_json:
        _print_json(as_json(verb, None, answer))
    _tell_error(call.told, answer.message, answer.hint)
    return int(_code_where_told(call.told, answer.exit_code, ""))


def code_of_help() -> int:
    """What to end with where no verb was called: help or version stand on standard output, or do not."""
    return int(_code_where_told(Console(stderr=True), ExitCode.DONE, "Nothing was done"))


_asked_to_end: list[BaseException] = []


def take_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the verb that is at work, in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever starts us in the background may have wished that Ctrl-C does not reach us, and nohup
        # wishes that the end of its terminal does not.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise_terminated)


def _raise_terminated(number: int, _frame: object) -> None:
    if number == signal.SIGHUP and _asked_to_end:
        # A terminal that is closed says so twice, by the system and by the shell: what was begun at the
        # first word, such as clearing away, goes on.
        return
    _asked_to_end.append(KeyboardInterrupt() if number == signal.SIGINT else TerminatedError())
    raise _asked_to_end[-1]
