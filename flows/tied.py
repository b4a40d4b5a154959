"""Runs a module for as long as the process lives that started it: `python -m flows.tied MODULE ARGUMENTS`.

That one keeps the other end of our standard input, and closes it to have the module end; the system closes
it when that process is gone, also after a kill -9. The module then gets one SIGTERM. Where it has not ended
after half a minute it is killed, with the processes that it has started itself.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

import psutil  # type: ignore[import-untyped]  # it ships no types

STOP_S = 30


def main() -> None:
    """Run the module that the command line names."""
    threading.Thread(target=_end_with, args=[_take_input()], daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _take_input() -> int:
    """Our standard input under a number that no child inherits; what runs here has an empty one."""
    taken = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return taken


def _end_with(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    # Not the children of these: an application that a run has started stays up.
    for child in psutil.Process().children():
        child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
