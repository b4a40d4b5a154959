"""What the machine knows of its processes: which one is which, what it runs, and who has a file open.

Tells only; what we start and end ourselves is the business of `processes.py`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from unified_db import files
from unified_db.migration import wording
from unified_db.migration.edits.masking import is_secret_name

_COMMAND_CHARS = 120
_HAS_PROC = Path("/proc/self/fd").exists()


def holders(
    paths: Iterable[Path], *, exclude: Collection[int] = (), among: Collection[int] | None = None
) -> list[str]:
    """Processes that have one of *paths* or their sidecars open, each as "pid command".

    Files are compared by device and inode, so links and renames do not hide a holder.
    Processes of other users are seen by root only.

    Args:
        paths: Database files; missing ones have no holder.
        exclude: Process ids that do not count, such as our own.
        among: Look at these process ids only; without it at all of them.
    """
    wanted = {i for path in paths for p in (path, *files.sidecars(path)) if (i := _identity(p))}
    if not wanted:
        return []
    candidates = psutil.pids() if among is None else among
    found = [pid for pid in sorted(candidates) if pid not in exclude and wanted & _open_files(pid)]
    return [f"{pid} {command_of(pid)}" for pid in found]


def describe(pid: int) -> dict[str, Any]:
    """What tells process *pid* from every other that had or will have its number, as JSON has it."""
    return {"pid": pid, "began": _beginning(pid)}


def is_there(known: Mapping[str, Any]) -> bool:
    """True where the process that :func:`describe` told of is there; without `began` any of that number."""
    if known.get("pid") is None:
        return False
    began = _beginning(int(known["pid"]))
    return began is not None and known.get("began") in (None, began)


def _beginning(pid: int) -> str | None:
    """When *pid* began, which no change of the clock alters where there is /proc; None where it is gone."""
    try:
        if not _HAS_PROC:
            return str(psutil.Process(pid).create_time())
        state, *facts = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The 22nd field: clock ticks from the boot of the machine to the beginning of the process.
        return None if state in "ZX" else f"{boot} {facts[18]}"
    except (OSError, psutil.Error):
        return None


def describe_command(words: Sequence[str]) -> str:
    """A command line in short, without the values of options and variables that are named like secrets."""
    shown: list[str] = []
    hidden = False
    for word in words:
        name, sign, _ = word.partition("=")
        shown.append(
            wording.MASK if hidden else f"{name}={wording.MASK}" if sign and is_secret_name(name) else word
        )
        hidden = word.startswith("-") and not sign and is_secret_name(word)
    return wording.mask(" ".join(shown))[:_COMMAND_CHARS]


def command_of(pid: int) -> str:
    """Its command line in short, or its name."""
    try:
        process = psutil.Process(pid)
        return describe_command(process.cmdline()) or str(process.name())
    except psutil.Error:
        return "(gone)"


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        # No Path for each of thousands: making one takes longer than the look itself.
        status = os.stat(path)  # noqa: PTH116 - as said
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_files(pid: int) -> set[tuple[int, int]]:
    try:
        folder = f"/proc/{pid}/fd"
        # As in _identity, no Path for each.
        entries = [f"{folder}/{n}" for n in os.listdir(folder)] if _HAS_PROC else _open_paths(pid)  # noqa: PTH208
    except (OSError, psutil.Error):
        return set()
    return {i for entry in entries if (i := _identity(entry))}


def _open_paths(pid: int) -> list[str]:
    return [str(f.path) for f in psutil.Process(pid).open_files()]
