"""Runs inside of staged Python processes: notes which databases and watched files they open.

Never imported by us: :mod:`unified_db.migration.recording` puts a copy of this file, as `sitecustomize`,
first on the PYTHONPATH of staged processes, so it runs before any line of the application. Whatever
goes wrong here must not be felt there. Nothing is imported that an interpreter has not loaded already.
"""

from __future__ import annotations

import os
import sys

_PATHS_OF = {
    "open": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.truncate": 1,
    "os.link": 2,
    "sqlite3.connect": 1,
}


class _Notes:
    """What this process has told so far, a line for each path in a file of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with open(os.path.join(folder, "watched"), "rb") as stream:  # noqa: PTH118, PTH123 -- pathlib is not loaded yet
            self._root, *watched = os.fsdecode(stream.read()).split("\0")
        self._watched = frozenset(watched)
        self._seen: set[object] = set()
        self._pid = 0
        self._busy = False

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit event; most of them are none of ours."""
        count = _PATHS_OF.get(event)
        if count is None or self._busy:
            return
        self._busy = True
        try:
            for path in arguments[:count]:
                self._consider(event, path)
        except Exception:  # noqa: BLE001, S110 -- the application must not feel it
            pass
        finally:
            self._busy = False

    def begin(self) -> None:
        """Tell that this process listens, once; anew in a child that was forked."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._seen.clear()
            self._write("process", "", "")

    def _consider(self, event: str, path: object) -> None:
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(path)  # type: ignore[arg-type]  # anything else raises, and is no path
        is_database = event == "sqlite3.connect"
        if is_database:
            name = _without_uri(name)
            if not name:
                self._consider_memory()
                return
        elif name.endswith((".py", ".pyc", ".so")):
            return  # imports: thousands of them, and none is a database
        key = (name if name.startswith("/") else os.path.join(os.getcwd(), name), is_database)  # noqa: PTH109, PTH118 -- as above
        self.begin()
        if not name or key in self._seen:
            return
        if len(self._seen) < _MOST_SEEN:
            self._seen.add(key)
        real = os.path.realpath(name)
        if is_database or real in self._watched:
            self._write(event, real, self._place())

    def _consider_memory(self) -> None:
        self.begin()
        if ":memory:" not in self._seen:
            self._seen.add(":memory:")
            self._write("memory", ":memory:", "")

    def _place(self) -> str:
        """The innermost line of the staged tree that led here, as "FILE:LINE"; empty for none."""
        frame = sys._getframe(1)  # noqa: SLF001 -- the only way to a caller's line
        while frame is not None:
            file = os.path.realpath(frame.f_code.co_filename)
            if file.startswith(self._root + "/"):
                return f"{file[len(self._root) + 1 :]}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
        return ""

    def _write(self, event: str, path: str, place: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self._folder, f"{self._pid}.opened"), flags, 0o600)  # noqa: PTH118 -- as above
        try:
            # One write per line, so that threads and forks cannot mix theirs.
            os.write(descriptor, ascii((event, path, place)).encode() + b"\n")
        finally:
            os.close(descriptor)


_MOST_SEEN = 20_000


def _without_uri(name: str) -> str:
    """The path in what SQLite was told to open; empty where it is no file."""
    if name == ":memory:":
        return ""
    if not name.startswith("file:"):
        return name
    path, _, query = name[5:].split("#", maxsplit=1)[0].partition("?")
    if "mode=memory" in query or path == ":memory:":
        return ""
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    first, *rest = path.encode("utf-8", "surrogateescape").split(b"%")
    return os.fsdecode(first + b"".join(_percent(part) for part in rest))


def _percent(part: bytes) -> bytes:
    try:
        return bytes([int(part[:2], 16)]) + part[2:]
    except ValueError:
        return b"%" + part


def follow(folder: str) -> None:
    """Note from now on, in *folder*, what this process opens and touches."""
    try:
        notes = _Notes(folder)
        notes.begin()
        sys.addaudithook(notes.hear)
    except Exception:  # noqa: BLE001, S110 -- the application must not feel it
        pass
