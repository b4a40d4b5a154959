"""Files on disk: digests, durable replacement, SQLite's sidecars.

Everything that must survive a crash is written here, so that one module decides
what "written" means: bytes fsynced, name in place, folder fsynced.
Nothing here knows SQLite's format beyond the names of its sidecar files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from unified_db import pieces
from unified_db.writeback import Writeback, write_out

SIDECAR_SUFFIXES = ("-wal", "-shm", "-journal")
Stamp = tuple[int, int, int, int, int]

_CHUNK_BYTES = 8 << 20
# What fits into a core's own cache is hashed while it is warm there.
_READ_BYTES = 256 << 10
# How soon a thread that waits for another sees that both are given up.
_LOOK_S = 0.2
# A command that a killed process was just starting has its locks until the command's program begins.
INHERITED_LOCK_S = 5.0
# How often a lock is tried.
_TRY_S = 0.01
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial(-wal|-shm|-journal)?$")


def digest_file(path: Path, told: Callable[[int], None] | None = None) -> str:
    """The file's SHA-256 in hexadecimal. Reads the file once; *told* is given bytes as they are read."""
    digest, chunk = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(chunk):
            digest.update(chunk[:size])
            if told is not None:
                told(size)
            pieces.look()
    return digest.hexdigest()


class DigestBehind:
    """The SHA-256 of a file that is written from its start to its end, taken right behind its writer.

    One thread writes and says how far it is, another one reads what is in memory still.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stream: io.FileIO | None = None
        self._final_bytes = 0
        self._ended = False

    def told(self, path: Path, told: Callable[[int], None] | None) -> Callable[[int], None]:
        """What the writer of *path* calls for every chunk that stays as it is; it tells *told*, too."""

        def reach(size_bytes: int) -> None:
            with self._changed:
                # Not by who reads it: the file may have got its name by then.
                self._stream = self._stream or path.open("rb", buffering=0)
                self._final_bytes += size_bytes
                self._changed.notify()
            if told is not None:
                told(size_bytes)

        return reach

    def end(self) -> None:
        """The writer's word that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self) -> str | None:
        """The digest in hexadecimal, once the writer has ended; None where it was told of no chunk."""
        digest, chunk, done_bytes = hashlib.sha256(), memoryview(bytearray(_READ_BYTES)), 0
        try:
            while (final_bytes := self._wait_for(done_bytes)) is not None:
                assert self._stream is not None, "told of a chunk before the file was there"
                size = self._stream.readinto(chunk[: min(final_bytes - done_bytes, len(chunk))])
                if not size:
                    raise EOFError(f"{self._stream.name} is shorter than its writer said")
                digest.update(chunk[:size])
                done_bytes += size
                pieces.look()
        finally:
            if self._stream is not None:
                self._stream.close()
        return digest.hexdigest() if done_bytes else None

    def _wait_for(self, done_bytes: int) -> int | None:
        """How much is final, once that is more than *done_bytes*; None where nothing more comes."""
        with self._changed:
            while self._final_bytes <= done_bytes:
                if self._ended:
                    return None
                self._changed.wait(_LOOK_S)
                pieces.look()
            return self._final_bytes


def stamp(path: Path) -> Stamp:
    """What changes whenever somebody writes to *path* or puts another file there."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest_bytes(content: bytes) -> str:
    """The SHA-256 of *content* in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sidecars(database: Path) -> list[Path]:
    """The sidecar files of *database* that exist now, in the order -wal, -shm, -journal."""
    return [p for p in (sidecar(database, suffix) for suffix in SIDECAR_SUFFIXES) if p.exists()]


def family(database: Path) -> list[Path]:
    """*database* and all the sidecars that it may have, there or not."""
    return [database, *(sidecar(database, suffix) for suffix in SIDECAR_SUFFIXES)]


def sidecar(database: Path, suffix: str) -> Path:
    """Where SQLite keeps the sidecar with *suffix* of *database*."""
    return database.with_name(database.name + suffix)


