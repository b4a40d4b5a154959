"""What is written is written out all along; how little then waits is a benchmark's business."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from unified_db import files


def test_a_copy_begins_to_write_out_every_byte_once_and_waits_for_all_but_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, int]] = []
    real = files._sync_range

    def sync_range(descriptor: int, offset: int, size_bytes: int, flags: int) -> None:
        if size_bytes:
            calls.append(("wait" if flags & files._WAIT_AFTER else "begin", offset, size_bytes))
        real(descriptor, offset, size_bytes, flags)

    monkeypatch.setattr(files, "_sync_range", sync_range)
    monkeypatch.setattr(files, "_CHUNK_BYTES", 1000)
    source = tmp_path / "source"
    source.write_bytes(bytes(range(250)) * 11)
    files.copy_content(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert [call[1:] for call in calls if call[0] == "begin"] == [(0, 1000), (1000, 1000), (2000, 750)]
    assert [call[1:] for call in calls if call[0] == "wait"] == [(0, 1000), (1000, 1000)]


def test_a_file_that_grows_by_itself_is_written_out_from_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(files, "_sync_range", lambda _fd, offset, size, _flags: begun.append((offset, size)))
    monkeypatch.setattr(files, "_CHUNK_BYTES", 1000)
    writeback = files.Writeback(0, done_bytes=5000)
    for size_bytes in (5000, 5999, 6000, 6100, 7500):
        writeback.reach(size_bytes)
    assert [found for found in begun if found[1]] == [(5000, 1000), (6000, 1500), (5000, 1000)]


@pytest.mark.parametrize(("special_bits", "mode"), [(True, 0o2650), (False, 0o650)], ids=["in-place", "copy"])
def test_a_file_takes_mode_and_owner_and_what_is_special_only_where_it_is_asked_for(
    special_bits: bool, mode: int, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        path.touch()
    if os.geteuid() == 0:
        os.chown(old, 12345, os.getegid())
    old.chmod(0o2650)
    files.take_mode_and_owner(new, old, special_bits=special_bits)
    after = new.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid) == (mode, old.stat().st_uid)
