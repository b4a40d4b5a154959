"""What `files.py` calls durable is there after a power cut; until then a file is the old or the new one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.migration import power_cuts
from tests.migration.power_cuts import WORLDS, Cut, Disk
from unified_db import files

MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(
    not os.access(MEMORY, os.W_OK), reason="needs a file system that gives no inode twice"
)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with `one/a` and `two/b`, and nothing in `three`."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    for name in ("one", "two", "three"):
        (folder / name).mkdir()
    (folder / "one" / "a").write_bytes(b"old a")
    (folder / "two" / "b").write_bytes(b"old b")
    yield folder
    shutil.rmtree(folder)


def cuts(root: Path, work: Callable[[], object]) -> tuple[list[Cut], list[Cut]]:
    """What a power cut may leave while *work* is done, and once it is called done."""
    disk = Disk(root)
    disk.sync_all()
    found = list(power_cuts.record(root, work, disk))
    return found[: -len(WORLDS)], found[-len(WORLDS) :]


def texts(cut: Cut) -> dict[str, bytes]:
    return {name: content for name, (_, content) in cut.tree.items() if content is not None}


A, B = b"old a", b"old b"


@pytest.mark.parametrize(
    ("work", "then"),
    [
        pytest.param(
            lambda r: files.write_durably(r / "one" / "a", b"new"),
            {"one/a": b"new", "two/b": B},
            id="a-replaced-file",
        ),
        pytest.param(
            lambda r: files.write_durably(r / "three" / "c", b"new"),
            {"one/a": A, "two/b": B, "three/c": b"new"},
            id="a-new-file",
        ),
        pytest.param(
            lambda r: files.copy_durably(r / "one" / "a", r / "three" / "c"),
            {"one/a": A, "two/b": B, "three/c": A},
            id="a-copy",
        ),
        pytest.param(
            lambda r: files.link_durably(r / "one" / "a", r / "three" / "c"),
            {"one/a": A, "two/b": B, "three/c": A},
            id="a-second-name",
        ),
        pytest.param(
            lambda r: files.move_durably(r / "one" / "a", r / "three" / "c"),
            {"two/b": B, "three/c": A},
            id="a-move-into-another-folder",
        ),
        pytest.param(
            lambda r: files.move_durably(r / "one" / "a", r / "two" / "b"),
            {"two/b": A},
            id="a-move-over-another-file",
        ),
        pytest.param(lambda r: files.remove_durably(r / "one" / "a"), {"two/b": B}, id="a-removal"),
        pytest.param(
            lambda r: [
                files.make_folder(r / "four" / "five"),
                files.write_durably(r / "four" / "five" / "c", b"new"),
            ],
            {"one/a": A, "two/b": B, "four/five/c": b"new"},
            id="a-file-in-new-folders",
        ),
    ],
)
def test_what_is_called_done_is_there_and_before_that_every_file_is_the_old_or_the_new_one(
    root: Path, work: Callable[[Path], object], then: dict[str, bytes]
) -> None:
    before = {"one/a": A, "two/b": B}
    meanwhile, done = cuts(root, lambda: work(root))
    assert [texts(cut) for cut in done] == [then] * len(WORLDS)
    for cut in meanwhile:
        found = {n: c for n, c in texts(cut).items() if not n.endswith(".partial")}
        assert all(c in (before.get(n), then.get(n)) for n, c in found.items()), cut
        # Nothing that stays somewhere is nowhere in between.
        assert {c for c in before.values() if c in then.values()} <= set(found.values()), cut


def test_a_move_to_another_file_system_leaves_the_old_file_until_the_new_one_lasts(
    root: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a"
    source.write_bytes(A)
    if source.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is only one file system here")
    disk = Disk(root)
    disk.sync_all()
    for cut in power_cuts.record(root, lambda: files.move_durably(source, root / "three" / "c"), disk):
        assert source.exists() or texts(cut)["three/c"] == A, cut
    assert not source.exists()


def test_the_model_forgets_what_was_not_synced(root: Path) -> None:
    """A test of the others: they would notice a rename of unsynced bytes, and a name without its folder."""

    def rename_unsynced() -> None:
        (root / "three" / "c").write_bytes(b"new")
        (root / "three" / "c").replace(root / "one" / "a")

    _, done = cuts(root, rename_unsynced)
    assert [texts(cut).get("one/a") for cut in done] == [A, b"", A, b"n"]

    def sync_the_bytes_alone() -> None:
        (root / "three" / "d").write_bytes(b"new")
        files.fsync_file(root / "three" / "d")

    _, done = cuts(root, sync_the_bytes_alone)
    assert [texts(cut).get("three/d") for cut in done] == [None, b"new", None, b"new"]
