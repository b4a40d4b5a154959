"""Which database files the processes of one command opened, and which of its tests ran last.

Two witnesses, since each misses something. The kernel (inotify) sees every open of the database
files that we name, whatever program makes it and however short, ATTACH included. A hook in every
Python process sees each database that the `sqlite3` module connects to, wherever it lies. Without
inotify, who has the named files open is looked at now and then. Whether it is good is not judged here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import struct
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from unified_db.migration import processes

log = logging.getLogger(__name__)

IN_MEMORY = Path(":memory:")

_PROBE = Path(__file__).with_name("probe")
_IN_OPEN, _IN_Q_OVERFLOW = 0x20, 0x4000
_EVENT = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
_FIELDS = 3


@dataclass(frozen=True)
class Connection:
    """A database that a Python process connected to.

    Attributes:
        path: Where it lies, links followed; :data:`IN_MEMORY` for one that has no file.
        process: Who it was, as "pid command".
    """

    path: Path
    process: str


class Probe:
    """Follows the processes of one command.

    As a context manager around the command; ask it once the command has ended.
    """

    def __init__(self, folder: Path, databases: Collection[Path]) -> None:
        """Make *folder* afresh for what the processes note; *databases* are seen by every program."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._named = {path.resolve(): path for path in databases}
        self._seen: set[Path] = set()
        self._watch = _OpenWatch()

    def __enter__(self) -> Self:
        self._watch.begin({path.parent for path in self._named})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.look(())
        self._watch.end()

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """*env*, with which every Python process of the command is followed."""
        # Set where the rehearsed suite is one that rehearses suites.
        rest = {k: v for k, v in env.items() if k != "UNIFY_DB_PYTEST"}
        search = os.pathsep.join(part for part in (str(_PROBE), env.get("PYTHONPATH")) if part)
        return {**rest, "PYTHONPATH": search, "UNIFY_DB_PROBE": str(self._folder)}

    def select(self, text: str) -> None:
        """Have pytest run only the tests that *text* lists: a JSON array of node ids."""
        (self._folder / "selected.json").write_text(text)

    def look(self, pids: Collection[int]) -> None:
        """Take note of what was opened since the last look, *pids* being there now."""
        self._seen |= {path for path in self._watch.drain() if path in self._named}
        if not self._watch.works:
            for path in self._named:
                if path not in self._seen and processes.holders([path], among=pids):
                    self._seen.add(path)

    @property
    def opened(self) -> frozenset[Path]:
        """Those of the named databases that were opened."""
        connected = {c.path for c in self.connections()}
        return frozenset(name for path, name in self._named.items() if path in self._seen | connected)

    def connections(self) -> tuple[Connection, ...]:
        """What Python processes connected to, each database once."""
        try:
            fields = (self._folder / "opened").read_bytes().split(b"\0")
        except OSError:
            return ()
        found: dict[Path, Connection] = {}
        for first in range(0, len(fields) - _FIELDS, _FIELDS):
            cwd, database, process = map(os.fsdecode, fields[first : first + _FIELDS])
            path = _place_of(database, Path(cwd))
            found.setdefault(path, Connection(path, process))
        return tuple(found.values())

    def last_test(self) -> str:
        """The node id of the pytest test that was begun last; empty where none was seen."""
        try:
            return (self._folder / "running").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _place_of(database: str, cwd: Path) -> Path:
    name = database
    if database.startswith("file:"):
        name, _, query = database.removeprefix("file:").partition("#")[0].partition("?")
        if "mode=memory" in query.split("&"):
            return IN_MEMORY
        name = unquote(name.removeprefix("//localhost").removeprefix("//"))
    # An empty name is a temporary database that SQLite deletes again.
    return IN_MEMORY if name in {"", ":memory:"} else (cwd / name).resolve()


class _OpenWatch:
    """The kernel's list of the files that were opened in some folders.

    Not through watchdog: it holds events back for half a second, and drops what it holds at the end.
    """

    def __init__(self) -> None:
        self._folders: dict[int, Path] = {}
        self._descriptor = -1

    @property
    def works(self) -> bool:
        """True where the kernel tells."""
        return self._descriptor >= 0

    def begin(self, folders: Collection[Path]) -> None:
        """Watch *folders*, where the system has inotify and an instance is left."""
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in folders if self.works else ():
            number = libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_OPEN)
            if number < 0:
                self.end()
                break
            self._folders[number] = folder
        if not self.works:
            log.warning(
                "inotify is not available (%s); opens are polled for", os.strerror(ctypes.get_errno())
            )

    def drain(self) -> Iterator[Path]:
        """The files that were opened since the last call."""
        while self.works:
            try:
                events = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            yield from self._paths_of(events)

    def end(self) -> None:
        """Stop watching."""
        if self.works:
            os.close(self._descriptor)
            self._descriptor = -1

    def _paths_of(self, events: bytes) -> Iterator[Path]:
        place = 0
        while place < len(events):
            number, mask, _, length = _EVENT.unpack_from(events, place)
            name = events[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0")
            place += _EVENT.size + length
            if mask & _IN_Q_OVERFLOW:
                log.warning("more files were opened at once than the kernel keeps track of")
            elif number in self._folders:
                yield self._folders[number] / os.fsdecode(name)
