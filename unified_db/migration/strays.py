"""Whether staged processes left the application's real files alone, and what led them there if not.

Four witnesses, since each misses something. A hook in every Python process tells what it opens, by
which line (:mod:`recording`). /proc tells what any process has open now. The kernel tells that
somebody opened or changed a real file, not who (:mod:`watching`). Digests tell that it changed.
The last two convict staged processes only where nobody else uses the files, since the real
application goes on serving while we rehearse.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from unified_db import files
from unified_db.migration import naming, process_table
from unified_db.migration import recording as recordings
from unified_db.migration.config import MigrationConfig
from unified_db.migration.recording import Opening, Recording
from unified_db.migration.records import Finding
from unified_db.migration.stage import Side, Stages, real_databases, shared_files
from unified_db.migration.watching import Watch

CHECK = "rehearsal leaves the real database files alone"

_UNSEEN = "opened by a process that was gone before it could be named, while nobody else used it"
_CHANGED = "changed while nothing but staged processes ran"
_EVENTS = {
    "sqlite3.connect": "opened",
    "open": "opened",
    "os.remove": "removed",
    "os.rename": "moved",
    "os.truncate": "cut",
    "os.link": "linked",
}


class Guard:
    """Watches over the real files while staged processes run, for the length of its block.

    Do not read the real files inside of the block: the kernel does not tell us from others.

    Args:
        config: The application's configuration.
        stages: The staged trees, searched for the place that names a real file.
    """

    def __init__(self, config: MigrationConfig, stages: Stages) -> None:
        self._config = config
        self._stages = stages
        self._folder = stages.before.parent / "opened"
        self._bases = real_databases(config)
        self._labels = {p.resolve(): config.label(b) for b in self._bases for p in files.family(b)}
        self._recordings: list[Recording] = []
        self._handles: dict[str, str] = {}
        self._touched: set[Path] = set()
        self._others = False
        self._digests: dict[Path, str] = {}
        self._changed: set[Path] = set()
        self._shared: dict[Path, tuple[int, int]] = {}
        self._written: list[str] = []
        self._watch: Watch | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._look_for_others()
        self._digests = self._digest()
        self._shared = shared_files(self._stages)
        self._watch = self._open.enter_context(Watch(self._labels))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.look(())
        self._open.close()
        self._look_for_others()
        now_shared = shared_files(self._stages) if self._shared else {}
        # Each side may have been made anew since, or lost a file: that is no writing.
        self._written = [str(p) for p, s in self._shared.items() if now_shared.get(p, s) != s]
        if kind is None and not self._others:
            now = self._digest()
            self._changed = {p for p in self._labels if self._digests.get(p) != now.get(p)}

    def record(self, name: str, side: Side) -> Recording:
        """A recording for one command or server on *side*, whose environment makes its processes tell.

        Args:
            name: Of the command, for people; two may have the same.
            side: The tree that it runs in.
        """
        plain = re.sub(r"[^\w.-]", "_", name)
        folder = self._folder / f"{len(self._recordings)}-{plain}"
        recording = Recording(folder, root=self._stages.root(side), watched=self._labels)
        self._recordings.append(recording)
        return recording

    def look(self, pids: Collection[int]) -> None:
        """Take note of what the staged processes *pids* have open now, and of what was touched since."""
        self._note_holders(pids)
        touched = self._watch.touched() if self._watch else frozenset()
        self._touched |= touched
        # Who opens a file for every request holds none while nothing is asked.
        if touched and not self._others:
            self._note_holders(None)

    def findings(self) -> tuple[Finding, ...]:
        """After the block: one finding that passed, or one for each real file that was not left alone."""
        found = [_finding(label, what, passed=False) for label, what in self._violations().items()]
        found += [_finding_shared(name) for name in self._written]
        if found:
            return tuple(found)
        alone = "no staged process opened them; others use them" if self._others else "left alone"
        return (_finding("all", alone, passed=True),)

    def _violations(self) -> dict[str, str]:
        """Label of each real file that was not left alone to what happened and what names it."""
        found: dict[str, str] = {}
        for opening in (o for r in self._recordings for o in r.openings()):
            if opening.path in self._labels:
                found.setdefault(self._labels[opening.path], _said(opening))
        for label, holder in self._handles.items():
            found.setdefault(label, f"opened by process {holder}")
        if not self._others:
            for path in sorted(self._changed):
                found.setdefault(self._labels[path], _CHANGED)
            for path in sorted(self._touched):
                found.setdefault(self._labels[path], _UNSEEN)
        return {label: what + self._named(label) for label, what in found.items()}

    def _named(self, label: str) -> str:
        path = next(b for b in self._bases if self._config.label(b) == label)
        place = naming.find_place(self._config, path, roots=(self._stages.after, self._stages.before))
        return f", named in {place}" if place else ""

    def _look_for_others(self) -> None:
        self._note_holders(None)
        self._others = self._others or _answers(self._config)

    def _note_holders(self, among: Collection[int] | None) -> None:
        """Sort who has a real file open now into staged processes and others; *among* None looks at all."""
        for path in self._bases:
            for holder in process_table.holders([path], exclude={os.getpid()}, among=among):
                pid = int(holder.split(" ", 1)[0])
                # One that left its group and outlived it must not pass for the real application.
                if (among and pid in among) or recordings.is_recorded(pid, self._folder):
                    self._handles.setdefault(self._config.label(path), holder)
                else:
                    self._others = True

    def _digest(self) -> dict[Path, str]:
        # Any reader of a WAL database writes to -shm.
        looked = (p for p in self._labels if p.is_file() and not p.name.endswith("-shm"))
        return {path: files.digest_file(path) for path in looked}


def _answers(config: MigrationConfig) -> bool:
    """True where something listens on the real server's port, so that the real files are in use."""
    if not config.app.start:
        return False
    with socket.socket() as connection:
        connection.settimeout(1.0)
        return connection.connect_ex(("127.0.0.1", config.app.port)) == 0


def _said(opening: Opening) -> str:
    by = f"{_EVENTS.get(opening.event, 'opened')} by process {opening.pid}"
    return f"{by} at {opening.place}" if opening.place else by


def _finding_shared(name: str) -> Finding:
    return Finding(
        check="files that both staged copies share are only read",
        where=name,
        required="only read (staging.shared)",
        measured="written to, so one side saw what the other wrote",
        passed=False,
    )


def _finding(where: str, measured: str, *, passed: bool) -> Finding:
    return Finding(check=CHECK, where=where, required="left alone", measured=measured, passed=passed)
