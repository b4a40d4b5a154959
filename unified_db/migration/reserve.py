"""Room on the disk for the way back: taken before the application is stopped, let go when it is needed.

A disk that fills up during the cut-over would otherwise keep the very acts from being taken back that
it stopped: each one is written down, and each edited file gets its old content.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from unified_db import files
from unified_db.migration.runs import RunFolder
from unified_db.migration.switch import PlannedEdit

_NAME = "room-for-the-way-back"
_BYTES = 1 << 20


def keep(run: RunFolder, edits: Sequence[PlannedEdit]) -> None:
    """Take the room that taking back a cut-over with *edits* needs, in the folder of *run*.

    Raises:
        OSError: There is none; what was taken of it is let go.
    """
    path = run.path / _NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES + 2 * sum(len(e.before) for e in edits))
        finally:
            os.close(descriptor)
    except OSError as error:
        release(run)
        # The call knows a descriptor alone; people need a name.
        error.filename = error.filename or str(path)
        raise


def release(run: RunFolder) -> None:
    """Let go of the room; again and again is the same as once."""
    files.remove_durably(run.path / _NAME)
