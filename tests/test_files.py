"""What is written may be hashed on the way."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from unified_db import files, pieces


@pytest.mark.parametrize("chunks", [[1], [7, 300_000, 1], [1 << 20] * 3])
def test_a_digest_taken_behind_the_writer_is_that_of_what_was_written(
    tmp_path: Path, chunks: list[int]
) -> None:
    written, told = bytearray(), list[int]()
    behind = files.DigestBehind()
    with pieces.crew(1) as hands, (tmp_path / "file").open("wb", buffering=0) as stream:
        taken = hands.start(behind.take)
        reach = behind.told(tmp_path / "file", told.append)
        for size in chunks:
            # What lies behind is not final yet.
            stream.write(b"x" * (size + 50))
            time.sleep(0.002)
            chunk = os.urandom(size)
            stream.seek(len(written))
            stream.write(chunk)
            written += chunk
            reach(size)
        stream.truncate(len(written))
        # Its reader has it by now, whatever it is called.
        (tmp_path / "file").rename(tmp_path / "other")
        behind.end()
    assert taken.result() == hashlib.sha256(written).hexdigest()
    assert told == chunks


def test_of_a_writer_that_tells_nothing_there_is_no_digest() -> None:
    behind = files.DigestBehind()
    behind.end()
    assert behind.take() is None


def test_a_writer_that_says_more_than_it_wrote_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some")
    behind = files.DigestBehind()
    behind.told(tmp_path / "file", None)(5)
    behind.end()
    with pytest.raises(EOFError):
        behind.take()


def test_who_waits_for_a_writer_that_failed_is_given_up_with_it() -> None:
    behind = files.DigestBehind()
    with pytest.raises(ZeroDivisionError):
        pieces.do_together([behind.take, lambda: 1 // 0])


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
