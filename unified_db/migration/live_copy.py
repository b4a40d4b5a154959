"""Copies a database that others use as bytes, the way one read snapshot of it shows it.

SQLite's own backup reads page by page, which takes three times as long. What a held snapshot keeps in
place is enough to copy bytes instead (sqlite.org/walformat.html, and "Checkpointing" in sqlite.org/wal.html):

* In WAL mode the snapshot ends at a frame of the WAL. A checkpoint may move frames up to that one into the
  file while it is copied, and none behind it. So every page that may be torn in the copy has a frame not
  yet moved when the snapshot began, and is taken from that. The WAL cannot begin anew meanwhile.
* Where every frame was in the file already, nobody may write to the file as long as the snapshot lasts.
  The WAL may begin anew then, but it is not needed.
* Without a WAL a reader's lock keeps writers from the file.

Which frame it is stands in the head of the `-shm` file, which changes with every commit: it is read while
no one can commit. An application that closes its last connection removes that file, and makes another one
when it comes back; so it is opened only once our own reader is there, which keeps it in place. Both files
are closed after the last connection, since closing them drops this process's locks (POSIX).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unified_db import files, sqlite
from unified_db.errors import SourceChangedError
from unified_db.migration import wal

_HEAD_BYTES = 48
_BACKFILLED = struct.Struct("=I")
_FRAME_HEAD = struct.Struct(">II8s")


@dataclass(frozen=True)
class _Snapshot:
    """Where a snapshot ends.

    Attributes:
        page_bytes: Of a page.
        pages: How many the database has; None where all of the file counts.
        moved: So many frames of the WAL are in the file.
        frames: The last frame that belongs to it.
        salts: By which the WAL's frames are known.
    """

    page_bytes: int
    pages: int | None = None
    moved: int = 0
    frames: int = 0
    salts: bytes = b""


class LiveFile:
    """The bytes of a database beside its users; made by :func:`opened`."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path, self._stack = path, stack
        self._file = _open(stack, path)
        self._snapshot: _Snapshot | None = None

    @property
    def is_known(self) -> bool:
        """Whether :meth:`note` found out what the snapshot consists of."""
        return self._snapshot is not None

    def note(self, reader: sqlite3.Connection) -> None:
        """Find out what the snapshot that *reader* has begun consists of; nobody can commit meanwhile."""
        page_bytes = int(sqlite.pragma(reader, "page_size"))
        if sqlite.pragma(reader, "journal_mode") != "wal":
            self._snapshot = _Snapshot(page_bytes)
            return
        with contextlib.suppress(OSError):
            index = _open(self._stack, files.sidecar(self._path, "-shm"))
            self._snapshot = _read_index(index, page_bytes)

    def copy(self, into: Path, told: Callable[[int], None] | None = None) -> None:
        """Write the snapshot, which must last until then, to the new file *into*; not made durable.

        Args:
            into: Must not exist.
            told: Is given the number of bytes after every chunk, which stays as it is then.

        Raises:
            SourceChangedError: The WAL is another one. Transient.
        """
        snapshot = self._snapshot
        assert snapshot is not None, "copied without a snapshot"
        size_bytes = os.fstat(self._file).st_size
        if snapshot.pages is not None:
            size_bytes = min(size_bytes, snapshot.pages * snapshot.page_bytes)
        frames = self._frames(snapshot)
        done_bytes = told_bytes = 0

        def amend(copied_bytes: int) -> None:
            nonlocal done_bytes
            done_bytes += copied_bytes
            self._write_frames(into, frames, snapshot.page_bytes, until_bytes=done_bytes)
            # The rest of a page may come with the next chunk, and all of it from the WAL then.
            tell(done_bytes - done_bytes % snapshot.page_bytes)

        def tell(final_bytes: int) -> None:
            nonlocal told_bytes
            if told is not None and final_bytes > told_bytes:
                told(final_bytes - told_bytes)
                told_bytes = final_bytes

        files.copy_open(self._file, into, size_bytes, amend)
        # What the file has not got at all.
        if frames:
            amend(((snapshot.pages or 0) * snapshot.page_bytes) - done_bytes)
        tell(done_bytes)

    def _frames(self, snapshot: _Snapshot) -> deque[tuple[int, int]]:
        """The pages that are to be taken from the WAL, in their order, and where in it each one is."""
        if snapshot.moved >= snapshot.frames:
            return deque()
        frame_bytes = wal.FRAME_HEADER_BYTES + snapshot.page_bytes
        last: dict[int, int] = {}
        with self._wal.open("rb") as log:
            for frame in range(snapshot.moved, snapshot.frames):
                at = wal.HEADER_BYTES + frame * frame_bytes
                page, _, salts = _FRAME_HEAD.unpack(os.pread(log.fileno(), _FRAME_HEAD.size, at))
                if salts != snapshot.salts:
                    raise _changed(self._path)
                if page <= (snapshot.pages or 0):
                    last[page] = at + wal.FRAME_HEADER_BYTES
        return deque(sorted(last.items()))

    @property
    def _wal(self) -> Path:
        return files.sidecar(self._path, "-wal")

    def _write_frames(
        self, into: Path, frames: deque[tuple[int, int]], page_bytes: int, *, until_bytes: int
    ) -> None:
        """Take those of *frames* that belong before *until_bytes*, and write them to *into*."""
        if not frames or frames[0][0] * page_bytes > until_bytes:
            return
        with self._wal.open("rb") as log, into.open("r+b") as copy:
            while frames and frames[0][0] * page_bytes <= until_bytes:
                page, at = frames.popleft()
                content = os.pread(log.fileno(), page_bytes, at)
                os.pwrite(copy.fileno(), content, (page - 1) * page_bytes)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[LiveFile | None]:
    """The bytes of *path* for the block, in which connections of this process begin and end.

    No connection of this process may be open on *path* before, and none be left afterwards. None where the
    file may not be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            live = LiveFile(path, stack)
        except OSError:
            live = None
        yield live


def _open(stack: contextlib.ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _read_index(descriptor: int, page_bytes: int) -> _Snapshot | None:
    """What the head of a `-shm` file says; None where its two copies differ or it is none that we know."""
    head = os.pread(descriptor, 2 * _HEAD_BYTES + _BACKFILLED.size, 0)
    if (
        len(head) < 2 * _HEAD_BYTES + _BACKFILLED.size
        or head[:_HEAD_BYTES] != head[_HEAD_BYTES : 2 * _HEAD_BYTES]
    ):
        return None
    _, _, _, is_there, _, size, frames, pages = struct.unpack_from("=IIIBBHII", head)
    if is_there and not frames:
        # Nothing else is told of an empty WAL; all is in the file.
        return _Snapshot(page_bytes)
    # A page of 65536 bytes stands as 1.
    if not is_there or (size & 0xFE00) + ((size & 1) << 16) != page_bytes:
        return None
    (moved,) = _BACKFILLED.unpack_from(head, 2 * _HEAD_BYTES)
    return _Snapshot(page_bytes, pages, moved, frames, head[32:40])


def _changed(path: Path) -> SourceChangedError:
    return SourceChangedError(
        f"the WAL of {path} began anew while it was copied", hint="Nothing was written. Run again."
    )
