"""Runs one act of a migration and dies by SIGKILL at a chosen point; run as a program by the tests.

A point is any moment just before or just after a write, a rename or an fsync of ours (all of them
go through `unified_db.files` and the journal), and around the start of the application.

Usage: crash_driver.py CONFIG RUN_FOLDER cutover|rollback POINT    (POINT 0 only counts)
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unified_db import files
from unified_db.migration import application, archive, cutover, journal, rollback
from unified_db.migration.config import load_config
from unified_db.migration.runs import RunFolder

point = int(sys.argv[4])
moments = itertools.count(1)
passed = [0]


def moment() -> None:
    passed[0] = next(moments)
    if passed[0] == point:
        os.kill(os.getpid(), signal.SIGKILL)


def between(function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any, **named: Any) -> Any:
        moment()
        result = function(*arguments, **named)
        moment()
        return result

    return watched


for name in ("fsync_file", "fsync_folder", "write_durably", "copy_durably", "move_durably", "remove_durably"):
    setattr(files, name, between(getattr(files, name)))
journal.Journal.write = between(journal.Journal.write)  # type: ignore[method-assign]
application.start = between(application.start)
application.stop = between(application.stop)

config, run = load_config(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
if sys.argv[3] == "cutover":
    cutover.perform_cutover(config, run)
    archive.archive_originals(config, run)
else:
    rollback.roll_back(config, run)
print(passed[0])
