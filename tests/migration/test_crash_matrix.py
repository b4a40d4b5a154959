"""Killed anywhere in a cut-over or a rollback, or without power: wholly old or new, and no row is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.driving import MEMORY, drive


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a thing: a kill loses nothing that a disk would have kept."""
    place = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("what", ["cutover", "rollback"])
def test_a_kill_at_any_point_is_put_right_by_one_resume_and_by_one_rollback(what: str, folder: Path) -> None:
    told = drive("crash_driver.py", what, folder)
    (counted,) = (line for line in told if "operations" in line)
    ended = [line for line in told if "point" in line]
    failures = [line for line in ended if line["problems"]]
    points = {way: {e["point"] for e in ended if e["way"] == way} for way in ("resume", "rollback")}
    print(
        f"\n{what}: killed at {counted['points']} points among {counted['operations']} operations, "
        f"{len(failures)} failures in {len(ended)} ways out"
    )
    assert len(points["resume"] | points["rollback"]) == counted["points"]
    assert len(points["resume"] & points["rollback"]) >= 60
    assert failures == []


def test_a_recovery_that_is_killed_too_is_put_right_by_the_next_command(folder: Path) -> None:
    """A sample, a few seconds long; `make crash-matrix` kills everywhere."""
    told = drive("recovery_driver.py", folder, "sample")
    counted = [line for line in told if "operations" in line]
    ended = [line for line in told if "point" in line]
    failures = [line for line in ended if line["problems"]]
    print(
        f"\nrecovery: killed at {len(ended)} points after {len({e['first'] for e in ended})} first kills, "
        f"{len(failures)} failures"
    )
    assert {line["first"] for line in ended} == {line["first"] for line in counted}
    assert len({line["first"] for line in ended}) >= 8
    assert len(ended) >= 16
    assert {line["way"].partition(",")[0] for line in ended} == {"resume", "rollback"}
    assert failures == []


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="needs a file system that gives no inode twice")
def test_nothing_is_called_done_before_a_power_cut_leaves_it(folder: Path) -> None:
    told = drive("power_cut_driver.py", folder)
    found = [line for line in told if "world" in line]
    failures = [line for line in found if line["problems"]]
    points = sum(line["points"] for line in told if "points" in line)
    print(
        f"\npower cut at {points} points, {len(failures)} failures in {len(found)} things that it may leave"
    )
    assert {line["work"] for line in found} == {"prepared", "switched", "rolled-back"}
    assert points >= 150
    assert failures == []
