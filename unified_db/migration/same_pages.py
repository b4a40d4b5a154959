"""Which tables two files hold in the very same pages, so that no row of them need be compared.

The largest source comes into the unified file page by page, and building changes few of its pages after
that. A table is the same in both files, to the bit, where its tree begins at the same page and no page of
it differs. Those of the tree itself are found by its inner pages. An overflow page cannot be told by
itself, so every page that differs has to be something else: one of a tree, free, or in a chain that begins
on a leaf that differs. `integrity_check`, which the proof asks for both files, finds a page used twice.

Nothing is said where a page is not accounted for; then all rows are compared.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unified_db import pieces, sqlite
from unified_db.migration import btree

_CHUNK_BYTES = 1 << 18


def find_same(backup: Path, unified: Path, tables: Collection[str]) -> frozenset[str]:
    """Those of *tables* whose definition, root page and every other page are the same in both files.

    Holds where both pass `integrity_check`. Nobody may be writing to either file, and neither may have a
    WAL. Reads both once where any table begins at the same page in both, and little otherwise.

    Returns:
        A table that is not among them may be the same nevertheless.
    """
    try:
        mine, theirs = _Trees.read(backup), _Trees.read(unified)
        wanted = {n for n in tables if n in mine.tables and mine.tables[n] == theirs.tables.get(n)}
        if not wanted:
            return frozenset()
        with backup.open("rb") as one, unified.open("rb") as other:
            return _find(btree.File(one.fileno()), btree.File(other.fileno()), wanted, theirs)
    except (btree.UnknownError, struct.error, IndexError, ValueError, OSError, sqlite3.Error):
        return frozenset()


class SamePages:
    """As :func:`find_same`, found out once, by whichever thread asks first."""

    def __init__(self, backup: Path, unified: Path, tables: Collection[str]) -> None:
        self._files = (backup, unified)
        self._tables = tables
        self._lock = threading.Lock()
        self._found: frozenset[str] | None = None

    def find(self) -> frozenset[str]:
        """The tables."""
        with self._lock:
            if self._found is None:
                self._found = find_same(*self._files, self._tables)
            return self._found


@dataclass(frozen=True)
class _Trees:
    """Where the trees of a file begin, as SQLite itself reads its schema.

    Attributes:
        tables: Root page and definition of each table that has pages.
        roots: Of all trees, that of the schema too.
        frees_are_checked: Whether `integrity_check` looks at free pages. Where a view or a virtual table
            comes first among what SQLite has in memory, it takes its number of no page for the sign
            that only a part is to be checked, and leaves them out (`aRoot[0]==0` in its btree.c).
    """

    tables: Mapping[str, tuple[int, str]]
    roots: Collection[int]
    frees_are_checked: bool

    @classmethod
    def read(cls, path: Path) -> _Trees:
        """Those of *path*.

        Raises:
            btree.UnknownError: A row of the schema may mean something else to SQLite than it says.
        """
        with sqlite.closing(sqlite.connect_frozen(path)) as conn:
            rows = conn.execute(
                "SELECT type, name, rootpage, sql FROM sqlite_schema WHERE rootpage <> 0"
            ).fetchall()
            kinds = conn.execute(
                "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'"
            ).fetchall()
            with_pages = {name: bool(wr) for name, kind, wr in kinds if kind in ("table", "shadow")}
            known = {("table", name) for name in with_pages}
            for name, without_rowid in with_pages.items():
                found = conn.execute("SELECT name, origin FROM pragma_index_list(?, 'main')", (name,))
                # The primary key of a table without rowids is the table.
                known |= {("index", index) for index, origin in found if origin != "pk" or not without_rowid}
        roots = {1, *(root for _, _, root, _ in rows)}
        if (
            not all((kind, name) in known and type(root) is int for kind, name, root, _ in rows)
            or len({name.lower() for _, name, _, _ in rows}) != len(rows)
            or len(roots) != len(rows) + 1
        ):
            raise btree.UnknownError
        tables = {name: (root, sql) for kind, name, root, sql in rows if kind == "table"}
        return cls(tables, roots, len(with_pages) == len(kinds))


def _find(before: btree.File, after: btree.File, wanted: Collection[str], trees: _Trees) -> frozenset[str]:
    if _meaning(before) != _meaning(after) or before.auto_vacuum or after.auto_vacuum:
        raise btree.UnknownError
    pages, left_over = {}, after.pages
    for root in trees.roots:
        pages[root] = btree.tree_pages(after, root)
        left_over -= len(pages[root])
        # No page is in two trees.
        if left_over < 0:
            raise btree.UnknownError
    in_both = min(before.pages, after.pages)
    # A page that only one of them has is none that is the same.
    differs = np.ones(max(before.pages, after.pages) + 1, dtype=bool)
    differs[: in_both + 1] = False
    differs[list(_differing(before, after, in_both))] = True
    same = frozenset(name for name in wanted if not differs[pages[trees.tables[name][0]]].any())
    if same:
        of_trees = np.concatenate(list(pages.values()))
        leaves = [page for page in of_trees[differs[of_trees]].tolist() if page <= before.pages]
        left = set(np.flatnonzero(differs[: before.pages + 1]).tolist()).difference(leaves)
        if left and trees.frees_are_checked:
            left -= btree.free_pages(after)
        btree.require_chained(after, left, leaves)
    return same


def _meaning(file: btree.File) -> tuple[int, int, int]:
    """What decides how the bytes of its pages are read."""
    return file.page_bytes, file.usable_bytes, file.encoding


def _differing(before: btree.File, after: btree.File, pages: int) -> Iterator[int]:
    """The numbers of those of the first *pages* that are not the same in both files."""
    page_bytes = before.page_bytes
    words = [np.empty(_CHUNK_BYTES // 8, dtype=np.uint64) for _ in range(2)]
    for begin in range(0, pages * page_bytes, _CHUNK_BYTES):
        pieces.look()
        size = min(_CHUNK_BYTES, pages * page_bytes - begin)
        for file, into in zip((before, after), words, strict=True):
            if os.preadv(file.descriptor, [into.data.cast("B")[:size]], begin) != size:
                raise btree.UnknownError
        mine, theirs = (read[: size // 8] for read in words)
        if not np.array_equal(mine, theirs):
            rows = (mine != theirs).reshape(-1, page_bytes // 8).any(axis=1)
            yield from (begin // page_bytes + 1 + np.flatnonzero(rows)).tolist()
