"""Which tables two files hold in pages that are the same, so that no row of them need be compared.

The largest source comes into the unified file page by page, and so do the tables of the others where that can
be done. A table is the same in both files, to the bit, where its definition is and where its trees have the
same pages: in the same places, or in others with nothing different but the numbers that say where.

Nothing is said where it is not so simple; then all rows are compared.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unified_db import pieces, sqlite
from unified_db.migration import btree, page_trees
from unified_db.migration.btree import UnknownError
from unified_db.migration.page_trees import Numbers, PageFile, Tree

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Same:
    """What a file has in common with another.

    Attributes:
        tables: Those whose definition and pages are the same in both.
        whole: Whether the pages of all its tables and indexes are, but for SQLite's own tables, and no other
            page is in use: what `integrity_check` says of the other file then holds for these.
    """

    tables: frozenset[str] = frozenset()
    whole: bool = False


def find_same(backup: Path, unified: Path, tables: Collection[str], *, whole: bool = False) -> Same:
    """Which of *tables* have the same definition in both files, and the same pages.

    Holds where *unified* passes `integrity_check`. Nobody may be writing to either file, and neither may have
    a WAL. Reads the pages of these tables once in each; of everything where it is asked about the *whole*.

    Returns:
        A table that is not among them may be the same nevertheless.
    """
    try:
        rows = page_trees.schema_rows(backup)
        there = {row.name: row for row in page_trees.schema_rows(unified)}
        files = _Files(PageFile(backup), PageFile(unified))
        same = set[str]()
        for row in rows:
            if not whole and row.name not in tables:
                continue
            other = there.get(row.name)
            tree = files.take(row.root, pointers=other is not None and other.root != row.root)
            if other is None or row.table not in tables or replace(row, root=other.root) != other:
                continue
            if files.have_same(tree, other.root):
                same.add(row.name)
        beside = {row.name for row in rows} - same - {"sqlite_sequence", *sqlite.STATISTICS}
        found = frozenset(row.name for row in rows if row.kind == "table" and row.name in same)
        return Same(found, whole and not beside and files.has_nothing_else(backup))
    except (UnknownError, OSError):
        return Same()


class SamePages:
    """As :func:`find_same`, found out once, by whichever thread asks first."""

    def __init__(self, backup: Path, unified: Path, tables: Collection[str], *, whole: bool = False) -> None:
        self._find = partial(find_same, backup, unified, tables, whole=whole)
        self._lock = threading.Lock()
        self._found: Same | None = None

    def find(self) -> Same:
        """What is the same."""
        with self._lock:
            if self._found is None:
                self._found = self._find()
            return self._found


class _Files:
    """Two files that may have trees in common."""

    def __init__(self, before: PageFile, after: PageFile) -> None:
        if before.meaning != after.meaning:
            raise UnknownError
        self._before, self._after = before, after
        self._used = np.zeros(before.pages + 1, dtype=bool)
        self._uses = 0
        self._differs: NDArray[np.bool_] | None = None

    def take(self, root: int, *, pointers: bool = False) -> Tree:
        """The tree at *root* of the first file."""
        tree = self._before.walk(root, pointers=pointers)
        self._use(tree.pages)
        return tree

    def _use(self, pages: Numbers) -> None:
        self._used[pages] = True
        self._uses += len(pages)
        if self._uses > self._before.pages:
            # A page is in two of them: however many there are, no more than one file is walked.
            raise UnknownError

    def have_same(self, mine: Tree, root_after: int) -> bool:
        """Whether the tree at *root_after* of the other file holds the same."""
        if mine.pages[0] == root_after:
            # With the pages their pointers are the same, and lead to the same pages.
            return not self._differing()[mine.pages].any()
        try:
            theirs = self._after.walk(root_after)
        except UnknownError:
            return False
        return page_trees.same_elsewhere(self._before, mine, self._after, theirs)

    def has_nothing_else(self, before: Path) -> bool:
        """Whether every page of the first file, *before*, is in one tree that was taken, or free."""
        if self._before.auto_vacuum or self._before.incremental:
            return False
        self.take(1)
        with before.open("rb") as stream:
            free = btree.free_pages(btree.File(stream.fileno()))
        self._use(np.fromiter(free, dtype=np.int64, count=len(free)))
        if self._before.pages >= self._before.lock_page:
            self._use(np.array([self._before.lock_page]))
        return bool(self._used[1:].all()) and self._uses == self._before.pages

    def _differing(self) -> NDArray[np.bool_]:
        """For each page, by its number, whether it is not the same in both files."""
        if self._differs is None:
            both = min(self._before.pages, self._after.pages)
            # A page that only one of them has is none that is the same.
            self._differs = np.ones(max(self._before.pages, self._after.pages) + 1, dtype=bool)
            mine, theirs = (f.rows()[:both].view(np.uint64) for f in (self._before, self._after))
            rows = max(_CHUNK_BYTES // self._before.page_bytes, 1)
            for begin in range(0, both, rows):
                pieces.look()
                one, other = mine[begin : begin + rows], theirs[begin : begin + rows]
                same = np.array_equal(one, other)
                self._differs[begin + 1 : begin + 1 + len(one)] = (
                    False if same else (one != other).any(axis=1)
                )
        return self._differs
