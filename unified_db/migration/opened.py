"""Which database files the processes of one command opened, and which of its tests ran last.

Two witnesses, since each misses something. The kernel sees every open of the database files that we
name, whatever program makes it and however short, ATTACH included (:mod:`watching`). A hook in every
Python process sees each database that the `sqlite3` module connects to, wherever it lies
(:mod:`recording`). Without inotify, who has the named files open is looked at now and then. Whether
it is good is not judged here.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from unified_db.migration import process_table
from unified_db.migration.recording import Recording
from unified_db.migration.watching import Watch

log = logging.getLogger(__name__)

_FOLDER_KEY = "UNIFY_DB_PROBE"
_CLAIM_KEY = "UNIFY_DB_PYTEST"


class Probe:
    """Follows the processes of one command.

    As a context manager around the command; ask it once the command has ended.

    Args:
        folder: Of its own; made afresh here, for what our pytest plugin reads and notes.
        databases: Files whose openings by any program are seen.
        recording: What the command's Python processes connect to.
    """

    def __init__(self, folder: Path, databases: Collection[Path], recording: Recording) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self.recording = recording
        self._folder = folder
        self._named = {path.resolve(): path for path in databases}
        self._seen: set[Path] = set()
        self._watch: Watch | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._watch = self._open.enter_context(Watch(self._named))
        if not self._watch.works:
            log.warning("inotify is not available: who opens a database is looked for a few times a second")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.look(())
        self._open.close()

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """*env*, with which every Python process of the command is followed."""
        # Set where the rehearsed suite is one that rehearses suites.
        rest = {k: v for k, v in env.items() if k != _CLAIM_KEY}
        return {**self.recording.environment(rest), _FOLDER_KEY: str(self._folder)}

    def select(self, nodes: Collection[str]) -> None:
        """Have pytest run only the tests with these node ids."""
        (self._folder / "selected.json").write_text(json.dumps(sorted(nodes)))

    def look(self, pids: Collection[int]) -> None:
        """Take note of what was opened since the last look, *pids* being there now."""
        if self._watch is not None and self._watch.works:
            self._seen |= self._watch.touched()
            return
        for path in self._named:
            if path not in self._seen and process_table.holders([path], among=pids):
                self._seen.add(path)

    @property
    def opened(self) -> frozenset[Path]:
        """Those of the named databases that were opened."""
        seen = self._seen | self.recording.databases()
        return frozenset(name for path, name in self._named.items() if path in seen)

    @property
    def others(self) -> frozenset[Path]:
        """The databases besides those that Python processes connected to, links followed."""
        return self.recording.databases() - set(self._named)

    def last_test(self) -> str:
        """The node id of the pytest test that was begun last; empty where none was seen."""
        try:
            return (self._folder / "running").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
