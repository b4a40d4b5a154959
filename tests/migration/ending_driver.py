"""Runs one verb of the command again and again in children, each ended at another of its steps.

A step is what the process does to files, seen by an audit hook; an fsync; or a statement that it
hands to SQLite. Called as `ending_driver.py SIGNAL FOLDER STRIDE VERB ARGUMENT...`, prints JSON lines.
FOLDER holds `in`, which must stay as it is, and gets `out`, of which each child finds a fresh copy.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flows.answers
import flows.terminal  # noqa: F401 - all that a child would import is imported before it is forked
from flows import cli
from tests.conftest import look_at
from unified_db.migration import backup, standalone, transcode  # noqa: F401 - as above

_EVENTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.chown", "os.truncate"),
    *("shutil.copyfile", "shutil.rmtree", "sqlite3.connect"),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_VARIES = re.compile(r"\d{8}T\d{6,12}Z|[0-9a-f]{8}\.partial")


def count_steps(at: Callable[[str], None]) -> None:
    """Call *at* before every step of this process."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and arguments[2] and arguments[2] & _WRITING):
            at(event)

    sys.addaudithook(hook)
    fsync, connect = os.fsync, sqlite3.connect

    def counted_fsync(descriptor: int) -> None:
        at("fsync")
        fsync(descriptor)

    def traced_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        conn = connect(*arguments, **options)
        conn.set_trace_callback(lambda _sql: at("statement"))
        return conn

    os.fsync = counted_fsync  # type: ignore[assignment]
    sqlite3.connect = traced_connect  # type: ignore[assignment]


def child(arguments: list[str], *, number: signal.Signals | None, step: int) -> int:
    """How a child ended that was sent *number* at its step *step*; its steps are told by the parent."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0

    def at(event: str) -> None:
        nonlocal seen
        # What a callback of SQLite's raises goes nowhere, so an exception is no end there.
        if event == "statement" and number != signal.SIGKILL:
            return
        seen += 1
        if seen == step and number is not None:
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    count_steps(at)
    code = 99
    with contextlib.suppress(BaseException):
        code = cli.main(arguments)
    # Not reached by the child that was to end at a step which it does not have.
    os._exit(code if seen >= step else 98)


def names(folder: Path) -> list[str]:
    """What lies under *folder*, without what differs from one call to the next."""
    return sorted(_VARIES.sub("TIME", name) for name in look_at(folder))


def main() -> None:
    number = signal.Signals[sys.argv[1]]
    folder, stride, arguments = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    out, first = folder / "out", folder / "first"
    shutil.copytree(out, first, symlinks=True)
    before, empty = look_at(folder / "in"), names(out)
    assert child(arguments, number=None, step=0) == 0
    whole = names(out)
    for step in range(1, 5000, stride):
        shutil.rmtree(out)
        shutil.copytree(first, out, symlinks=True)
        code = child(arguments, number=number, step=step)
        left = names(out)
        if code in (0, 98):
            break
        untouched = look_at(folder / "in") == before
        target = (out / "unified.db").exists()
        again = child(arguments, number=None, step=0)
        facts = {"step": step, "code": code, "untouched": untouched, "target": target, "again": again}
        facts |= {"nothing_left": left == empty, "left": left, "tidy": names(out) == whole, "end": names(out)}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
