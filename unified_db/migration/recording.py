"""Which databases and which watched files the Python processes of one command opened.

Polling /proc misses what is open for a moment only. So every Python process that is started with the
environment of a :class:`Recording` notes what it opens, by an audit hook (PEP 578) that runs before
the application does. Other programs, `python -I`, and ATTACH, for which Python has no audit event,
are not heard here.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

_PROBE = Path(__file__).with_name("probe")
_FOLDER_KEY = "UNIFY_DB_OPENED"
# Noted too, but no opening of a file.
_STARTED, _IN_MEMORY = "process", "memory"


@dataclass(frozen=True)
class Opening:
    """One file that one process opened, moved or removed.

    Attributes:
        path: Absolute, links followed.
        pid: The process.
        event: The audit event, such as "sqlite3.connect", "open" or "os.remove".
        place: The line of the staged tree that did it, as "FILE:LINE" relative to its root; empty
            where none was on the stack, such as in a thread of a library.
    """

    path: Path
    pid: int
    event: str
    place: str


class Recording:
    """What the processes of one command, or of one server, open; ask at any time, also after their end.

    Args:
        folder: Of its own; made here, and emptied of an earlier recording's notes.
        root: The staged tree, for the line that opened a file.
        watched: Files whose every opening counts, not only one by SQLite; links followed.
    """

    def __init__(self, folder: Path, *, root: Path, watched: Collection[Path] = ()) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._notes():
            leftover.unlink()
        names = [root.resolve(), *(path.resolve() for path in watched)]
        (self._folder / "watched").write_bytes(b"\0".join(os.fsencode(name) for name in names))

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """*base* with what makes Python processes note their openings; a PYTHONPATH in it stays in force."""
        paths = [str(_PROBE), *filter(None, [base.get("PYTHONPATH", "")])]
        return {**base, "PYTHONPATH": os.pathsep.join(paths), _FOLDER_KEY: str(self._folder)}

    def openings(self) -> tuple[Opening, ...]:
        """Everything that was noted so far, each file once for each process and kind of opening."""
        return tuple(o for o in self._noted() if o.event not in {_STARTED, _IN_MEMORY})

    def databases(self) -> frozenset[Path]:
        """The files that were opened through Python's SQLite so far; absolute, links followed."""
        return frozenset(o.path for o in self.openings() if o.event == "sqlite3.connect")

    def in_memory(self) -> bool:
        """True where a database without a file was opened through Python's SQLite."""
        return any(o.event == _IN_MEMORY for o in self._noted())

    @property
    def heard(self) -> int:
        """How many processes were listened to; with 0, that nothing was noted means nothing."""
        return len(self._notes())

    def _noted(self) -> Iterator[Opening]:
        return (opening for note in self._notes() for opening in _read(note))

    def _notes(self) -> list[Path]:
        return sorted(self._folder.glob("*.opened"))


def is_recorded(pid: int, folder: Path) -> bool:
    """True where the process *pid* runs with the environment of a recording below *folder*."""
    try:
        noted = psutil.Process(pid).environ().get(_FOLDER_KEY, "")
    except psutil.Error:
        return False
    return bool(noted) and Path(noted).is_relative_to(folder.resolve())


def _read(note: Path) -> list[Opening]:
    found = []
    for line in note.read_text(encoding="ascii", errors="replace").splitlines():
        try:
            event, path, place = ast.literal_eval(line)
        except (SyntaxError, ValueError):
            continue  # cut off by a kill, or on a full disk
        found.append(Opening(path=Path(path), pid=int(note.stem), event=event, place=place))
    return found
