"""What the machine refused (a full disk, a permission, a read-only file system), told from a bug of ours.

Errors of Python and SQLite in, words or one of our errors out. Where such an error is met, only the
caller knows what state the world is in, so the hint is his.
"""

from __future__ import annotations

import errno
import sqlite3

from unified_db.errors import SourceError, UnifyError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})
_SQLITE_REFUSED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


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
    if is_full_disk(error):
        return True
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    return _sqlite_code(error) in _SQLITE_REFUSED


def sentence(error: BaseException) -> str:
    """*error* in half a sentence for people; of what is no refusal with its kind, since it may be a bug."""
    if isinstance(error, UnifyError):
        return error.message
    if not is_refusal(error):
        return f"{type(error).__name__}: {error}"
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
