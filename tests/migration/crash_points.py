"""Where a process of ours can be killed: before each of its writes, renames, syncs and commits.

A point is something that the process is about to do to a file under the watched folder, seen by an audit
hook (open for writing, rename, remove, mkdir, link, chmod, chown, truncate, copy); a write or an fsync of
its own; half a write; a statement that SQLite is about to execute and that begins, commits or changes
something; a command that it is about to start, or has just started. The moment after one thing is the
moment before the next.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Point = Callable[..., None]

_EVENTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"),
    *("os.chmod", "os.chown", "os.truncate", "os.utime", "shutil.copyfile"),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGING = re.compile(
    r"\s*(BEGIN|COMMIT|ROLLBACK|INSERT|UPDATE|DELETE|REPLACE|ALTER|DROP|CREATE|PRAGMA\s+\S*journal_mode\s*=|"
    r"PRAGMA\s+wal_checkpoint|PRAGMA\s+locking_mode)",
    re.IGNORECASE,
)
_OF_ITS_OWN = re.compile(
    r"\s*\S+\s+(TEMP\b|(TABLE\s+(IF\s+EXISTS\s+)?|INTO\s+|FROM\s+)temp\.)", re.IGNORECASE
)


def watch(folder: Path, at: Point) -> None:
    """Call *at* with a name for every point of this process, from now on and for good.

    Of half a write *at* is also given `first`, which does it; of a statement, the path of its database and
    a number for its connection.
    """
    _watch_events(os.fspath(folder), at)
    _watch_writes(at)
    _watch_statements(at)
    _watch_commands(at)


def follow(folder: Path, work: Callable[[], object]) -> Iterator[dict[str, Any]]:
    """Do *work* in a process of its own, which waits at each point of it until the next one is asked for.

    Yields:
        For a point its `name`, `half` for half a write (which is not done), for a statement `database` and
        `connection`; after an fsync what was `synced`.

    Raises:
        RuntimeError: It failed.
    """
    said, tell = os.pipe()
    heard, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(said)
        os.close(answer)
        _work(folder, work, tell, heard)
    os.close(tell)
    os.close(heard)
    error: str | None = "it ended without a word"
    with os.fdopen(said) as stream:
        for line in stream:
            told = json.loads(line)
            if "error" in told:
                error = told["error"]
            else:
                yield told
            os.write(answer, b"\n")
    os.close(answer)
    reap(pid)
    if error is not None:
        raise RuntimeError(error)


def reap(pid: int) -> int:
    """Wait for *pid*, and collect all servers that end meanwhile: nobody else does, and a zombie is there."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def _work(folder: Path, work: Callable[[], object], tell: int, heard: int) -> None:
    write, fsync, at_a_time = os.write, os.fsync, threading.Lock()

    def say(**facts: Any) -> None:
        with at_a_time:
            write(tell, json.dumps(facts).encode() + b"\n")
            os.read(heard, 1)

    def told_fsync(descriptor: int) -> None:
        fsync(descriptor)
        say(synced=os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - no path of anybody's

    def at(name: str, *, first: object = None, **facts: Any) -> None:
        say(name=name, half=first is not None, **facts)

    os.fsync = told_fsync  # type: ignore[assignment]
    watch(folder, at)
    error = None
    try:
        work()
    except BaseException as problem:  # noqa: BLE001 - told to the parent, who judges
        error = f"{type(problem).__name__}: {problem}"
    say(error=error)
    os._exit(0)


def _watch_events(folder: str, at: Point) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if (
                flags
                and flags & _WRITING
                and not isinstance(path, int)
                and os.fsdecode(path).startswith(folder)
            ):
                at(f"open {Path(os.fsdecode(path)).name}")
        elif event in _EVENTS:
            names = [Path(os.fsdecode(a)).name for a in arguments if isinstance(a, str | bytes | Path)]
            at(f"{event.partition('.')[2]} {' to '.join(names[:2])}")
        elif event == "subprocess.Popen":
            at(f"start {arguments[1][-1]}")

    sys.addaudithook(hook)


def _watch_writes(at: Point) -> None:
    write, fsync, sendfile, copy = os.write, os.fsync, os.sendfile, os.copy_file_range

    def watched_write(descriptor: int, content: bytes) -> int:
        at("write")
        at("half a write", first=lambda: write(descriptor, content[: len(content) // 2]))
        return write(descriptor, content)

    def watched_fsync(descriptor: int) -> None:
        at("fsync")
        fsync(descriptor)

    def watched_sendfile(*arguments: Any, **named: Any) -> int:
        at("copy")
        return sendfile(*arguments, **named)

    def watched_copy(*arguments: Any, **named: Any) -> int:
        at("copy")
        return copy(*arguments, **named)

    os.write = watched_write  # type: ignore[assignment]
    os.fsync = watched_fsync  # type: ignore[assignment]
    os.sendfile = watched_sendfile
    os.copy_file_range = watched_copy


def _watch_statements(at: Point) -> None:
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        def __init__(self, database: Any, *arguments: Any, **named: Any) -> None:
            super().__init__(database, *arguments, **named)
            self._place = _path_of(database)
            self._writes = "mode=ro" not in os.fsdecode(database)
            self.set_trace_callback(self._told)

        def _told(self, sql: str) -> None:
            if _CHANGING.match(sql) and not _OF_ITS_OWN.match(sql):
                at(f"SQL {' '.join(sql.split())[:60]}", database=self._place, connection=id(self))

        def close(self) -> None:
            # The last one to leave a WAL brings it into the file.
            if self._writes:
                at("SQL close", database=self._place, connection=id(self))
            super().close()

    def watched_connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"factory": Watched, **named})

    sqlite3.connect = watched_connect  # type: ignore[assignment]


def _path_of(database: Any) -> str:
    """The path that `sqlite3.connect` was given, plain or as a URI."""
    name = os.fsdecode(database)
    return unquote(urlsplit(name).path) if name.startswith("file:") else name


def _watch_commands(at: Point) -> None:
    class Watched(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            at("a command has started")

    subprocess.Popen = Watched  # type: ignore[misc]