def fsync_file(path: Path) -> None:
    """Return when the content of *path* is on the disk, where it goes a little at a time; see `writeback`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        write_out(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Return when the names in *folder* are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace *path* by *content*, whole or not at all.

    A reader sees the old content or the new one, also after a power cut: the bytes are
    fsynced under another name, renamed over *path*, and the folder is fsynced.

    Args:
        path: May exist or not; links are followed, so a linked file stays a link.
        content: The new bytes.
        mode: Permission bits; without it those of the file that is replaced, else 0o644.
    """
    target = path.resolve()
    status = target.stat() if target.exists() else None
    if mode is None:
        mode = status.st_mode & 0o7777 if status else 0o644
    with partial_file(target) as partial:
        _write_new(partial, content, mode=mode, owner=status)


def replace_keeping(path: Path, kept: Path, content: bytes, *, mode: int) -> None:
    """Put *content* in the place of the file at *path*, which goes on at *kept*, on the same file system.

    At no moment is there nothing at *path*: whoever opened it then would make a new file, and lose it.
    A crash may leave the old file under both names. Where a file system has no links, there is such a moment.
    """
    with partial_file(path) as partial:
        _write_new(partial, content, mode=mode, owner=None)
        try:
            kept.hardlink_to(path)
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            path.replace(kept)
        fsync_folder(kept.parent)


_WITHOUT_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def _write_new(path: Path, content: bytes, *, mode: int, owner: os.stat_result | None) -> None:
    """Make *path* of *content*, durably, with the owner of the file that has the status *owner*."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), mode)
        if owner is not None:
            _keep_owner(stream.fileno(), owner)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """A name beside *target* to build it under; renamed into place when the block succeeds.

    The caller fsyncs what it wrote; the rename and the folder are taken care of here.
    When the block raises, the partial file and its sidecars are gone.
    """
    partial = _partial_name(target)
    try:
        yield partial
        partial.replace(target)
        fsync_folder(target.parent)
    except BaseException:
        for leftover in (partial, *sidecars(partial)):
            leftover.unlink(missing_ok=True)
        raise


def _partial_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")


@contextlib.contextmanager
def scratch_file(beside: Path) -> Iterator[Path]:
    """A name for a database that is gone, with its sidecars, when the block ends, whichever way.

    It is one that :func:`partials` knows, so what a kill leaves is found like any partial file.
    """
    scratch = _partial_name(beside)
    try:
        yield scratch
    finally:
        for leftover in (scratch, *sidecars(scratch)):
            leftover.unlink(missing_ok=True)


def partials(folder: Path) -> dict[Path, Path]:
    """What :func:`partial_file` left in *folder* when its process was killed, each with its target."""
    found = ((path, _PARTIAL.search(path.name)) for path in folder.iterdir())
    return {p: p.with_name(p.name[1 : m.start()]) for p, m in found if m and p.name.startswith(".")}


def remove_partials(*targets: Path) -> None:
    """Remove what :func:`partial_file` left for *targets*; nobody else may be making one at this moment."""
    places = {target.resolve() for target in targets}
    for folder in filter(Path.is_dir, {p.parent for p in places}):
        for path, target in partials(folder).items():
            if target in places:
                path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes in *path*; 0 for one that is not there or goes at this moment."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Have *folder* be there, also after a power cut, with those above it; no matter if it was."""
    missing = [p for p in folder.parents if not p.exists()]
    for each in (*reversed(missing), folder):
        each.mkdir(mode=mode, exist_ok=True)
        # Also of one that was there: who made it may have been killed before this.
        fsync_folder(each.parent)


def take_lock(descriptor: int, *, patience_s: float = 0.0) -> bool:
    """Whether the lock of an open file was had for this process alone, tried for *patience_s* seconds."""
    given_up_at = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= given_up_at:
            return False
        time.sleep(_TRY_S)


