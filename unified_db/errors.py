"""Every exception of unify-db: what went wrong, a hint with the way out, and an exit code.

Libraries raise these; only the command prints them. Anything else that reaches
the command is a bug of ours and ends with exit code 1.
"""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """What a verb's exit code tells a script."""

    DONE = 0
    BUG = 1
    USAGE = 2
    GATE_CLOSED = 3
    SOURCE_UNUSABLE = 4
    UNDONE = 5
    INTERRUPTED = 130
    TERMINATED = 143


class UnifyError(Exception):
    """Base of all errors that a user can cause or meet.

    Attributes:
        hint: The state of the world, then the next step.
        transient: True where the same call may succeed a moment later; only these are retried.
        exit_code: What the command exits with.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling with the hint, as Prefect pickles a failed task's exception."""
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[UnifyError], message: str, hint: str) -> UnifyError:
    return kind(message, hint=hint)


class UsageError(UnifyError):
    """A wrong option, an unknown run, a missing file."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """`unify.toml` cannot be read or says something impossible."""


class EditError(UsageError):
    """A configured edit does not fit the file that it names."""


class GateClosedError(UnifyError):
    """A gate's verdict is closed, was rejected, or timed out; nothing was switched."""

    exit_code = ExitCode.GATE_CLOSED


class FleetIncompleteError(UnifyError):
    """Not all applications of a fleet ended well; each is as its own run left it."""

    exit_code = ExitCode.GATE_CLOSED


class ServerError(UnifyError):
    """A server that we started went away or did not get ready; its last log lines are in the message."""

    exit_code = ExitCode.GATE_CLOSED


class SourceError(UnifyError):
    """A source cannot be used: corrupt, colliding, too old, no space for its copy."""

    exit_code = ExitCode.SOURCE_UNUSABLE


class MissingSourceError(SourceError):
    """A source is not there: a wrong path rather than a bad file."""

    exit_code = ExitCode.USAGE


class SourceBusyError(SourceError):
    """A writer held a source's lock for longer than the timeout."""

    transient = True


class SourceChangedError(SourceBusyError):
    """A source was replaced by another file, or opened by somebody, while it was read."""


class SourceOpenedError(SourceChangedError):
    """A source that nobody used was opened by somebody while it was read.

    Attributes:
        path: Which one; None where that was lost on the way between processes.
    """

    path: Path | None = None


class RunLockedError(SourceError):
    """Another run holds one of the sources or the target."""


class CutoverUndoneError(UnifyError):
    """The cut-over was begun and taken back; everything is as before."""

    exit_code = ExitCode.UNDONE


class CutoverRefusedError(SourceError):
    """The cut-over could not begin: a source is still in use, an edit no longer applies."""


class JournalError(UnifyError):
    """A run's journal is damaged or says something that cannot be."""

    exit_code = ExitCode.USAGE


class RollbackError(UnifyError):
    """A rollback found something that it must not overwrite, or came to no end; the hint says which."""

    exit_code = ExitCode.SOURCE_UNUSABLE


class RuntimeUseError(UnifyError):
    """Base of what an application meets while it runs on the unified database.

    Its text ends in the hint: an application logs it, and SQLAlchemy wraps some of these in an
    error of its own that shows nothing but the text.
    """

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class WriteLockHeldError(RuntimeUseError, sqlite3.OperationalError):
    """Somebody held the file's write lock for longer than the busy timeout; nothing was written.

    Also a `sqlite3.OperationalError`, which is what code written for the stock savers catches.
    """

    transient = True


class OpenTransactionError(RuntimeUseError, sqlite3.OperationalError):
    """A connection that was lent to a saver has a transaction of its own open; nothing was written."""


class ForeignCommitError(RuntimeUseError, sqlite3.OperationalError):
    """Something that does not own a transaction of ours tried to commit it; it is still open."""


class TransactionEndedError(RuntimeUseError):
    """A graph run outlived the transaction it was started in; what it gave was not written."""


class TransactionFailedError(RuntimeUseError):
    """An inner block of a shared transaction failed, so the whole of it was rolled back."""


class DatabaseClosedError(RuntimeUseError, sqlite3.ProgrammingError):
    """The database was closed, or its writer died with a fork; nothing was written."""


class DatabaseMovedError(RuntimeUseError, sqlite3.OperationalError):
    """The file was deleted, moved or replaced while it was open; nothing was written."""
