"""Killed anywhere in a cut-over or a rollback, or without power: wholly old or new, and no row is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.driving import MEMORY, Found, cut_power, kill, kill_recovery


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a thing: a kill loses nothing that a disk would have kept."""
    place = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("what", ["cutover", "rollback"])
def test_a_kill_at_any_point_is_put_right_by_one_resume_and_by_one_rollback(what: str, folder: Path) -> None:
    found = kill(what, folder)
    points = {way: {e["point"] for e in found.ways_out if e["way"] == way} for way in ("resume", "rollback")}
    print(f"\n{what}: {_counts(found)}")
    assert len(points["resume"] | points["rollback"]) == found.points
    assert len(points["resume"] & points["rollback"]) >= 60
    assert found.failures == []


def test_a_recovery_that_is_killed_too_is_put_right_by_the_next_command(folder: Path) -> None:
    """A sample, a few seconds long; `make crash-matrix` kills everywhere."""
    found = kill_recovery("sample", folder)
    print(f"\nrecovery: {_counts(found)}")
    begun = {line["first"] for line in found.told if "operations" in line}
    assert {line["first"] for line in found.ways_out} == begun
    assert len(begun) >= 8
    assert found.points >= 16
    assert {line["way"].partition(",")[0] for line in found.ways_out} == {"resume", "rollback"}
    assert found.failures == []


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="needs a file system that gives no inode twice")
def test_nothing_is_called_done_before_a_power_cut_leaves_it(folder: Path) -> None:
    found = cut_power(folder)
    print(f"\npower: {_counts(found)}")
    assert {line["work"] for line in found.ways_out} == {"prepared", "switched", "rolled-back"}
    assert found.points >= 150
    assert found.failures == []


def _counts(found: Found) -> str:
    return f"ended at {found.points} points, {len(found.failures)} failures in {len(found.ways_out)} ways out"