@contextlib.contextmanager
def without_leftovers(folder: Path, beginning: str) -> Iterator[None]:
    """*folder* for the block, cleared of what :func:`partial_file` left when its process was killed.

    Partial files of names that begin with *beginning* are removed, unless somebody else is inside
    such a block for this folder and may be making one.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if take_lock(descriptor):
            for path in folder.iterdir():
                if path.name.startswith(f".{beginning}") and _PARTIAL.search(path.name):
                    path.unlink(missing_ok=True)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def link_durably(source: Path, target: Path) -> None:
    """Give a file a second name on its own file system, or a durable copy where it has no links."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        copy_durably(source, target)
    fsync_folder(target.parent)


def copy_content(
    source: Path, target: Path, told: Callable[[int], None] | None = None, *, made: bool = False
) -> None:
    """Copy the bytes of *source*, which nobody writes, into the new file *target*; not made durable.

    Stays inside the system's own memory, so it costs a third of reading and writing.

    Args:
        source: Any regular file.
        target: Must not exist, unless it was *made* for this; what comes behind may be there already.
        told: Is given the number of bytes after every chunk.
        made: Whether it was.
    """
    with source.open("rb") as reader:
        copy_open(reader.fileno(), target, os.fstat(reader.fileno()).st_size, told, made=made)


def copy_open(
    reader: int,
    target: Path,
    size_bytes: int,
    told: Callable[[int], None] | None = None,
    *,
    made: bool = False,
) -> None:
    """As :func:`copy_content`, for the first *size_bytes* of what the descriptor *reader* has open."""
    os.lseek(reader, 0, os.SEEK_SET)
    left = size_bytes
    with target.open("r+b" if made else "xb") as writer, Writeback(writer.fileno()) as writeback:
        while left:
            copied = _copy_chunk(reader, writer.fileno(), min(left, _CHUNK_BYTES))
            if not copied:
                break
            left -= copied
            writeback.add(copied)
            if told is not None:
                told(copied)
            pieces.look()


def _copy_chunk(reader: int, writer: int, size_bytes: int) -> int:
    try:
        return os.copy_file_range(reader, writer, size_bytes)
    except OSError as error:
        # Two file systems of which one knows nothing of it.
        if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
        return os.sendfile(writer, reader, None, size_bytes)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file that nobody writes, with mode and times; whole or not at all at *target*."""
    with partial_file(target) as partial:
        shutil.copy2(source, partial)
        with contextlib.suppress(PermissionError):
            os.chown(partial, source.stat().st_uid, source.stat().st_gid)
        fsync_file(partial)


def move_durably(source: Path, target: Path) -> None:
    """Move a file so that after a crash it stands under one name or the other, never under none.

    On one file system this is a rename; across two it is a durable copy, then a removal.
    """
    if source.stat().st_dev == target.parent.stat().st_dev:
        source.replace(target)
        fsync_folder(target.parent)
    else:
        copy_durably(source, target)
        source.unlink()
    if source.parent != target.parent:
        fsync_folder(source.parent)


def take_mode_and_owner(path: Path, like: Path, *, special_bits: bool) -> None:
    """Give *path* the permission bits of *like* and, where we may, its owner; the caller makes it durable.

    Args:
        path: A file of ours.
        like: The file that it stands for.
        special_bits: True for a file that takes the place of *like* (set-uid, set-gid and sticky bits stay
            as its owner has set them), False for a copy that lies elsewhere.
    """
    status = like.stat()
    # Only root may give a file away; anybody else keeps being its owner anyway.
    with contextlib.suppress(PermissionError):
        os.chown(path, status.st_uid, status.st_gid)
    # After the owner, whose change takes set-uid and set-gid away.
    path.chmod(status.st_mode & (0o7777 if special_bits else 0o777))


def remove_durably(path: Path) -> None:
    """Remove *path* if it is there and make that last."""
    if path.exists() or path.is_symlink():
        path.unlink()
        fsync_folder(path.parent)


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user can still write on the file system of *folder*."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(existing).free


def _keep_owner(descriptor: int, status: os.stat_result) -> None:
    # Only root may give a file away; anybody else keeps being its owner anyway.
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, status.st_gid)
