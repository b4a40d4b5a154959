"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import logging
import logging.config
import re
import time

from rich.console import Console

from flows.terminal import shown


def test_the_spinner_goes_on_when_somebody_sets_logging_up_anew() -> None:
    """Prefect does so when it is imported, and thereby closes every handler that there is."""
    screen = io.StringIO()
    with shown(Console(file=screen, force_terminal=True, width=80)):
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        extra = {"phase": "merge", "moment": "begin"}
        logging.getLogger("unified_db.migration").info("merge: begins", extra=extra)
        seen, until = screen.tell(), time.monotonic() + 30
        while len(set(re.findall("[⠀-⣿]", screen.getvalue()[seen:]))) < 2:
            assert time.monotonic() < until, "it stands still"
            time.sleep(0.05)


def test_without_a_terminal_every_line_comes_as_it_is() -> None:
    screen = io.StringIO()
    with shown(Console(file=screen, force_terminal=False, width=80)):
        logging.getLogger("unified_db.migration").info("merge: 3 rows")
    assert re.fullmatch(r"\[ +\d+\.\d s\] merge: 3 rows\n", screen.getvalue())
