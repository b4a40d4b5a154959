"""Has the disk take what is written a little at a time, and not all of it when it is to be durable.

Whoever else commits on that file system would wait for all that is on its way: a journalling file system
puts the data of one file before the commit of another (kernel.org, ext4, `data=ordered`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading

from unified_db import pieces

# What goes to the disk at a time; another's commit waits for two of these.
_SLICE_BYTES = 2 << 20
# Of what waits for the disk, in one file: so little that the system does not take to writing it out itself.
_MOST_AHEAD_BYTES = max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 40, 8 * _SLICE_BYTES)
# How soon a writer that waits sees that its work is given up.
_LOOK_S = 0.2


class Writeback:
    """Has a file that grows from its start written out behind who writes it, a little at a time.

    The writer waits only where it is too far ahead for the system's memory. Nothing is durable by it: that
    stays the business of :func:`unified_db.files.fsync_file`, which does the rest in the same way.

    Args:
        descriptor: Of the file; stays open for the block.
        done_bytes: What is not to be written out.

    Raises:
        OSError: The disk did not take it. The system says so once, and an fsync afterwards says nothing.
    """

    def __init__(self, descriptor: int, *, done_bytes: int = 0) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._reached = self._done = done_bytes
        self._ended = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._write_out, name="unify-db-writeback", daemon=True)

    def __enter__(self) -> Writeback:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def add(self, size_bytes: int) -> None:
        """The writer's word that *size_bytes* more are there."""
        self.reach(self._reached + size_bytes)

    def reach(self, size_bytes: int) -> None:
        """As `add`, where the file has *size_bytes* in all."""
        with self._changed:
            self._reached = max(size_bytes, self._reached)
            self._changed.notify_all()
            while self._failure is None and self._reached - self._done > _MOST_AHEAD_BYTES:
                self._changed.wait(_LOOK_S)
                pieces.look()
            if self._failure is not None:
                raise self._failure

    def _write_out(self) -> None:
        try:
            self._write_slices()
        except OSError as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _write_slices(self) -> None:
        slices = _Slices(self._descriptor, self._done)
        while True:
            with self._changed:
                self._done = slices.done_bytes
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._ended or self._reached - slices.begun_bytes >= _SLICE_BYTES
                )
                if self._ended:
                    return
            slices.begin_next()


def write_out(descriptor: int) -> None:
    """Write out a whole file but for its last slice, with which its fsync has little to do.

    Raises:
        OSError: As :class:`Writeback`.
    """
    slices, size_bytes = _Slices(descriptor), os.fstat(descriptor).st_size
    while slices.begun_bytes + _SLICE_BYTES < size_bytes:
        slices.begin_next()
        pieces.look()


class _Slices:
    """Slices of a file that go to the disk one after the other, two of them at a time."""

    def __init__(self, descriptor: int, begun_bytes: int = 0) -> None:
        self._descriptor = descriptor
        self.done_bytes = self.begun_bytes = begun_bytes

    def begin_next(self) -> None:
        """Begin to write out one more, and return when the one before is written."""
        _sync_range(self._descriptor, self.begun_bytes, _SLICE_BYTES, _WRITE)
        left = self.begun_bytes - self.done_bytes
        _sync_range(self._descriptor, self.done_bytes, left, _WAIT | _WRITE | _WAIT_AFTER)
        self.done_bytes, self.begun_bytes = self.begun_bytes, self.begun_bytes + _SLICE_BYTES


_WAIT, _WRITE, _WAIT_AFTER = 1, 2, 4
_LIBC = ctypes.CDLL(None, use_errno=True)
# What is no file of a kind that can be written out in part is left to its fsync.
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EOPNOTSUPP})


def _sync_range(descriptor: int, offset: int, size_bytes: int, flags: int) -> None:
    # sync_file_range(2), which only Linux has. Who waits takes the error, which no fsync is told any more.
    if size_bytes <= 0 or not hasattr(_LIBC, "sync_file_range"):
        return
    if _LIBC.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size_bytes), flags):
        number = ctypes.get_errno()
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number))
