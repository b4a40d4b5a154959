"""Whether anybody else committed to a source since a moment, known and not guessed; and its lock in the end.

One connection per source is opened while the application serves and kept through the cut-over.
`PRAGMA data_version` on it differs once another connection has committed, and its own acts do not count
(sqlite.org/pragma.html#pragma_data_version). What that rests on, and where it would not hold:

* A connection learns of commits in a WAL only when it begins to read. Leaving WAL mode is no reading: a
  connection that leaves it first sees neither that commit in its `data_version` nor its rows, where
  page 1 was not written. So it looks while it holds the WAL exclusively, and leaves only then.
* That exclusive lock is had by the sole connection alone, and nobody gets in before WAL mode is left.
  Afterwards SQLite tells commits by the counter in the header, which each of them raises.
* Another name of the same file (a hard link) has another WAL, and a program that writes into the file
  past SQLite raises no counter: a file with such a name, or with another stamp, counts as written.

Which rows were written is known too, where a source is in WAL mode: a snapshot that is kept from the last
look on keeps every page that is written later in the WAL (`wal.py`), and the pages tell the rows
(`btree.py`). What is committed between the reading of the WAL and the lock shows in `data_version`, and
then nothing is known.

Nobody in this process may open and close a source by hand while its lookout lives: POSIX drops the
locks of a process with any descriptor of the file. A connection with `immutable` does so too.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Self

from unified_db import files, sources, sqlite
from unified_db.errors import CutoverRefusedError, SourceBusyError, SourceError
from unified_db.migration import btree, wal
from unified_db.migration.compare import Span
from unified_db.migration.journal import Journal

_WAIT_S = 5.0
_CHECKPOINTS = 5
_PAUSE_S = 0.01


class Lookout:
    """Keeps an eye on one source, from :meth:`note` on.

    Attributes:
        path: The source as it was named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as stack:
            self._identity = stack.enter_context(sources.pinned(path))
            self._conn = sqlite.connect_writable(path, timeout_s=_WAIT_S)
            # Read by hand in the end; closed when no lock is left that it could drop.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._descriptor)
            stack.callback(self._conn.close)
            # EXTRA also makes the end of a journal durable: an fsync by hand would drop our locks.
            self._conn.execute("PRAGMA synchronous=EXTRA")
            self._stack = stack.pop_all()
        self._noted: tuple[int, files.Stamp] | None = None
        self._snapshot: sqlite3.Connection | None = None
        self._written: tuple[int, Set[int]] | None = None

    def note(self) -> None:
        """Count as late what is committed from now on.

        Empties the WAL into the file as far as readers allow, so that leaving WAL mode takes no time, and
        keeps a snapshot: while it is there, what is committed stays in the WAL and names its pages.
        """
        self._let_go()
        self._checkpoint()
        version = self._version()
        if self.is_wal():
            self._keep_snapshot()
        self._noted = (version, files.stamp(self.path))

    def forget(self) -> None:
        """Count the source as written late, whatever is seen of it."""
        self._let_go()
        self._noted = None

    def changed_rows(self, roots: Mapping[str, int]) -> dict[str, list[Span]] | None:
        """Where rows may have changed since :meth:`note`; None where that is not known.

        For a source whose lock is taken; see :func:`btree.changed_rows`.
        """
        if self._noted is None or self._written is None or self._written[0] != self._version():
            return None
        return btree.changed_rows(self._descriptor, roots, self._written[1])

    def is_late(self) -> bool:
        """True where somebody may have committed since :meth:`note`; false where nobody has."""
        return self._noted is None or self._version() != self._noted[0]

    def is_wal(self) -> bool:
        """True where the source is in WAL mode, so that reading it holds up no writer."""
        self._version()
        return sqlite.pragma(self._conn, "journal_mode") == "wal"

    def take_lock(self, journal: Journal) -> None:
        """Take the source out of WAL mode and hold its write lock until :meth:`close`.

        Without WAL mode SQLite itself refuses a write to a moved file: a waiting writer would commit
        into the WAL of the renamed file, and its row would be lost.

        Raises:
            SourceChangedError: Another file is at its path.
            SourceError: It has another name, where a WAL or journal of it lies.
            CutoverRefusedError: Another connection is open, so it cannot leave WAL mode.
        """
        self._read_wal()
        self._look_alone()
        if sqlite.pragma(self._conn, "journal_mode") == "wal":
            with journal.act("journal-mode", path=str(self.path), mode="wal"):
                found = self._conn.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
                if found != "delete":
                    raise CutoverRefusedError(f"{self.path} is still in use, so it cannot leave WAL mode")
        self._conn.execute("PRAGMA locking_mode=NORMAL").fetchall()
        # An exclusive lock goes with the next reading; whoever commits before the lock below is counted.
        self._version()
        sqlite.wait_for_lock(self._conn, self.path, timeout_s=_WAIT_S)
        sources.require_identity(self.path, self._identity)

    def _keep_snapshot(self) -> None:
        # Without one all rows are compared in the end.
        with contextlib.suppress(SourceError, sqlite3.Error):
            conn = sqlite.connect_read_only(self.path)
            try:
                sqlite.begin_snapshot(conn)
            except sqlite3.Error:
                conn.close()
                raise
            self._snapshot = conn
        # What came in between, too: from here on no checkpoint finds anything that it may write.
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Empty the WAL into the file as far as readers allow, who may be gone in a moment."""
        for _ in range(_CHECKPOINTS):
            _, frames, done = self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if done == frames:
                return
            time.sleep(_PAUSE_S)

    def _read_wal(self) -> None:
        """Learn which pages were written since the snapshot, which is not needed any more then."""
        if self._snapshot is not None:
            version = self._version()
            pages = wal.pages_in(self.path)
            self._written = None if pages is None else (version, pages)
        self._let_go()

    def _let_go(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def _look_alone(self) -> None:
        """Look at the source while nobody else can be in its WAL, and keep it so."""
        self._conn.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        try:
            sqlite.wait_for_lock(self._conn, self.path, timeout_s=_WAIT_S)
        except SourceBusyError as error:
            raise CutoverRefusedError(f"{self.path} is still in use: another connection is open") from error
        sources.require_own_sidecars(self.path, self._identity)
        if self._noted and (files.stamp(self.path) != self._noted[1] or self.path.stat().st_nlink > 1):
            self.forget()
        self._version()
        self._conn.execute("ROLLBACK")

    def _version(self) -> int:
        return int(self._conn.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Let go of the source; again and again is the same as once."""
        self._let_go()
        self._stack.close()


class Lookouts:
    """The lookouts of all sources, in their order; as a context manager all are closed with the block."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.each: list[Lookout] = []
        try:
            for path in paths:
                self.each.append(Lookout(path))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def of(self, path: Path) -> Lookout:
        """The lookout of the source at *path*."""
        return next(o for o in self.each if o.path == path)

    def take_locks(self, journal: Journal) -> None:
        """As :meth:`Lookout.take_lock`, for all of them."""
        for lookout in self.each:
            lookout.take_lock(journal)

    def close(self) -> None:
        """Let go of all sources."""
        for lookout in self.each:
            lookout.close()
