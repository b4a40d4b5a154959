"""Databases that belong to somebody else: looked at, held and read without leaving a trace.

The traps of SQLite's file handling towards a file that others use are kept in this one place:

* Closing the last read-write connection of a WAL database checkpoints the WAL and deletes it.
  A read-only connection cannot, so live sources are read through those.
* A read-only connection on a WAL database that nobody has open creates its `-shm`, or writes into
  one that a crash left; a hot rollback journal is rolled back on disk by the first reader. Such
  a file is *still*: it is read as bytes, under a lock that keeps its next user from changing it.
* Opening and closing a database's file by hand drops the locks that this process's connections
  hold on it (POSIX). So nobody here does while this process has the file open, and the lock on a
  still file is one that belongs to the descriptor instead (fcntl(2), open file description locks).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from unified_db import causes, descriptors, files, sqlite
from unified_db.errors import (
    MissingSourceError,
    SourceBusyError,
    SourceChangedError,
    SourceError,
    SourceOpenedError,
)

HEADER = b"SQLite format 3\x00"
HEADER_BYTES = 100
_WAL_VERSION = 2
# A header is read again so often where the file is shorter than it says.
_LOOKS_AT_HEADER = 5
_BETWEEN_LOOKS_S = 0.01
_ENCODINGS = {2: "UTF-16le", 3: "UTF-16be"}
_POLL_S = 0.005
_JOURNAL_NONCE = slice(12, 16)

_T = TypeVar("_T")

Identity = tuple[int, int]
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class Header:
    """What the first 100 bytes of a database file say (sqlite.org/fileformat.html)."""

    page_size: int
    journal_mode: Literal["wal", "delete"]
    page_count: int
    encoding: str

    @property
    def wal(self) -> bool:
        """True where readers must look for a WAL."""
        return self.journal_mode == "wal"


@dataclass(frozen=True)
class Held:
    """A source as it is found, for as long as :func:`hold` holds it.

    Attributes:
        path: The file itself, links resolved: SQLite puts the sidecars beside that one.
        live: True where it is read through SQLite, beside its users; else it is still.
        leftovers: Of a still file the sidecars without which it is not complete.
        descriptor: Of a still file the one that holds its lock; None otherwise.
    """

    path: Path
    live: bool
    identity: Identity
    header: Header
    leftovers: tuple[Path, ...] = ()
    seen: Fingerprint = ()
    descriptor: int | None = field(default=None, compare=False)

    def require_in_place(self) -> None:
        """Return where the path still leads to the file that was found, and a still one did not change.

        Raises:
            SourceChangedError: Another file is there now, or somebody opened it. Transient.
        """
        require_identity(self.path, self.identity)
        if not self.live and (fingerprint(self.path) != self.seen or _has_users(self.path)):
            # It may have been replaced since.
            require_identity(self.path, self.identity)
            error = SourceOpenedError(
                f"{self.path} was opened by another process while it was being copied",
                hint="Nothing was written. Run again.",
            )
            error.path = self.path
            raise error


def read_header(path: Path) -> Header:
    """What the header of *path* says, without a trace and without dropping a lock.

    Raises:
        SourceError: A folder, a pipe, unreadable, empty, truncated, or not a SQLite database.
        MissingSourceError: It is not there.
    """
    path = path.resolve()
    _require_regular(path)
    if is_open_here(path):
        return _header_by_connection(path)
    return read_header_of_copy(path)


def read_header_of_copy(path: Path) -> Header:
    """As :func:`read_header`, of a file on which this process holds no lock, whoever else reads it."""
    for attempt in range(_LOOKS_AT_HEADER, 0, -1):
        try:
            with path.open("rb") as stream:
                head = stream.read(HEADER_BYTES)
                return _parse_header(path, head, size=os.fstat(stream.fileno()).st_size)
        except OSError as error:
            raise _unreadable(path, error) from error
        except SourceError:
            # A writer may have been between one page and the next, its journal gone by now.
            if attempt == 1:
                raise
            time.sleep(_BETWEEN_LOOKS_S)
    raise AssertionError


def _require_regular(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{path} is a folder", hint=_other_file("Only files are read."))
    # Never opened: opening a pipe waits for its other end.
    if not stat.S_ISREG(status.st_mode):
        kind = "a pipe" if stat.S_ISFIFO(status.st_mode) else "a socket or a device"
        raise SourceError(f"{path} is {kind}, not a file", hint=_other_file("Only files are read."))
    return status


def _missing(path: Path) -> SourceError:
    for suffix in ("-wal", "-journal"):
        left = files.sidecar(path, suffix)
        if left.exists():
            what = "WAL" if suffix == "-wal" else "journal"
            return SourceError(
                f"{path} is missing but its {what} {left.name} is there",
                hint=f"Nothing was touched: opening it would delete the {what}. Put the main file back.",
            )
    return MissingSourceError(f"{path} does not exist", hint="Nothing was written. Check the path.")


def _unreadable(path: Path, error: OSError) -> SourceError:
    mend = "Mend its permissions and those of its folders, or run as its owner."
    if causes.is_limit(error):
        mend = f"{causes.way_out(error)}; then run again."
    return SourceError(
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
        hint=f"Nothing was written. {mend}",
    )


def _other_file(why: str) -> str:
    return f"{why} Nothing was written. Check the path of this source."


def _parse_header(path: Path, head: bytes, *, size: int) -> Header:
    if not head:
        raise SourceError(f"{path} is empty", hint=_other_file("A zero-length file holds no database."))
    if not head.startswith(HEADER[: len(head)]):
        raise SourceError(
            f"{path} is not a SQLite database (or it is encrypted)",
            hint="Its first bytes are not SQLite's. Nothing was written. Check the path; an encrypted file "
            "must be decrypted first, with the tool that encrypted it.",
        )
    if len(head) < HEADER_BYTES:
        raise _truncated(path, f"it has {size:,} bytes, which is less than a header")
    pages = int.from_bytes(head[16:18], "big")
    header = Header(
        page_size=65536 if pages == 1 else pages,
        journal_mode="wal" if _WAL_VERSION in (head[18], head[19]) else "delete",
        # Only where both counters agree was the count written by a SQLite that keeps it.
        page_count=int.from_bytes(head[28:32], "big") if head[24:28] == head[92:96] else 0,
        encoding=_ENCODINGS.get(int.from_bytes(head[56:60], "big"), "UTF-8"),
    )
    expected = header.page_size * header.page_count
    # A commit that is under way, or was cut off, has a sidecar beside the shorter file.
    if size < expected and not any(map(files.size_of, files.sidecars(path))):
        raise _truncated(path, f"its header says {expected:,} bytes, there are {size:,}")
    return header


def _truncated(path: Path, why: str) -> SourceError:
    return SourceError(
        f"{path} is truncated: {why}",
        hint="Nothing was written. Copy the file again from where it came from; "
        "`sqlite3 FILE '.recover'` may save what is left of it.",
    )


def _header_by_connection(path: Path) -> Header:
    with sqlite.closing(sqlite.connect_read_only(path)) as conn:
        return Header(
            page_size=int(sqlite.pragma(conn, "page_size")),
            journal_mode="wal" if sqlite.pragma(conn, "journal_mode") == "wal" else "delete",
            page_count=int(sqlite.pragma(conn, "page_count")),
            encoding=sqlite.pragma(conn, "encoding"),
        )


def is_open_here(path: Path) -> bool:
    """True where this process has *path* open, through SQLite or by hand."""
    return descriptors.has_open(identity(path))


@contextlib.contextmanager
def pinned(path: Path) -> Iterator[Identity]:
    """The identity of *path*, which no other file can get for the length of the block.

    A file system gives the inode of a removed file to the next one. What keeps it here is a
    descriptor that reads nothing, and whose end drops no lock (O_PATH); where there is no such
    thing, the identity is told and not kept.

    Raises:
        SourceError: As :func:`read_header`.
    """
    if not descriptors.O_PATH:
        yield identity(path)
        return
    _require_regular(path)
    try:
        descriptor = os.open(path, descriptors.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        yield status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


def identity(path: Path) -> Identity:
    """Device and inode of *path*, links followed.

    Raises:
        MissingSourceError: It is not there.
    """
    status = _require_regular(path)
    return status.st_dev, status.st_ino


def require_identity(path: Path, wanted: Identity) -> None:
    """Return where *path* leads to the file *wanted*.

    Raises:
        SourceChangedError: Another file is there now, or none. Transient.
    """
    try:
        found: Identity | None = identity(path)
    except SourceError:
        found = None
    if found != wanted:
        now = "another file" if found else "no file"
        raise SourceChangedError(
            f"{path} was replaced while it was being read: {now} is there now",
            hint="Nothing was written. Find out what puts files there, and run again.",
        )


def same_file(one: Path, other: Path) -> bool:
    """True where both names lead to one file, also through links."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def fingerprint(path: Path) -> Fingerprint:
    """Inode, size and times of *path* and its sidecars: differs when somebody opened or wrote it.

    Good for noticing a change during a short copy; no proof that content is unchanged.
    """
    statuses = [(path.name, path.stat())]
    for beside in files.sidecars(path):
        with contextlib.suppress(FileNotFoundError):
            statuses.append((beside.name, beside.stat()))
    return tuple((n, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in statuses)


@contextlib.contextmanager
def hold(path: Path, *, timeout_s: float = 5.0, in_use: bool = False) -> Iterator[Held]:
    """*path* as it is found; a still one is locked for the block, so that its next user waits.

    No connection of this process on *path* may be opened by hand afterwards where it is live; the
    caller asks :meth:`Held.require_in_place` once it has read all.

    Args:
        path: The file.
        timeout_s: Seconds to wait for a writer.
        in_use: Take it for live though nobody has it open: somebody opens it again and again. SQLite
            makes its sidecars then, if they are not there, which stay for that user.

    Raises:
        SourceBusyError: A writer held it for *timeout_s*. Transient.
        SourceError: As :func:`read_header`.
    """
    path = path.resolve()
    with pinned(path) as found:
        header = read_header(path)
        require_own_sidecars(path, found)
        if is_open_here(path):
            yield Held(path, True, found, header)
            return
        in_use = in_use and header.wal and _makes_users_sidecars(path)
        with _held_by_hand(path, header, found, timeout_s=timeout_s, in_use=in_use) as held:
            yield held


@contextlib.contextmanager
def _held_by_hand(
    path: Path, header: Header, found: Identity, *, timeout_s: float, in_use: bool
) -> Iterator[Held]:
    descriptor = _open_to_read(path)
    try:
        if in_use or _is_live(path, header, descriptor):
            os.close(descriptor)
            descriptor = -1
            yield Held(path, True, found, header)
            return
        _lock_shared(path, descriptor, timeout_s=timeout_s)
        left = tuple(p for p in files.sidecars(path) if not p.name.endswith("-shm") and files.size_of(p))
        yield Held(path, False, found, header, left, fingerprint(path), descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open_to_read(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error


def require_own_sidecars(path: Path, found: Identity) -> None:
    """Return unless *path*, which is *found*, is used by another name in its folder, with sidecars there.

    Raises:
        SourceError: It is.
    """
    if path.stat().st_nlink < 2:
        return
    for other in path.parent.iterdir():
        try:
            status = other.lstat()
        except FileNotFoundError:
            # Gone since the folder was listed.
            continue
        if other.name == path.name or (status.st_dev, status.st_ino) != found:
            continue
        if any(map(files.size_of, files.sidecars(other))):
            raise SourceError(
                f"{path} is in use by its other name {other.name}, where its WAL or journal lies",
                hint=f"Nothing was written. Name {other} instead.",
            )


def _is_live(path: Path, header: Header, descriptor: int) -> bool:
    if header.wal or files.size_of(files.sidecar(path, "-wal")):
        return _has_users(path)
    journal = files.sidecar(path, "-journal")
    # With RESERVED held the journal is a writer's at work; without, a crash left it (it is hot).
    found = _transaction(journal)
    if found is None or descriptors.is_locked(descriptor, descriptors.RESERVED):
        return True
    # A writer that ended between the two looks has taken its journal along.
    return _transaction(journal) != found


def _makes_users_sidecars(path: Path) -> bool:
    """True where sidecars that SQLite makes here are as those that a user of *path* makes."""
    ours = os.geteuid() in (0, path.stat().st_uid)
    return ours and os.access(path.parent, os.W_OK | os.X_OK)


def _has_users(path: Path) -> bool:
    """True where a process has the WAL database *path* open; each one holds a lock in its `-shm`."""
    shm = files.sidecar(path, "-shm")
    try:
        descriptor = os.open(shm, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return descriptors.is_locked(descriptor, descriptors.SHM_IN_USE)
    finally:
        os.close(descriptor)


def _transaction(journal: Path) -> tuple[int, bytes] | None:
    """Which transaction's *journal* it is, by inode and nonce; None where there is nothing to roll back."""
    with contextlib.suppress(FileNotFoundError), journal.open("rb") as stream:
        header = stream.read(_JOURNAL_NONCE.stop)
        # journal_mode=PERSIST leaves a file whose header is zeroed, which SQLite takes for none.
        if header and header[0]:
            return os.fstat(stream.fileno()).st_ino, header[_JOURNAL_NONCE]
    return None


def _lock_shared(path: Path, descriptor: int, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not descriptors.take_shared(descriptor):
        if time.monotonic() > deadline:
            raise SourceBusyError(
                f"{path} was locked by another process for {timeout_s:.1f} s",
                hint="Nothing was written. Run again when it has finished.",
            )
        time.sleep(_POLL_S)


@contextlib.contextmanager
def reading(
    path: Path, *, timeout_s: float = 5.0, scratch: Path | None = None, in_use: bool = False
) -> Iterator[sqlite3.Connection]:
    """A connection that sees all committed rows of *path*, WAL included, and leaves no trace.

    Args:
        path: A database, in use or not.
        timeout_s: Seconds to wait for a writer.
        scratch: Folder for a copy of a file that a crash left with a WAL or a hot journal; that
            for temporary files without it.
        in_use: As :func:`hold` takes it.

    Raises:
        SourceError: *path* is no usable database.
        SourceBusyError: A writer held it for *timeout_s*. Transient.
    """
    with hold(path, timeout_s=timeout_s, in_use=in_use) as held, contextlib.ExitStack() as stack:
        if held.live:
            conn = sqlite.connect_read_only(held.path, timeout_s=timeout_s)
        elif not held.leftovers:
            conn = sqlite.connect_frozen(held.path)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="unify-db-", dir=scratch))
            copied = copy_still(held, Path(folder) / "copy")
            with _told_of(held):
                conn = sqlite.connect_frozen(copied)
        with sqlite.closing(conn):
            yield conn
        held.require_in_place()


def look_at(
    path: Path,
    look: Callable[[sqlite3.Connection], _T],
    *,
    timeout_s: float = 5.0,
    scratch: Path | None = None,
) -> _T:
    """What *look* returns for a connection as :func:`reading` gives it, whoever opens *path* meanwhile.

    An application that opens its files for each request does. *look* is called anew then.
    """
    try:
        with reading(path, timeout_s=timeout_s, scratch=scratch) as conn:
            return look(conn)
    except SourceOpenedError:
        with reading(path, timeout_s=timeout_s, scratch=scratch, in_use=True) as conn:
            return look(conn)


def copy_still(held: Held, into: Path, told: Callable[[int], None] | None = None) -> Path:
    """Copy a still source to *into* with all that its sidecars hold; the caller makes it durable.

    *told* is given the number of bytes after every chunk. Returns *into*.

    SQLite does to the copy what it would have done to the source: it rolls a hot journal back, or
    brings the WAL into the file. What it must not do to a source, it may do to a copy.

    Raises:
        SourceChangedError: The source was opened or written meanwhile. Transient.
        SourceError: There is no space for the copy, or it is no usable database.
    """
    require_space({into.parent: sum(p.stat().st_size for p in (held.path, *held.leftovers))})
    # One file per suffix: a name of SQLite's own making, whatever the source is called.
    for file in (held.path, *held.leftovers):
        suffix = file.name.removeprefix(held.path.name)
        files.copy_content(file, files.sidecar(into, suffix), told)
    held.require_in_place()
    if held.leftovers:
        with _told_of(held), sqlite.closing(sqlite.connect_writable(into)) as conn:
            sqlite.empty_wal(conn, into)
        for leftover in files.sidecars(into):
            leftover.unlink()
    return into


@contextlib.contextmanager
def _told_of(held: Held) -> Iterator[None]:
    """Name the source and what lies beside it where its copy makes no sense to SQLite in the block."""
    try:
        yield
    except SourceError as error:
        said = error.__cause__
        if not isinstance(said, sqlite3.DatabaseError) or isinstance(said, sqlite3.OperationalError):
            raise
        beside = " and ".join(p.name for p in held.leftovers)
        raise SourceError(
            f"{held.path} cannot be read together with {beside}: {said}",
            hint=f"Nothing was touched. {beside} may be another database's, or of another time, such as "
            "where one of the two was copied alone; if so, put back the one that belongs there.",
        ) from error


def require_space(needs: dict[Path, int]) -> None:
    """Return where each file system has room for the sum of what is needed in its folders.

    Raises:
        SourceError: Names the folder, the bytes that are needed and those that are free.
    """
    by_device: dict[int, tuple[Path, int]] = {}
    for folder, needed in needs.items():
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        known, total = by_device.get(existing.stat().st_dev, (existing, 0))
        by_device[existing.stat().st_dev] = (known, total + needed)
    for folder, needed in by_device.values():
        free = files.free_bytes(folder)
        if free < needed:
            raise SourceError(
                f"not enough space at {folder}: {needed:,} bytes are needed, {free:,} are free",
                hint="Nothing was written. Make room there, or name another file system: --into, --backups, "
                "TMPDIR.",
            )


def refuse_os_error(error: OSError) -> SourceError:
    """What the system refused to a path that we read or write, as one of our errors."""
    where = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    if causes.is_full_disk(error):
        return SourceError(
            f"the disk is full: {where}{reason}", hint="Nothing was switched. Make room and run again."
        )
    if causes.is_limit(error):
        return SourceError(
            f"{where}{reason}", hint=f"Nothing was written. {causes.way_out(error)}; then run again."
        )
    return SourceError(f"{where}{reason}", hint="Nothing was written. Mend that path, or name another one.")


def total_bytes(paths: Sequence[Path]) -> int:
    """Bytes of all *paths* with their sidecars."""
    return sum(files.size_of(p) for path in paths for p in (path, *files.sidecars(path)))
