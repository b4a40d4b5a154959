"""Whether anybody opened, changed, moved or removed some files, however briefly, as the kernel tells it.

inotify (Linux) queues every event, so nothing between two questions is missed; it does not tell who it
was. Files are followed by name in their folder, also those that come later, and by their inode, which
other names lead to. Reading one of them ourselves counts as well: do that before or after.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_OPEN, _MODIFY = 0x20, 0x02
_CREATE, _DELETE, _MOVED = 0x100, 0x200, 0x40 | 0x80
_MOVED_SELF, _DELETED_SELF, _OVERFLOW = 0x800, 0x400, 0x4000
_IN_FOLDER = _OPEN | _MODIFY | _CREATE | _DELETE | _MOVED
_ON_FILE = _OPEN | _MODIFY | _MOVED_SELF | _DELETED_SELF
_EVENT = struct.Struct("iIII")
_READ_BYTES = 256 * 1024


class Watch:
    """Follows *files*, missing ones too, from its making until the end of its block.

    Attributes:
        works: False where the system has no inotify, or none is left; then nothing is ever told.
        missed: True once the kernel's queue was full and events were dropped.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._wanted = {path.resolve() for path in files}
        self._places: dict[int, Path] = {}
        self._descriptor = -1
        self.missed = False
        if sys.platform == "linux":
            self._begin(ctypes.CDLL(None, use_errno=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.works:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def works(self) -> bool:
        """True where the kernel tells."""
        return self._descriptor >= 0

    def touched(self) -> frozenset[Path]:
        """Those of the files that anybody touched since the last call."""
        found: set[Path] = set()
        while self.works:
            try:
                events = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                break
            found |= self._read(events)
        return frozenset(found)

    def _begin(self, libc: ctypes.CDLL) -> None:
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if not self.works:
            return
        for folder in {path.parent for path in self._wanted}:
            self._add(libc, folder, _IN_FOLDER)
        for file in self._wanted:
            self._add(libc, file, _ON_FILE)

    def _add(self, libc: ctypes.CDLL, path: Path, mask: int) -> None:
        number = libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if number >= 0:
            self._places[number] = path
        elif path.exists():
            # Half a watch would be believed: without one, the others are looked at all the more.
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, events: bytes) -> set[Path]:
        found: set[Path] = set()
        at = 0
        while at < len(events):
            number, mask, _, length = _EVENT.unpack_from(events, at)
            name = events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            self.missed = self.missed or bool(mask & _OVERFLOW)
            place = self._places.get(number)
            if place is not None:
                found.add(place / os.fsdecode(name) if name else place)
        return found & self._wanted
