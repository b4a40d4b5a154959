"""The folder of a run: where everything of it lies, who may read it, and the lock that keeps two apart.

`.unify-db/runs/RUN/` beside the configuration holds journal, log, backups, evidence, report and
patch. All of it may hold data, so folders are for their owner only and git ignores them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from unified_db import files, spelling
from unified_db.errors import RunLockedError, UsageError
from unified_db.migration import process_table
from unified_db.migration.config import MigrationConfig, parse_config

_TIME_OF_NAME = "%Y%m%dT%H%M%SZ"
_RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
_LOG_LINE = re.compile(r"\S+ \S+ (?P<pid>\d+) (?P<level>[A-Z]+) (?P<name>[\w.]+) (?P<message>.*)")
# Marks what is in a run's log already.
_RELAYED = "unify_db_relayed"
_R = TypeVar("_R", bound=BaseModel)


class RunFolder:
    """Names of everything that lies in one run's folder.

    Args:
        path: `.unify-db/runs/RUN`, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.journal = path / "journal.jsonl"
        self.log = path / "run.log"
        self.config = path / "unify.toml"
        self.backups = path / "backup"
        self.unified = path / "unified.sqlite"
        self.stage = path / "stage"
        self.evidence = path / "evidence"
        self.preimages = path / "preimages"
        self.originals = path / "originals"
        self.archive = path / "archive"
        self.report = path / "report.html"
        self.summary = path / "report.md"
        self.patch = path / "switch.patch"
        self.schema = path / "unified-schema.md"
        self.server_log = path / "server.log"
        self.flow_runs = path / "flow-runs"

    def save(self, name: str, record: BaseModel) -> Path:
        """Write *record* to `evidence/NAME.json`, durably."""
        path = self.evidence / f"{name}.json"
        files.write_durably(path, record.model_dump_json(indent=2).encode() + b"\n", mode=0o600)
        return path

    def load(self, name: str, kind: type[_R]) -> _R | None:
        """The record saved under *name*, None where that phase has not ended."""
        path = self.evidence / f"{name}.json"
        with contextlib.suppress(FileNotFoundError):
            return kind.model_validate_json(path.read_bytes())
        return None

    def evidence_digest(self) -> str:
        """One digest over all verdicts and what they rest on, for the approval to name what it saw."""
        lines = [
            f"{p.name} {files.digest_file(p)}"
            for p in sorted(self.evidence.glob("*.json"))
            if p.stem.startswith(("plan", "backup", "merge", "evidence-", "verdict-"))
        ]
        return files.digest_bytes("\n".join(lines).encode())


def create_run(state_folder: Path, *, now: datetime | None = None) -> RunFolder:
    """Make a new run's folder, owner-only, under *state_folder* (`.unify-db`).

    Its name sorts behind all others, also where the clock was set back: the newest run is the last.
    """
    moment = now or datetime.now(UTC)
    prepare_state_folder(state_folder)
    others = [r.name.partition("-")[0] for r in list_runs(state_folder)]
    if others:
        newest = datetime.strptime(others[-1], _TIME_OF_NAME).replace(tzinfo=UTC)
        moment = max(moment, newest + timedelta(seconds=1))
    run = RunFolder(state_folder / "runs" / f"{moment.strftime(_TIME_OF_NAME)}-{secrets.token_hex(2)}")
    # All of it from the top: what is fsynced in a folder is lost with a folder that is not.
    for folder in (state_folder, run.path.parent, run.path, run.backups, run.evidence, run.preimages):
        files.make_folder(folder, mode=0o700)
    return run


