"""Consistent copies: of all sources at one instant, and of single files for later life.

How one instant is had: the write lock of every live source is taken, a read snapshot is opened on
each, and the locks go again. From then on every copy is made from its snapshot while writers
go on. Sources that nobody uses are copied as bytes, and must not have changed at that instant.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from unified_db import causes, files, integrity, pieces, sqlite
from unified_db import sources as access
from unified_db.errors import SourceBusyError, SourceChangedError, SourceError, SourceOpenedError, UsageError
from unified_db.migration import instant, live_copy
from unified_db.migration.live_copy import LiveFile
from unified_db.migration.records import Backup, Backups, SourceKind

log = logging.getLogger(__name__)

# A source that is opened or replaced while it is copied is copied again this often.
_ATTEMPTS = 10

# For the remaining time: what copying a byte costs at least, against checking it, and bytes checked a second.
_COPIED_LIVE, _COPIED_STILL = 1.4, 0.6
_CHECKED_PER_S = 1.0e9


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

    @property
    def threads(self) -> tuple[str, ...]:
        """The columns that name LangGraph threads, as "table.column"."""


@dataclass(frozen=True)
class PlainSource:
    """A source that no configuration names."""

    path: Path
    label: str
    kind: SourceKind = "other"
    threads: tuple[str, ...] = ()


class Digests:
    """Digests of copies, each taken by a thread of *hands* right behind who writes the copy."""

    def __init__(self, hands: pieces.Crew) -> None:
        self._hands = hands
        self._taken: dict[Path, Future[str | None]] = {}

    @contextlib.contextmanager
    def begun(self, copy: Path) -> Iterator[files.DigestBehind]:
        """That of *copy* for the block in which it is written; it may still be taken afterwards."""
        behind = files.DigestBehind()
        self._taken[copy] = self._hands.start(behind.take)
        try:
            yield behind
        finally:
            behind.end()

    def take(self, copy: Path) -> str | None:
        """The digest of *copy*, once it is there; None where none was begun."""
        return pieces.result_of(self._taken[copy]) if copy in self._taken else None


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
        SourceBusyError: A writer held a source for *timeout_s*, or a source was replaced or opened
            again and again while it was read. Transient.
        SourceError: A source is no usable database.

    Reads and writes every page once. Writers of a WAL source wait only while the snapshots are
    opened; writers of a rollback-journal source wait until its copy is done.
    """
    copies = copy_sources(sources, into, timeout_s=timeout_s)
    try:
        return check_copies(copies)
    except BaseException:
        _remove([c.path for c in copies.items])
        raise


def copy_sources(
    sources: Sequence[Source], into: Path, *, timeout_s: float = 5.0, digests: Digests | None = None
) -> Backups:
    """As :func:`take_backups`, but the copies are neither checked nor durable yet and have no digest.

    For who has other work to do with them meanwhile; :func:`check_copies` does the rest. With *digests*
    these are begun with the copies.
    """
    started = time.monotonic()
    targets = _name_targets(sources, into)
    try:
        taken_at, lock_ms = _copy_one_instant(sources, targets, timeout_s=timeout_s, digests=digests)
        items = tuple(_unchecked(s, t) for s, t in zip(sources, targets, strict=True))
    except BaseException:
        _remove(targets)
        raise
    seconds = time.monotonic() - started
    return Backups(taken_at=taken_at, lock_ms=round(lock_ms, 3), seconds=seconds, items=items)


def check_copies(
    copies: Backups, *, digests: Digests | None = None, proven_later: Collection[Path] = ()
) -> Backups:
    """*copies* with their digests, durable, and each one found intact.

    Args:
        copies: Made by :func:`copy_sources`.
        digests: Those begun there.
        proven_later: Copies that the caller finds intact, by :func:`require_intact_copy` or otherwise.

    Raises:
        SourceError: A source is damaged.
    """
    started = time.monotonic()
    sizes = sum(c.size_bytes for c in copies.items)
    # What the copying has taken tells what it cost; the checks are foretold from that.
    cost = max(copies.seconds * _CHECKED_PER_S / max(sizes, 1), _COPIED_STILL)
    tally = pieces.Tally("backup", round((cost + 1) * sizes))
    tally.add(round(cost * sizes))
    by_size = sorted(copies.items, key=lambda c: c.size_bytes, reverse=True)
    found: dict[Path, str] = {}

    def digest() -> None:
        # One after the other, which takes about as long as the checks beside them: so far is all of it.
        for copy in by_size:
            begun = digests.take(copy.path) if digests else None
            found[copy.path] = begun or files.digest_file(copy.path, tally.add)

    work: list[Callable[[], None]] = [*(partial(_settle, c.path) for c in copies.items), digest]
    work += [partial(require_intact_copy, c) for c in by_size if c.path not in proven_later]
    # Settling only waits for the disk.
    pieces.do_together(work, threads=pieces.cores() + len(copies.items))
    items = tuple(c.model_copy(update={"sha256": found[c.path]}) for c in copies.items)
    seconds = copies.seconds + time.monotonic() - started
    return copies.model_copy(update={"items": items, "seconds": seconds})


