"""What is written is written out all along, a little at a time, and what the disk refuses is told."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unified_db import files, pieces, writeback
from unified_db.writeback import Writeback


class Disk:
    """What is asked of it, in bytes from and to; what it is to take at once, it may keep waiting."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.waited: list[tuple[int, int]] = []
        self.ready = threading.Event()
        self.ready.set()
        self.bad_at: int | None = None

    def sync_range(self, _descriptor: int, offset: int, size_bytes: int, flags: int) -> None:
        if size_bytes and flags & writeback._WAIT_AFTER:
            self.ready.wait()
            if offset == self.bad_at:
                raise OSError(errno.EIO, "Input/output error")
        if size_bytes:
            (self.waited if flags & writeback._WAIT_AFTER else self.begun).append(
                (offset, offset + size_bytes)
            )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(writeback, "_sync_range", disk.sync_range)
    monkeypatch.setattr(writeback, "_SLICE_BYTES", 1000)
    monkeypatch.setattr(writeback, "_MOST_AHEAD_BYTES", 4000)
    yield disk
    disk.ready.set()


def _until(found: Callable[[], bool]) -> None:
    for _ in range(1000):
        if found():
            return
        time.sleep(0.01)
    raise AssertionError


def test_a_file_that_grows_is_written_out_behind_its_writer_from_where_it_was(disk: Disk) -> None:
    with Writeback(0, done_bytes=5000) as behind:
        for size_bytes in (5000, 5999, 6000, 6100, 8500, 8000):
            behind.reach(size_bytes)
        _until(lambda: len(disk.begun) == 3)
        behind.add(500)
        _until(lambda: len(disk.begun) == 4)
    assert disk.begun == [(5000, 6000), (6000, 7000), (7000, 8000), (8000, 9000)]
    # Two at a time are on their way.
    assert disk.waited == [(5000, 6000), (6000, 7000), (7000, 8000)]


def test_a_writer_waits_for_the_disk_where_it_is_too_far_ahead(disk: Disk) -> None:
    disk.ready.clear()
    told: list[int] = []

    def write() -> None:
        with Writeback(0) as behind:
            for _ in range(9):
                behind.add(1000)
                told.append(1000)

    writer = threading.Thread(target=write)
    writer.start()
    _until(lambda: sum(told) == 4000)
    time.sleep(0.05)
    assert sum(told) == 4000
    disk.ready.set()
    writer.join()
    assert sum(told) == 9000


def test_a_writer_that_waits_for_the_disk_can_be_given_up(disk: Disk) -> None:
    disk.ready.clear()

    def write() -> None:
        with Writeback(0) as behind:
            try:
                behind.add(5000)
            finally:
                disk.ready.set()

    def fail() -> None:
        _until(lambda: bool(disk.begun))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pieces.do_together([write, fail], threads=2)


@pytest.mark.parametrize("steps", [[9000], [1000] * 9, [3000]], ids=["too-far", "later", "at-the-end"])
def test_what_the_disk_did_not_take_is_not_passed_over(disk: Disk, steps: list[int]) -> None:
    disk.bad_at = 1000

    def write() -> None:
        with Writeback(0) as behind:
            for size_bytes in steps:
                behind.add(size_bytes)
            _until(lambda: disk.waited == [(0, 1000)] and len(disk.begun) == 3)

    with pytest.raises(OSError, match="Input/output error"):
        write()


def test_what_the_disk_did_not_take_is_not_durable(disk: Disk, tmp_path: Path) -> None:
    disk.bad_at = 1000
    (tmp_path / "file").write_bytes(bytes(4000))
    with pytest.raises(OSError, match="Input/output error"):
        files.fsync_file(tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the call")
@pytest.mark.parametrize(("number", "told"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
def test_an_error_of_the_system_is_told_where_an_fsync_would_not(
    number: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Libc:
        def sync_file_range(self, *_: object) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(writeback, "_LIBC", Libc())
    with pytest.raises(OSError, match=os.strerror(number)) if told else contextlib.nullcontext():
        writeback._sync_range(0, 0, 1, writeback._WRITE)


@pytest.mark.parametrize("size_bytes", [0, 999, 1000, 2750])
def test_what_is_to_be_durable_goes_to_the_disk_a_little_at_a_time(
    disk: Disk, size_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_before: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: begun_before.append(len(disk.begun)))
    (tmp_path / "file").write_bytes(bytes(size_bytes))
    files.fsync_file(tmp_path / "file")
    slices = [(at, at + 1000) for at in range(0, size_bytes - 1000, 1000)]
    assert disk.begun == slices
    assert disk.waited == slices[:-1]
    assert begun_before == [len(slices)]


def test_a_copy_is_written_out_while_it_is_made(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(range(250)) * 11)
    files.copy_content(tmp_path / "source", tmp_path / "copy", lambda _: _until(lambda: len(disk.begun) == 2))
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()
    assert disk.begun == [(0, 1000), (1000, 2000)]
