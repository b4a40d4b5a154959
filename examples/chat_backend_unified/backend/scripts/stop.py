"""Stops the server of this folder and waits until it is gone."""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core import pidfile

STOP_TIMEOUT_S = 20
POLL_S = 0.05


def main() -> int:
    """0 when no server runs any more."""
    pid = pidfile.read_pid()
    if pid is None or not pidfile.is_server(pid):
        # Left behind by a server that could not clean up.
        pidfile.PID_FILE.unlink(missing_ok=True)
        print("no server runs")
        return 0
    os.kill(pid, signal.SIGTERM)
    if not wait_until_gone(pid):
        print(f"process {pid} still runs after {STOP_TIMEOUT_S} s", file=sys.stderr)
        return 1
    print(f"stopped process {pid}")
    return 0


def wait_until_gone(pid: int) -> bool:
    """False when the process outlives the timeout."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pidfile.is_server(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


if __name__ == "__main__":
    sys.exit(main())