def _settle(copy: Path) -> None:
    files.fsync_file(copy)
    files.fsync_folder(copy.parent)


def _remove(copies: Sequence[Path]) -> None:
    for copy in copies:
        copy.unlink(missing_ok=True)


def _copy_one_instant(
    sources: Sequence[Source], targets: Sequence[Path], *, timeout_s: float, digests: Digests | None
) -> tuple[datetime, float]:
    in_use: set[Path] = set()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _try_one_instant(sources, targets, in_use, timeout_s=timeout_s, digests=digests)
        except SourceChangedError as error:
            if attempt == _ATTEMPTS:
                raise
            # Also where its user, who opens it for a moment at a time, has it closed just then.
            if isinstance(error, SourceOpenedError) and error.path:
                in_use.add(error.path)
            log.info("backup: %s; once more", error.message)
    raise AssertionError


def _try_one_instant(
    sources: Sequence[Source],
    targets: Sequence[Path],
    in_use: Collection[Path],
    *,
    timeout_s: float,
    digests: Digests | None,
) -> tuple[datetime, float]:
    with contextlib.ExitStack() as stack:
        # All that is done by hand comes before the first connection, and on still files alone after it.
        held = [
            stack.enter_context(access.hold(s.path, timeout_s=timeout_s, in_use=s.path.resolve() in in_use))
            for s in sources
        ]
        beside = {h.path: stack.enter_context(_opened(h)) for h in held}
        readers, taken_at, lock_ms = _open_snapshots(held, beside, stack, timeout_s=timeout_s)
        log.info("backup: one instant of %s, writers held off %.1f ms", _names(sources), lock_ms)
        # Where bytes can be copied, SQLite need not read them.
        raw = {path: live for path, live in beside.items() if live is not None and live.is_known}
        cost = _COPIED_LIVE if readers.keys() - raw.keys() else _COPIED_STILL
        total_bytes = access.total_bytes([h.path for h in held])
        tally = pieces.Tally("backup", round((cost if digests else 1 + cost) * total_bytes))
        pieces.do_together(
            [
                partial(
                    _copy_whole,
                    item,
                    readers.get(item.path),
                    target,
                    lambda n: tally.add(round(n * cost)),
                    live=raw.get(item.path),
                    digests=digests,
                )
                for item, target in zip(held, targets, strict=True)
            ]
        )
        for item in held:
            item.require_in_place()
    return taken_at, lock_ms


def _opened(held: access.Held) -> contextlib.AbstractContextManager[LiveFile | None]:
    if not held.live or access.is_open_here(held.path):
        return contextlib.nullcontext()
    return live_copy.opened(held.path)


def _copy_whole(
    held: access.Held,
    reader: sqlite3.Connection | None,
    target: Path,
    told: Callable[[int], None],
    *,
    live: LiveFile | None,
    digests: Digests | None,
) -> None:
    # Its name says that all of it is there, not that it would survive a power cut: that is seen to
    # with the checks, and nobody but this run knows of it before.
    with files.partial_file(target) as unfinished, contextlib.ExitStack() as stack:
        # What SQLite writes, it writes in no order.
        if digests and (live is not None or (reader is None and not held.leftovers)):
            behind = stack.enter_context(digests.begun(target))
            told = behind.told(unfinished, told)
        _copy(held, reader, unfinished, told, live=live)
        unfinished.chmod(0o600)


def _copy(
    held: access.Held,
    reader: sqlite3.Connection | None,
    into: Path,
    told: Callable[[int], None] | None = None,
    *,
    live: LiveFile | None = None,
) -> None:
    try:
        if reader is not None:
            live.copy(into, told) if live is not None else sqlite.copy_database(reader, into, told)
            # Writers of a rollback-journal source need not wait for the other copies too.
            reader.execute("ROLLBACK")
        else:
            access.copy_still(held, into, told)
    except sqlite3.Error as error:
        raise sqlite.translate(error, held.path) from error


