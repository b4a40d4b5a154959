"""Runs `make_data.py` of applications in processes that are forked off this one, which has LangGraph loaded.

Loading it takes longer than what they do with it. A folder comes in on a line, an exit code goes out.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Self


class Filler:
    """Such a process; as a context manager it is ended at the end of the block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def fill(self, root: Path) -> None:
        """Have the application at *root* make its data."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{root}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "0\n", f"make_data.py of {root.name} failed"


def _fill(root: str) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(2, 1)
    os.chdir(root)
    sys.path[0] = ""
    code = 1
    try:
        runpy.run_path("make_data.py", run_name="__main__")
        code = 0
    finally:
        sys.stderr.flush()
        # Like a killed server: what is still open keeps its WAL.
        os._exit(code)


if __name__ == "__main__":
    import fastapi.testclient  # noqa: F401

    for line in sys.stdin:
        print(_fill(line.strip()), flush=True)
