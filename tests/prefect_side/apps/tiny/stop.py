"""Stops the server of this folder and waits until it is gone."""

import os
import signal
import time
from pathlib import Path

pid_file = Path(__file__).parent / "server.pid"
if pid_file.exists():
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(200):
            # A child of a process that does not collect it stays in /proc without a command line.
            if not Path(f"/proc/{pid}/cmdline").read_bytes():
                break
            time.sleep(0.02)
    except (ProcessLookupError, FileNotFoundError):
        pass
    pid_file.unlink()
