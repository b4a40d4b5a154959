"""The command's standard streams: they take every name, and what they cannot pass on stops no work.

A line of the log that standard error does not take is let go. Of standard output it is remembered, for the
answer is written there.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from unified_db.spelling import ERRORS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Taking(io.FileIO):
    """A descriptor that takes all that is written to it, and keeps why the system first refused some."""

    refusal: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        """Write *content* or let it go; the bytes that were taken."""
        try:
            while (written := super().write(content)) is None:
                # Whoever shares a terminal or a pipe with us may have set it not to wait.
                select.select([], [self], [])
        except OSError as error:
            self.refusal = self.refusal or error
            return memoryview(content).nbytes
        return written


def take_streams() -> None:
    """Put streams that take everything in the place of this process's own ones, closed ones too.

    Whoever captures what we write, such as a test, goes on doing so.
    """
    for number in range(3):
        _occupy(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 -- for as long as the process is there
    if sys.stderr is sys.__stderr__:
        sys.stderr = _over(_Taking(2, "w", closefd=False), sys.stderr, line_buffering=True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _over(_Taking(1, "w", closefd=False), sys.stdout, line_buffering=os.isatty(1))


def _occupy(number: int) -> None:
    """Have a closed descriptor be taken: a database that got it would be written into."""
    try:
        os.fstat(number)
    except OSError:
        # The lowest number that is free, so this one. Nothing can be written to it.
        os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)


def _over(raw: _Taking, like: TextIO | None, *, line_buffering: bool) -> TextIO:
    encoding = like.encoding if like is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=ERRORS, line_buffering=line_buffering
    )


def unwritten() -> OSError | None:
    """Why standard output has not got all of what was written; None where it has, or wants no more of it."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    refusal = raw.refusal if isinstance(raw, _Taking) else None
    # Who reads only the beginning, as `head` does, has what he wants.
    return None if isinstance(refusal, BrokenPipeError) else refusal
