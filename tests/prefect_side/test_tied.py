"""What ends with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PARENT = """
import subprocess, sys, time
server = ["http.server", "0", "--bind", "127.0.0.1"]
child = subprocess.Popen([sys.executable, "-u", "-m", "flows.tied", *server], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(300)
"""


def test_a_tied_process_ends_when_the_one_that_started_it_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert parent.stdout.readline().startswith("Serving HTTP")
        parent.kill()
        # Both write to the one pipe, which ends when nobody is left who could.
        parent.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
