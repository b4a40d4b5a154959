"""Descriptors and the locks that belong to them: what is open here, and what SQLite's users hold.

POSIX locks belong to a process and a file, and vanish when the process closes any descriptor of that
file. The locks taken here belong to their descriptor instead (open file description locks, on
Linux); others' are only asked about. Nothing here knows what a database is, but where SQLite's locks lie.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

# Opens a file without reading rights, and closing it drops no lock; 0 where there is no such thing.
O_PATH = getattr(os, "O_PATH", 0)
_LAYOUT = "hhqqi4x"

# Where SQLite's locks lie (sqlite.org/src/file/src/os.h and os_unix.c).
RESERVED = (0x40000001, 1)
_SHARED = (0x40000002, 510)
SHM_IN_USE = (128, 1)


def has_open(wanted: tuple[int, int]) -> bool:
    """True where this process has the file of this device and inode open, pins (`O_PATH`) aside."""
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - each entry is gone as soon as it is closed
        with contextlib.suppress(OSError, ValueError):
            status = os.fstat(int(name))
            if (status.st_dev, status.st_ino) == wanted and not _is_pin(int(name)):
                return True
    return False


def _is_pin(descriptor: int) -> bool:
    return bool(O_PATH and fcntl.fcntl(descriptor, fcntl.F_GETFL) & O_PATH)


def is_locked(descriptor: int, where: tuple[int, int]) -> bool:
    """True where somebody holds a lock at *where*, or where that cannot be asked."""
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return True
    asked = _lock(fcntl.F_WRLCK, where)
    answer = struct.unpack(_LAYOUT, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


def take_shared(descriptor: int) -> bool:
    """Take a SQLite reader's lock on *descriptor*, until it is closed; false where a writer's is held.

    True as well where there are no such locks: a file system without them has no user who would
    respect one.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, _SHARED))
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _lock(kind: int, where: tuple[int, int]) -> bytes:
    return struct.pack(_LAYOUT, kind, os.SEEK_SET, *where, 0)
