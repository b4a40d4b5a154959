"""What a person sees while a run goes on: a line per phase, a spinner, elapsed time.

Everything goes to standard error. It is fed by the log lines of `unified_db`, which are written
for people, and by how far a phase says it is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from unified_db import pieces


@contextlib.contextmanager
def shown(console: Console, *, debug: bool = False, quiet: bool = False) -> Iterator[None]:
    """Show what `unified_db` logs for the length of the block: live on a terminal, else as plain lines.

    With *quiet* as plain lines there too: rate and remaining time are for who looks on.
    """
    handler = LivePhases(console) if console.is_terminal and not quiet else PlainLines(console)
    logger = logging.getLogger("unified_db")
    previous = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    # Whatever the root logger has would show every line twice.
    logger.propagate = False
    try:
        with pieces.observed(handler.look):
            yield
    finally:
        handler.stop()
        logger.removeHandler(handler)
        logger.setLevel(previous[0])
        logger.propagate = previous[1]


class PlainLines(logging.Handler):
    """Each log line as it comes, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._started = time.monotonic()

    def stop(self) -> None:
        """Nothing goes on between two lines."""

    def look(self, progress: pieces.Progress) -> None:
        """Nothing is shown of it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        seconds = time.monotonic() - self._started
        line = f"[{seconds:7.1f} s] {_first_line(record)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LivePhases(logging.Handler):
    """A tick and a duration for each phase that ended, a spinner for the one that goes on."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._phase = ""
        self._said = ""
        self._since = time.monotonic()
        self._paces: dict[str, pieces.Pace] = {}
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def stop(self) -> None:
        """Stop the spinner. Not done in close(): Prefect's logging set-up closes every handler there is."""
        self._live.stop()

    def look(self, progress: pieces.Progress) -> None:
        """Take how far a phase is; two may go on at a time."""
        self._paces = {p: pace for p, pace in self._paces.items() if pace.share < 1 or p == progress.phase}
        self._paces.setdefault(progress.phase, pieces.Pace()).note(progress)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line: the begin or end of a phase, or what happens in it."""
        moment = getattr(record, "moment", "")
        if moment == "begin":
            self._phase, self._said, self._since = getattr(record, "phase", ""), "", time.monotonic()
        elif moment in {"end", "fail"}:
            self._finish(getattr(record, "phase", ""), passed=moment == "end", record=record)
        elif record.levelno >= logging.WARNING:
            self._console.print(Text(f"! {_first_line(record)}", style="yellow"))
        else:
            self._said = _first_line(record)
            if not self._phase:
                self._since = time.monotonic()

    def _finish(self, phase: str, *, passed: bool, record: logging.LogRecord) -> None:
        seconds = getattr(record, "seconds", 0.0)
        sign, style = ("✓", "green") if passed else ("✗", "red")
        said = self._said.removeprefix(f"{phase}: ")
        line = Text.assemble(
            (f"{sign} ", style), (f"{phase:<10}", "bold"), (f"{seconds:6.1f} s  ", "dim"), said
        )
        line.truncate(max(20, self._console.width - 1), overflow="ellipsis")
        self._console.print(line)
        self._phase, self._said, self._paces = "", "", {}

    def _render(self) -> Text | Spinner:
        if not self._phase and not self._said:
            return Text("")
        seconds = time.monotonic() - self._since
        said = self._said.removeprefix(f"{self._phase}: ")
        text = Text.assemble(
            (f"{self._phase:<10}", "bold"), (f"{seconds:6.1f} s  ", "dim"), self._how_far() or said
        )
        text.truncate(max(20, self._console.width - 3), overflow="ellipsis")
        spinner = Spinner("dots", text=text)
        spinner.start_time = self._since
        return spinner

    def _how_far(self) -> str:
        going = {phase: pace.sentence() for phase, pace in self._paces.items() if pace.share < 1}
        return "; ".join(f"{phase} {sentence}" for phase, sentence in going.items() if sentence)


def _first_line(record: logging.LogRecord) -> str:
    return record.getMessage().partition("\n")[0]