def backup_file(file: Path, into: Path, *, timeout_s: float = 5.0) -> Backup:
    """Copy *file*, in use or not, into folder *into* under its name and the UTC time, checked.

    Beside it lies its digest as `sha256sum` writes it, which `restore` compares.

    Raises:
        SourceBusyError: A writer held it for *timeout_s*. Transient.
        SourceError: It is no usable database, the copy is damaged, or there is no space for it.
    """
    access.read_header(file)
    access.require_space({into: access.total_bytes([file.resolve()])})
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = into / f"{file.stem}-{moment}{file.suffix}"
    with (
        made_folder(into, read=file),
        files.without_leftovers(into, f"{file.stem}-"),
        files.partial_file(target) as unfinished,
    ):
        try:
            _copy_one(file, unfinished, timeout_s=timeout_s)
        except SourceOpenedError:
            for left in (unfinished, *files.sidecars(unfinished)):
                left.unlink(missing_ok=True)
            _copy_one(file, unfinished, timeout_s=timeout_s, in_use=True)
        files.take_mode_and_owner(unfinished, file, special_bits=False)
        files.fsync_file(unfinished)
        taken = _check(PlainSource(file, file.name), unfinished).model_copy(update={"path": target})
        files.write_durably(_digest_path(target), _digest_line(taken.sha256, target), mode=0o600)
    return taken


def _copy_one(file: Path, into: Path, *, timeout_s: float, in_use: bool = False) -> None:
    with access.hold(file, timeout_s=timeout_s, in_use=in_use) as held:
        # One file is one instant by itself: a reader's snapshot, without the writers' lock.
        reader = sqlite.connect_read_only(held.path, timeout_s=timeout_s) if held.live else None
        with sqlite.closing(reader) if reader else contextlib.nullcontext():
            if reader:
                reader.execute("BEGIN")
            _copy(held, reader, into)
        held.require_in_place()


def restore_file(backup: Path, to: Path, *, timeout_s: float = 5.0) -> Path:
    """Put *backup* at *to*; sidecars of the file that was there never meet the new one.

    A database that is there already is kept beside it as `NAME.before-restore-TIME`, with its
    sidecars, so nothing is lost; the restored one gets its mode and owner.

    Returns:
        *to*.

    Raises:
        SourceError: *backup* is damaged or not what its digest says, *to* is in use, or there is no space.
        UsageError: *to* is a folder, or both are one file.
    """
    to = to.resolve()
    if to.is_dir() or access.same_file(backup, to) or (to.exists() and not to.is_file()):
        raise UsageError(f"cannot restore to {to}", hint="Name the database file that is to be replaced.")
    access.read_header(backup)
    _require_digest(backup)
    access.require_space({to.parent: access.total_bytes([backup.resolve()])})
    _require_unused(to)
    with (
        made_folder(to.parent, read=backup),
        files.without_leftovers(to.parent, f"{to.name}."),
        files.partial_file(to) as unfinished,
    ):
        # Whole and checked before anything of the old file moves.
        with access.reading(backup, timeout_s=timeout_s, scratch=to.parent) as conn:
            sqlite.copy_database(conn, unfinished)
        with sqlite.closing(sqlite.connect_frozen(unfinished)) as conn:
            _require_intact(conn, backup)
        files.take_mode_and_owner(unfinished, to if to.exists() else backup, special_bits=False)
        files.fsync_file(unfinished)
        _require_unused(to)
        _move_aside(to)
    return to


def _require_digest(backup: Path) -> None:
    noted = _digest_path(backup)
    if not noted.exists() or access.is_open_here(backup):
        return
    if noted.read_bytes().removeprefix(b"\\").split(b" ", 1)[0] != files.digest_file(backup).encode():
        raise SourceError(
            f"{backup} is not what {noted.name} says: it was changed or damaged since it was taken",
            hint=f"Nothing was changed. Take another one, or remove {noted.name} if you changed it yourself.",
        )


def _digest_line(digest: str, backup: Path) -> bytes:
    """What `sha256sum` writes for *backup*: the bytes of its name, with newlines and backslashes escaped."""
    name = os.fsencode(backup.name)
    escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"


