"""Starts the drivers that kill and cut power, each among few processes, and reads what they print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

HERE = Path(__file__).parent
Line = Mapping[str, Any]
MEMORY = Path("/dev/shm")


def apart() -> list[str]:
    """Among few processes, where that can be had: each look for who has a file open looks at all of them."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") and not subprocess.run([*command, "true"], check=False).returncode:
        return command
    return []


@dataclass(frozen=True)
class Found:
    """What a driver counted.

    Attributes:
        told: All that it printed.
        points: At so many the work was ended.
        ways_out: How each way out of these ended.
    """

    told: Sequence[Line]
    points: int
    ways_out: Sequence[Line]

    @property
    def failures(self) -> list[Line]:
        """The ways out that left something wrong."""
        return [line for line in self.ways_out if line["problems"]]


def kill(what: str, folder: Path) -> Found:
    """Kill *what*, "cutover" or "rollback", at every point; then each of the ways out."""
    told = _drive("crash_driver.py", what, folder)
    (points,) = (line["points"] for line in told if "operations" in line)
    return Found(told, points, [line for line in told if "point" in line])


def kill_recovery(how_much: str, folder: Path, *, timeout_s: float = 590) -> Found:
    """Kill what puts a killed switch or rollback right: at a "sample" of points, or in the "whole"."""
    told = _drive("recovery_driver.py", folder, how_much, timeout_s=timeout_s)
    ended = [line for line in told if "point" in line]
    return Found(told, len(ended), ended)


def cut_power(folder: Path) -> Found:
    """Cut the power of a cut-over, its preparation and its rollback; all that the disk may hold then."""
    told = _drive("power_cut_driver.py", folder)
    points = sum(line["points"] for line in told if "points" in line)
    return Found(told, points, [line for line in told if "world" in line])


def _drive(program: str, *arguments: object, timeout_s: float = 590) -> list[Line]:
    """What the driver *program* printed."""
    done = subprocess.run(
        [*apart(), sys.executable, str(HERE / program), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
