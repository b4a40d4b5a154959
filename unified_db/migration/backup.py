"""Consistent copies: of all sources at one instant, and of single files for later life.

How one instant is had: the write lock of every source is taken, a read snapshot is opened on
each, and the locks go again. From then on every copy is made from its snapshot while writers
go on. Sources that nobody uses are copied privately first and watched until the locks are held.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from unified_db import files, sqlite
from unified_db.errors import SourceBusyError, SourceError, UsageError
from unified_db.migration.records import Backup, Backups, SourceKind

log = logging.getLogger(__name__)


class Source(Protocol):
    """What a backup needs to know of a source."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def label(self) -> str:
        """How it is named in tables."""

    @property
    def kind(self) -> SourceKind:
        """What it holds."""


@dataclass(frozen=True)
class PlainSource:
    """A source that no configuration names."""

    path: Path
    label: str
    kind: SourceKind = "other"


def take_backups(sources: Sequence[Source], into: Path, *, timeout_s: float = 5.0) -> Backups:
    """Copy all *sources* as they were at one instant, with what is in their WALs.

    Args:
        sources: In use or not; they are left as they are, sidecars too.
        into: An existing folder. Each copy gets its source's own name there (a number is put
            before it where two sources have the same), whole or not at all.
        timeout_s: Seconds to wait for a writer of any source before giving up.

    Returns:
        The copies with digests; each was opened again and passed `integrity_check`.

    Raises:
        SourceBusyError: A writer held a source for *timeout_s*. Transient.
        SourceError: A source is no usable database.

    Reads and writes every page once. Writers of a WAL source wait only while the snapshots are
    opened; writers of a rollback-journal source wait until its copy is done.
    """
    started = time.monotonic()
    targets = _name_targets(sources, into)
    try:
        with contextlib.ExitStack() as stack:
            snapshots, taken_at, lock_ms = _open_snapshots(sources, stack, timeout_s=timeout_s)
            log.info("backup: one instant of %s, writers held off %.1f ms", _names(sources), lock_ms)
            for snapshot, target in zip(snapshots, targets, strict=True):
                with files.partial_file(target) as partial:
                    sqlite.copy_database(snapshot, partial)
                    partial.chmod(0o600)
        items = tuple(_check(s, t) for s, t in zip(sources, targets, strict=True))
    except BaseException:
        for target in targets:
            target.unlink(missing_ok=True)
        raise
    seconds = time.monotonic() - started
    return Backups(taken_at=taken_at, lock_ms=round(lock_ms, 3), seconds=seconds, items=items)


def backup_file(file: Path, into: Path, *, timeout_s: float = 5.0) -> Backup:
    """Copy *file*, in use or not, into folder *into* under its name and the UTC time, checked.

    Raises:
        SourceBusyError: A writer held it for *timeout_s*. Transient.
        SourceError: It is no usable database, or the copy is damaged.
    """
    sqlite.read_header(file)
    into.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = into / f"{file.stem}-{moment}{file.suffix}"
    source = PlainSource(file, file.name)
    with sqlite.reading(file, timeout_s=timeout_s) as conn, files.partial_file(target) as partial:
        sqlite.copy_database(conn, partial)
        partial.chmod(file.stat().st_mode & 0o777)
    return _check(source, target)


def restore_file(backup: Path, to: Path) -> Path:
    """Put *backup* at *to*; sidecars of the file that was there never meet the new one.

    A database that is there already is kept beside it as `NAME.before-restore-TIME`, with its
    sidecars, so nothing is lost.

    Returns:
        *to*.

    Raises:
        SourceError: *backup* is damaged, or *to* is in use.
        UsageError: *to* is a folder, or both are one file.
    """
    to = to.resolve()
    if to.is_dir() or sqlite.same_file(backup, to):
        raise UsageError(f"cannot restore to {to}", hint="Name the database file that is to be replaced.")
    sqlite.read_header(backup)
    with sqlite.closing(sqlite.connect_frozen(backup)) as conn:
        _require_intact(conn, backup)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.exists() or files.sidecars(to):
        _move_aside(to)
    files.copy_durably(backup, to)
    return to


