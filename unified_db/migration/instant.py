"""The write locks of several live databases, held together for as long as their snapshots take to open.

Whoever waits for one lock while holding another makes all writers wait, and two of them for each
other. So a lock is polled faster than SQLite's own busy handler does (it sleeps up to 100 ms, and
misses the gaps of a writer that begins again at once), and no lock is held while another is waited
for longer than a patience that grows with each attempt. The gap of a busy writer is some 20 us:
after a moment of polling at intervals, which would hit one gap in twenty, it is polled without any.
And a database that is committed to while we wait is busy and not locked: only one that shows no
commit for the whole time limit is given up on, a busy one after ten times as long.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unified_db import sqlite
from unified_db.errors import SourceBusyError, SourceChangedError, SourceError

_POLL_S = 0.0005
_POLL_AT_INTERVALS_S = 0.2
_BUSY_FACTOR = 10
_ONE_COMMIT_MS = 100
_PATIENCE_S = 0.02
_LESS_HASTE = 1.3


@dataclass(frozen=True)
class Locks:
    """What is held: the write locks, and of databases that we may not write how often they were written.

    Attributes:
        watched: Connection and `data_version` of each that could not be locked.
        since: When the first lock was taken, as `time.perf_counter` gives it; None without any.
    """

    watched: tuple[tuple[sqlite3.Connection, Path, int], ...]
    since: float | None

    def has(self, path: Path) -> bool:
        """True where the write lock of *path* is held."""
        return all(path != watched for _, watched, _ in self.watched)

    def held_ms(self) -> float:
        """Milliseconds since the first lock was taken; 0 where there is none."""
        return (time.perf_counter() - self.since) * 1000 if self.since is not None else 0.0

    def require_nothing_written(self) -> None:
        """Return where nobody committed to a database that could not be locked.

        Raises:
            SourceChangedError: Somebody did, so there is no telling whether all show one instant.
        """
        for conn, path, before in self.watched:
            if _data_version(conn) != before:
                raise SourceChangedError(
                    f"{path} was written while snapshots were opened, and may not be locked",
                    hint="Nothing was written. Run again, or as a user who may write to it.",
                )


@contextlib.contextmanager
def write_locks(paths: Sequence[Path], *, timeout_s: float) -> Iterator[Locks]:
    """Hold the write locks of all *paths* at once for the block.

    A database that this process may not write to is watched instead.

    Raises:
        SourceBusyError: Nothing was committed to one of them for *timeout_s* and it stayed locked, or
            its writers left no gap in ten times as long. Transient.
    """
    with contextlib.ExitStack() as stack:
        conns = [(stack.enter_context(sqlite.closing(_connect(p, timeout_s))), p) for p in paths]
        ours = [(c, p) for c, p in conns if not _is_read_only(c)]
        others = tuple((c, p, _data_version(c)) for c, p in conns if (c, p) not in ours)
        since = _take_all(ours, timeout_s=timeout_s)
        try:
            yield Locks(others, since)
        finally:
            _release(ours)


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    return sqlite.connect_writable(path, timeout_s=timeout_s)


def _is_read_only(conn: sqlite3.Connection) -> bool:
    """True where SQLite opened the file for reading alone, as it does without asking."""
    try:
        conn.execute("PRAGMA busy_timeout=0")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            return False
        if "readonly" in str(error):
            return True
        raise
    return False


def _data_version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA data_version").fetchone()[0])


def _take_all(conns: Sequence[tuple[sqlite3.Connection, Path]], *, timeout_s: float) -> float | None:
    """Take all locks, the one that was waited for last first; when the first was taken."""
    order = list(conns)
    begun, patience_s = time.monotonic(), _PATIENCE_S
    deadline, versions = begun + timeout_s, _versions(order)
    while order:
        since = 0.0
        for place, (conn, path) in enumerate(order):
            until = deadline if place == 0 else min(deadline, time.monotonic() + patience_s)
            if not _take(conn, path, until=until, since=begun):
                break
            since = since or time.perf_counter()
        else:
            return since
        _release(order)
        if time.monotonic() >= deadline:
            now = _versions(order)
            waited_s = time.monotonic() - begun
            if now[path] == versions[path] or waited_s >= _BUSY_FACTOR * timeout_s:
                raise _busy(path, waited_s)
            deadline, versions = time.monotonic() + timeout_s, now
        order.insert(0, order.pop(place))
        patience_s *= _LESS_HASTE
        time.sleep(random.uniform(0, _PATIENCE_S / 4))  # noqa: S311 - keeps two of us from moving in step
    return None


def _versions(conns: Sequence[tuple[sqlite3.Connection, Path]]) -> dict[Path, int | None]:
    """How often each was written, None where a writer lets nobody read at the moment."""
    found: dict[Path, int | None] = {}
    for conn, path in conns:
        found[path] = None
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute(f"PRAGMA busy_timeout={_ONE_COMMIT_MS}")
            found[path] = _data_version(conn)
        conn.execute("PRAGMA busy_timeout=0")
    return found


def _take(conn: sqlite3.Connection, path: Path, *, until: float, since: float) -> bool:
    while True:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise _not_lockable(path, error) from error
            now = time.monotonic()
            if now >= until:
                return False
            time.sleep(_POLL_S if now < since + _POLL_AT_INTERVALS_S else 0)
        else:
            return True


def _release(conns: Sequence[tuple[sqlite3.Connection, Path]]) -> None:
    for conn, _ in conns:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def _is_busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _busy(path: Path, timeout_s: float) -> SourceBusyError:
    return SourceBusyError(
        f"{path} was locked by a writer for {timeout_s:.1f} s",
        hint="Nothing was written. Run again when its writer has finished.",
    )


def _not_lockable(path: Path, error: sqlite3.Error) -> SourceError:
    return SourceError(
        f"{path} cannot be locked: {error}",
        hint="Nothing was written. A shared instant needs the lock of every source in use.",
    )
