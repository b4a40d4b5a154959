"""Starts the drivers that kill and cut power, each among few processes, and reads what they print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")


def apart() -> list[str]:
    """Among few processes, where that can be had: each look for who has a file open looks at all of them."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") and not subprocess.run([*command, "true"], check=False).returncode:
        return command
    return []


def drive(program: str, *arguments: object, timeout_s: float = 590) -> list[dict[str, Any]]:
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