def _digest_path(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.sha256")


def _require_unused(database: Path) -> None:
    from unified_db.migration.process_table import holders

    users = holders([database])
    if users:
        raise SourceBusyError(
            f"{database} is in use by {', '.join(users)}",
            hint="Nothing was changed. Stop the application and run again.",
        )


def _move_aside(database: Path) -> None:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = database.with_name(f"{database.name}.before-restore-{moment}")
    left = files.sidecars(database)
    # All of the old is under its other name before any of it goes. The main file goes first, where
    # there are sidecars: without its WAL it would be older, and nobody would be told.
    for old in (*left, database):
        if old.exists():
            files.link_durably(old, files.sidecar(aside, old.name.removeprefix(database.name)))
    for old in (database, *left) if left else ():
        files.remove_durably(old)


@contextlib.contextmanager
def made_folder(folder: Path, *, read: Path | None = None) -> Iterator[None]:
    """*folder*, made for the block where it is not there; gone again where the block fails.

    What SQLite says in the block is told of *read*, the one database that is read there, or of none.

    Raises:
        UsageError: It, or one above it, is no folder.
    """
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest} is no folder", hint="Nothing was written. Name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()
        if isinstance(error, OSError):
            raise access.refuse_os_error(error) from error
        if isinstance(error, sqlite3.Error):
            raise _told_of(read, error) from error
        raise


def _told_of(read: Path | None, error: sqlite3.Error) -> SourceError:
    if read is not None or causes.is_full_disk(error):
        return sqlite.translate(error, read or Path())
    if causes.lacks_descriptors():
        return causes.out_of_descriptors("a database")
    return SourceError(
        f"SQLite could not go on: {error}",
        hint="Nothing was written, and the sources are as they were. Merge or validate one source alone, "
        "then another, to find the one that this is about.",
    )


def _names(sources: Sequence[Source]) -> str:
    return " and ".join(s.label for s in sources)


def _name_targets(sources: Sequence[Source], into: Path) -> list[Path]:
    names: list[str] = []
    for place, source in enumerate(sources, 1):
        name = source.path.name
        names.append(f"{place}-{name}" if name.lower() in {n.lower() for n in names} else name)
    return [into / name for name in names]


def _open_snapshots(
    held: Sequence[access.Held],
    beside: Mapping[Path, LiveFile | None],
    stack: contextlib.ExitStack,
    *,
    timeout_s: float,
) -> tuple[dict[Path, sqlite3.Connection], datetime, float]:
    """A snapshot of every live source; of one instant, at which no still one had changed."""
    live = [h.path for h in held if h.live]
    # The readers are opened first and closed last: a writer's connection that is closed while
    # another one of this process is open neither checkpoints nor deletes the WAL.
    readers = {p: _reader(p, stack, timeout_s=timeout_s) for p in live}
    with instant.write_locks(live, timeout_s=timeout_s) as locks:
        for path, reader in readers.items():
            sqlite.begin_snapshot(reader)
            content = beside[path]
            if content is not None and locks.has(path):
                content.note(reader)
        taken_at = datetime.now(UTC)
        for item in held:
            item.require_in_place()
        locks.require_nothing_written()
        lock_ms = locks.held_ms()
    return readers, taken_at, lock_ms


def _reader(path: Path, stack: contextlib.ExitStack, *, timeout_s: float) -> sqlite3.Connection:
    return stack.enter_context(sqlite.closing(sqlite.connect_read_only(path, timeout_s=timeout_s)))


def _check(source: Source, copy: Path) -> Backup:
    unchecked = _unchecked(source, copy)
    require_intact_copy(unchecked)
    return unchecked.model_copy(update={"sha256": files.digest_file(copy)})


def _unchecked(source: Source, copy: Path) -> Backup:
    return Backup(
        label=source.label,
        source=source.path,
        path=copy,
        kind=source.kind,
        size_bytes=copy.stat().st_size,
        sha256="",
        journal_mode=access.read_header_of_copy(copy).journal_mode,
        threads=source.threads,
    )


def require_intact_copy(copy: Backup) -> None:
    """Return where *copy* passes `integrity_check`.

    Raises:
        SourceError: Its source is damaged.
    """
    with sqlite.closing(sqlite.connect_frozen(copy.path)) as conn:
        _require_intact(conn, copy.source)
    log.info("backup: %s, %s bytes, integrity ok", copy.label, f"{copy.size_bytes:,}")


def _require_intact(conn: sqlite3.Connection, path: Path) -> None:
    problems = integrity.integrity_problems(conn)
    if problems:
        raise SourceError(
            f"{path} is damaged: {problems[0]}",
            hint="Nothing was written. `sqlite3 FILE '.recover'` may save what is left of it.",
        )