def _move_aside(database: Path) -> None:
    from unified_db.migration.processes import holders

    users = holders([database])
    if users:
        raise SourceBusyError(
            f"{database} is in use by {', '.join(users)}",
            hint="Nothing was changed. Stop the application and run again.",
        )
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = database.with_name(f"{database.name}.before-restore-{moment}")
    # Sidecars go first: without them the main file is older, never mixed with another's WAL.
    for suffix in (*files.SIDECAR_SUFFIXES, ""):
        old = files.sidecar(database, suffix)
        if old.exists():
            files.move_durably(old, files.sidecar(aside, suffix))


def _names(sources: Sequence[Source]) -> str:
    return " and ".join(s.label for s in sources)


def _name_targets(sources: Sequence[Source], into: Path) -> list[Path]:
    names: list[str] = []
    for place, source in enumerate(sources, 1):
        name = source.path.name
        names.append(f"{place}-{name}" if name.lower() in {n.lower() for n in names} else name)
    return [into / name for name in names]


def _open_snapshots(
    sources: Sequence[Source], stack: contextlib.ExitStack, *, timeout_s: float
) -> tuple[list[sqlite3.Connection], datetime, float]:
    idle: list[tuple[Path, sqlite.Fingerprint]] = []
    readable: list[Path] = []
    for source in sources:
        if sqlite.how_to_read(source.path) == "private copy":
            before = sqlite.fingerprint(source.path)
            readable.append(stack.enter_context(sqlite.private_copy(source.path)))
            idle.append((source.path, before))
        else:
            readable.append(source.path)
    # The readers are opened first and closed last: a writer's connection that is closed while
    # another one of this process is open neither checkpoints nor deletes the WAL.
    readers = [_reader(path, stack, timeout_s=timeout_s) for path in readable]
    shared = [s.path for s, path in zip(sources, readable, strict=True) if path == s.path]
    with _write_locks(shared, timeout_s=timeout_s) as locked_at:
        for reader in readers:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        taken_at = datetime.now(UTC)
        for path, before in idle:
            if sqlite.fingerprint(path) != before:
                raise SourceBusyError(f"{path} was opened while it was being copied", hint="Run again.")
        lock_ms = (time.perf_counter() - locked_at) * 1000
    return readers, taken_at, lock_ms if shared else 0.0


def _reader(path: Path, stack: contextlib.ExitStack, *, timeout_s: float) -> sqlite3.Connection:
    return stack.enter_context(sqlite.closing(sqlite.connect_read_only(path, timeout_s=timeout_s)))


@contextlib.contextmanager
def _write_locks(paths: Sequence[Path], *, timeout_s: float) -> Iterator[float]:
    """Hold the write locks of all *paths*; yields when the first was taken."""
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(sqlite.closing(_lockable(p, timeout_s=timeout_s))) for p in paths]
        started = time.perf_counter()
        for place, (conn, path) in enumerate(zip(conns, paths, strict=True)):
            sqlite.wait_for_lock(conn, path, timeout_s=timeout_s)
            if place == 0:
                started = time.perf_counter()
        try:
            yield started
        finally:
            for conn in conns:
                conn.execute("ROLLBACK")


def _lockable(path: Path, *, timeout_s: float) -> sqlite3.Connection:
    try:
        return sqlite.connect_writable(path, timeout_s=timeout_s)
    except SourceBusyError:
        raise
    except SourceError as error:
        raise SourceError(
            f"{path} cannot be locked: {error.message}",
            hint="Nothing was written. A shared instant needs permission to write to every source in use.",
        ) from error


def _check(source: Source, copy: Path) -> Backup:
    with sqlite.closing(sqlite.connect_frozen(copy)) as conn:
        _require_intact(conn, source.path)
        mode = sqlite.read_header(copy).journal_mode
    size = copy.stat().st_size
    log.info("backup: %s, %s bytes, integrity ok", source.label, f"{size:,}")
    return Backup(
        label=source.label,
        source=source.path,
        path=copy,
        kind=source.kind,
        size_bytes=size,
        sha256=files.digest_file(copy),
        journal_mode=mode,
    )


def _require_intact(conn: sqlite3.Connection, path: Path) -> None:
    problems = sqlite.integrity_problems(conn)
    if problems:
        raise SourceError(
            f"{path} is damaged: {problems[0]}",
            hint="Nothing was written. `sqlite3 FILE '.recover'` may save what is left of it.",
        )
