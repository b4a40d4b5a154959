"""The write locks of several live databases, held together for as long as their snapshots take to open.

Whoever waits for one lock while holding another makes all writers wait, and two of them for each
other. So a lock is polled faster than SQLite's own busy handler does (it sleeps up to 100 ms, and
misses the gaps of a writer that begins again at once), and no lock is held while another is waited
for longer than a patience that grows with each attempt.
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
        SourceBusyError: A writer held one of them for *timeout_s*. Transient.
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
    deadline, patience_s = time.monotonic() + timeout_s, _PATIENCE_S
    while order:
        since = 0.0
        for place, (conn, path) in enumerate(order):
            until = deadline if place == 0 else min(deadline, time.monotonic() + patience_s)
            if not _take(conn, path, until=until):
                break
            since = since or time.perf_counter()
        else:
            return since
        _release(order)
        if time.monotonic() >= deadline:
            raise _busy(order[place][1], timeout_s)
        order.insert(0, order.pop(place))
        patience_s *= _LESS_HASTE
        time.sleep(random.uniform(0, _PATIENCE_S / 4))  # noqa: S311 - keeps two of us from moving in step
    return None


def _take(conn: sqlite3.Connection, path: Path, *, until: float) -> bool:
    while True:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise _not_lockable(path, error) from error
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
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
