"""What the machine refused (a full disk, a permission, a limit that is reached), told from a bug of ours.

Errors of Python and SQLite in, words or one of our errors out. Where such an error is met, only the
caller knows what state the world is in, so the hint is his; what lifts the refusal is told here.
"""

from __future__ import annotations

import errno
import os
import sqlite3

from unified_db.errors import SourceError, UnifyError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})
_OF_CONTENT = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
)
_SQLITE_REFUSED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
# Limits that no path is to blame for, each with what lifts it.
_OUT_OF_FILES = "Raise the limit on open files (`ulimit -n`)"
_OUT_OF_MEMORY = "End other programs, or raise the limit on memory (`ulimit -v`)"
_OUT_OF_THREADS = "End other programs, or raise the limits on memory and processes (`ulimit -v`, `ulimit -u`)"
_LIMITS = {
    errno.EMFILE: _OUT_OF_FILES,
    errno.ENFILE: "End other programs: all of them together have too many files open",
    errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`), or use a file system for larger ones",
    errno.ENOMEM: _OUT_OF_MEMORY,
}


def is_full_disk(error: BaseException) -> bool:
    """True where *error*, or what it was raised from, says that nothing more can be written to a disk."""
    if isinstance(error, UnifyError):
        return error.__cause__ is not None and is_full_disk(error.__cause__)
    if isinstance(error, OSError):
        return error.errno in _FULL
    # That a `-shm` cannot get its size is the one way in which SQLite does not say so itself.
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE
    return full or _sqlite_code(error) == sqlite3.SQLITE_FULL


def is_refusal(error: BaseException) -> bool:
    """True where the machine refused something: nothing that we could have done otherwise."""
    if isinstance(error, UnifyError):
        # It has its own words, and its own hint.
        return False
    if is_full_disk(error) or is_limit(error):
        return True
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    return _sqlite_code(error) in _SQLITE_REFUSED


def is_of_content(error: sqlite3.Error) -> bool:
    """True where SQLite cannot run a definition again, or compute from a row what that asks for.

    No damage, and nothing that the machine refused: the same pages, copied, are as good as before.
    """
    # What has no code was said by Python's sqlite3: of a text with a NUL, or with two statements.
    return _sqlite_code(error) in (*_OF_CONTENT, None)


def is_limit(error: BaseException) -> bool:
    """True where a limit of this process or of the machine is reached, whatever path it was met at."""
    return _lifts_limit(error) is not None


def _lifts_limit(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        return _LIMITS.get(error.errno or 0)
    if isinstance(error, MemoryError):
        return _OUT_OF_MEMORY
    return _OUT_OF_THREADS if _lacks_thread(error) else None


def _lacks_thread(error: BaseException) -> bool:
    # Python has no kind of its own for it.
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


def lacks_descriptors() -> bool:
    """True where this process can open no further file, which SQLite does not tell from a missing one."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return False


def out_of_descriptors(what: str) -> SourceError:
    """That *what* cannot be opened since :func:`lacks_descriptors`, as one of our errors."""
    reason = os.strerror(errno.EMFILE).lower()
    return SourceError(
        f"{what} cannot be opened: {reason}", hint=f"Nothing was written. {_OUT_OF_FILES}; then run again."
    )


def way_out(error: BaseException) -> str:
    """What the user does about a refusal, as the beginning of a sentence."""
    if is_full_disk(error):
        return "Make room"
    return _lifts_limit(error) or "Mend that"


def sentence(error: BaseException) -> str:
    """*error* in half a sentence for people; of what is no refusal with its kind, since it may be a bug."""
    if isinstance(error, UnifyError):
        return error.message
    if not is_refusal(error):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if _lacks_thread(error):
        return "no further thread can be started: the memory or the processes that are allowed are used up"
    where, reason = "", str(error)
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else ""
        reason = (error.strerror or str(error)).lower()
    if is_full_disk(error):
        return f"the disk is full ({where})" if where else "the disk is full"
    return f"{where}: {reason}" if where else reason


def refusal(error: BaseException, *, hint: str) -> SourceError | None:
    """*error* as one of ours where the machine refused something; None where it is anything else."""
    return SourceError(sentence(error), hint=hint) if is_refusal(error) else None


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary error code; None of what is no error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    # The upper bytes say more of the same.
    return None if code is None else int(code) & 0xFF
