"""Reading many checkpoints page by page: nothing is open between two pages, and no N+1 reads."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from unified_db.runtime.readers import snapshot
from unified_db.runtime.rows import Place, StoredCheckpoint, StoredWrite, Where

_FIRST_PAGE = 16
_LARGEST_PAGE = 256
# A page ends early where its states are large, so that a listing needs little memory.
_PAGE_BYTES = 4 * 1024 * 1024

# The keys come from the index alone; blobs are read for the rows of this page only.
_PAGE = """
SELECT rowid, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
FROM checkpoints WHERE rowid IN (
    SELECT rowid FROM checkpoints {where}
    ORDER BY checkpoint_id DESC, thread_id, checkpoint_ns LIMIT ?
)
ORDER BY checkpoint_id DESC, thread_id, checkpoint_ns
"""
_WRITES = """
SELECT c.rowid, w.task_id, w.channel, w.type, w.value, {task_path}, w.idx
FROM checkpoints c CROSS JOIN writes w ON w.thread_id = c.thread_id
    AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
WHERE c.rowid IN ({places})
"""

Found = tuple[StoredCheckpoint, list[StoredWrite]]


class Page(NamedTuple):
    """Some checkpoints, and where the next page begins.

    Attributes:
        found: Newest first, each with its pending writes.
        rest: What to ask for next; None at the end.
    """

    found: list[Found]
    rest: Listing | None


class Listing(NamedTuple):
    """What of a listing is still to be read.

    Attributes:
        where: Which checkpoints.
        limit: How many at most; None for all.
        after: The last one that was read.
        size: How many the next page asks for.
        has_task_path: False for a table from before the column.
    """

    where: Where
    limit: int | None
    after: Place | None = None
    size: int = _FIRST_PAGE
    has_task_path: bool = True

    def read(self, conn: sqlite3.Connection) -> Page:
        """The next page, all of one moment."""
        if self.limit is not None and self.limit < 0:
            # To SQLite, and so to the stock savers, a negative limit is none.
            return self._replace(limit=None).read(conn)
        wanted = self.size if self.limit is None else min(self.size, self.limit)
        if wanted <= 0:
            return Page([], None)
        with snapshot(conn):
            rows, complete = self._checkpoints(conn, wanted)
            writes = self._writes(conn, [row[0] for row in rows])
        found = [(StoredCheckpoint(Place(*row[1:4]), *row[4:]), writes.get(row[0], [])) for row in rows]
        return Page(found, None if complete else self._after(found))

    def _after(self, found: list[Found]) -> Listing:
        return self._replace(
            after=found[-1][0].place,
            limit=None if self.limit is None else self.limit - len(found),
            size=min(self.size * 4, _LARGEST_PAGE),
        )

    def _checkpoints(self, conn: sqlite3.Connection, wanted: int) -> tuple[list[tuple[Any, ...]], bool]:
        """Rows of the page, and whether they are the last ones."""
        terms, params = list(self.where.terms), list(self.where.params)
        if self.after is not None:
            terms += ["checkpoint_id <= ?", "(checkpoint_id < ? OR (thread_id, checkpoint_ns) > (?, ?))"]
            params += [self.after.checkpoint_id, self.after.checkpoint_id, *self.after[:2]]
        sql = _PAGE.format(where=Where(terms, params).sql)
        rows, size = [], 0
        cursor = _plain_cursor(conn)
        for row in cursor.execute(sql, [*params, wanted]):
            rows.append(row)
            size += len(row[6] or b"")
            if size > _PAGE_BYTES:
                cursor.close()
                return rows, False
        return rows, len(rows) < wanted or len(rows) == self.limit

    def _writes(self, conn: sqlite3.Connection, rowids: list[int]) -> dict[int, list[StoredWrite]]:
        path = "w.task_path" if self.has_task_path else "''"
        sql = _WRITES.format(task_path=path, places=",".join("?" * len(rowids)))
        found: dict[int, list[StoredWrite]] = defaultdict(list)
        for rowid, *write in _plain_cursor(conn).execute(sql, rowids):
            found[rowid].append(StoredWrite(*write))
        return found


def read_all(conn: sqlite3.Connection, listing: Listing) -> Iterator[Found]:
    """Every checkpoint of *listing*, for a caller who holds the connection anyway."""
    rest: Listing | None = listing
    while rest is not None:
        page = rest.read(conn)
        yield from page.found
        rest = page.rest


def _plain_cursor(conn: sqlite3.Connection) -> sqlite3.Cursor:
    # A lent connection may make rows into something else.
    cursor = conn.cursor()
    cursor.row_factory = None
    return cursor