def prepare_state_folder(state_folder: Path) -> None:
    """Make `.unify-db` and what it always holds, with modes for the owner alone."""
    (state_folder / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
    state_folder.chmod(0o700)
    ignore = state_folder / ".gitignore"
    # An empty one is what a kill left of making it; any other is its owner's.
    if not ignore.exists() or not ignore.stat().st_size:
        ignore.write_bytes(b"*\n")
        files.fsync_file(ignore)
        files.fsync_folder(state_folder)


def open_run(state_folder: Path, name: str | None = None) -> RunFolder:
    """The run called *name*, or the newest where *name* is None.

    Raises:
        UsageError: There is no such run.
    """
    runs = list_runs(state_folder)
    if name is None and runs:
        return runs[-1]
    found = [r for r in runs if r.name == name] or [r for r in runs if name and r.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(r.name for r in runs[-5:]) or "none"
    raise UsageError(
        f"{'several runs begin' if found else 'there is no run'} {name or ''} in {state_folder / 'runs'}",
        hint=f"Known runs: {known}. `--config` says which application is meant.",
    )


def config_of(run: RunFolder, current: MigrationConfig) -> MigrationConfig:
    """The configuration that *run* was begun with, which `unify.toml` may no longer say."""
    if not run.config.exists():
        return current
    return parse_config(tomllib.loads(run.config.read_text(encoding="utf-8-sig")), file=current.file)


def list_runs(state_folder: Path) -> list[RunFolder]:
    """All runs, oldest first."""
    folder = state_folder / "runs"
    if not folder.is_dir():
        return []
    return [RunFolder(p) for p in sorted(folder.iterdir()) if _RUN_NAME.fullmatch(p.name)]


def note_flow_run(run: RunFolder, flow_run: str) -> None:
    """Write down that *flow_run* of Prefect shows *run*; each process that works on it adds its own."""
    if flow_run not in flow_runs_of(run):
        with run.flow_runs.open("a", encoding="ascii") as lines:
            lines.write(f"{flow_run}\n")


def flow_runs_of(run: RunFolder) -> tuple[str, ...]:
    """The flow runs of Prefect that showed *run*, oldest first; none where it never was in Prefect."""
    return tuple(run.flow_runs.read_text(encoding="ascii").split()) if run.flow_runs.exists() else ()


@contextlib.contextmanager
def hold_lock(state_folder: Path, paths: Iterable[Path]) -> Iterator[None]:
    """Keep every other run away from *paths* (sources and target) for the length of the block.

    An OS lock per path, which a dead process does not hold. The lock files lie in
    `.unify-db/locks`; only who holds one removes it, and who has opened a removed one opens anew.

    Raises:
        RunLockedError: Another process holds one of them; its process id is named.
    """
    folder = state_folder / "locks"
    with contextlib.ExitStack() as stack:
        for path in sorted({str(p) for p in paths}):
            name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
            stack.enter_context(_lock_file(folder / f"{name}.lock", label=path))
        yield


@contextlib.contextmanager
def _lock_file(file: Path, *, label: str) -> Iterator[None]:
    descriptor = _open_lock(file)
    try:
        while True:
            if not files.take_lock(descriptor):
                holder = _read_holder(descriptor)
                at_work = holder is None or process_table.is_there({"pid": holder})
                if at_work or not files.take_lock(descriptor, patience_s=files.INHERITED_LOCK_S):
                    raise RunLockedError(
                        f"another run holds {label} (process {holder or 'unknown'})",
                        hint="Nothing was done. Wait for that run to end; `unify-db status` shows it.",
                    )
            if _is_at(descriptor, file):
                break
            os.close(descriptor)
            descriptor = _open_lock(file)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "path": label}).encode(), 0)
            yield
        finally:
            file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _read_holder(descriptor: int) -> int | None:
    """The process that wrote itself into a lock's file; None where none has yet."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    with contextlib.suppress(ValueError, KeyError):
        return int(json.loads(content)["pid"])
    return None


def _open_lock(file: Path) -> int:
    prepare_state_folder(file.parents[1])
    file.parent.mkdir(mode=0o700, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_at(descriptor: int, file: Path) -> bool:
    """True where *file* is still the one that *descriptor* has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def clear_leftovers(run: RunFolder) -> None:
    """Remove what was being written into the folder of *run* when its process was killed.

    The caller holds its lock. A decision aside: who makes it is another process, which may be at it.
    """
    folders = (run.path, run.backups, run.evidence, run.preimages, run.originals, run.archive)
    for folder in filter(Path.is_dir, folders):
        for path, target in files.partials(folder).items():
            if target.stem != "decision":
                path.unlink(missing_ok=True)


class _RunLog(logging.FileHandler):
    """A log whose lines go where its disk is full: the run itself says so, and goes on or back."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's own name
        """Nothing to add for what a disk refused."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextlib.contextmanager
def keep_log(run: RunFolder) -> Iterator[None]:
    """Write everything that unified_db logs to the run's own log for the length of the block."""
    handler = _RunLog(run.log, encoding="utf-8", errors=spelling.ERRORS)
    run.log.chmod(0o600)
    handler.addFilter(lambda record: not hasattr(record, _RELAYED))
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("unified_db")
    previous = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
        # What a full disk has not taken is tried once more by this.
        with contextlib.suppress(OSError):
            handler.close()


class FollowedLog:
    """What another process adds to the log of *run* from now on, told here as if this one said it."""

    def __init__(self, run: RunFolder) -> None:
        self._file = run.log
        self._told_bytes = self._file.stat().st_size if self._file.exists() else 0

    def tell(self, pid: int) -> None:
        """Log the whole lines that process *pid* has written since the last time."""
        with contextlib.suppress(OSError), self._file.open("rb") as stream:
            stream.seek(self._told_bytes)
            whole, newline, _ = stream.read().rpartition(b"\n")
            self._told_bytes += len(whole + newline)
            for line in whole.decode(errors="replace").split("\n"):
                _relay(line, pid)


def _relay(line: str, pid: int) -> None:
    found = _LOG_LINE.fullmatch(line)
    if found and int(found["pid"]) == pid:
        level = logging.getLevelNamesMapping().get(found["level"], logging.INFO)
        logging.getLogger(found["name"]).log(level, "%s", found["message"], extra={_RELAYED: True})


def remember(run: RunFolder, name: str, kind: type[_R], make: Callable[[], _R]) -> _R:
    """The record of a phase that has ended already, else what *make* returns, saved."""
    known = run.load(name, kind)
    if known is not None:
        return known
    record = make()
    run.save(name, record)
    return record
