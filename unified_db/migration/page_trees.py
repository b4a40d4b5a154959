"""The trees of a database file, page by page: which pages each consists of, and where each is pointed at.

A table or an index is a tree of pages, and every page of it but the root is pointed at once: an inner page
or a leaf by the page above, an overflow page by the cell whose end it holds or by the page before it. So two
trees hold the same where their pages, taken in the order of their pointers, differ in nothing else; and a
tree may stand elsewhere in another file, once its pointers say where.

The format is SQLite's (sqlite.org/fileformat2.html, "B-tree Pages"). Files are mapped into memory: nobody may
write to them or cut them off meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unified_db import pieces, sqlite
from unified_db.errors import SourceError
from unified_db.migration.btree import UnknownError
from unified_db.sqlite import fold
from unified_db.writeback import Writeback

Numbers = NDArray[np.int64]

_KINDS = _INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
# SQLite goes no deeper (BTCURSOR_MAX_DEPTH in its btreeInt.h).
_MOST_LEVELS = 20
_MOST_PAGES = 0xFFFFFFFE
# SQLite keeps no larger record.
_MOST_PAYLOAD_BYTES = 0x7FFFFFFF
# Bounds what is in memory of a tree at a time: pages that are parsed, and pages that are copied.
_PARSED_BYTES = 8 << 20
_COPIED_BYTES = 1 << 18
_STEPS_BETWEEN_LOOKS = 2048
# So few chains of overflow pages are quicker followed one by one.
_FEW_CHAINS = 16
# Where SQLite puts its locks, no page may be ("The Lock-Byte Page" there).
_LOCK_BYTES_AT = 0x40000000

_ERRORS = (struct.error, IndexError, ValueError, OSError)


@dataclass(frozen=True)
class SchemaRow:
    """An entry of the schema that has a tree."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None


def schema_rows(path: Path) -> tuple[SchemaRow, ...]:
    """The tables and indexes of *path* that have a tree of their own, SQLite's own too, in their order.

    Raises:
        UnknownError: It cannot be read, or a row of it may mean something else to SQLite than it says.
    """
    try:
        return _read_schema_rows(path)
    except (sqlite3.Error, SourceError, UnicodeDecodeError) as error:
        raise UnknownError from error


def _read_schema_rows(path: Path) -> tuple[SchemaRow, ...]:
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        rows = conn.execute(
            "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE rootpage <> 0 ORDER BY rowid"
        ).fetchall()
        kinds = conn.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'").fetchall()
        with_pages = {name: bool(wr) for name, kind, wr in kinds if kind in ("table", "shadow")}
        known = {("table", name) for name in with_pages}
        for name, without_rowid in with_pages.items():
            found = conn.execute("SELECT name, origin FROM pragma_index_list(?, 'main')", (name,))
            # The primary key of a table without rowids is the table.
            known |= {("index", index) for index, origin in found if origin != "pk" or not without_rowid}
    roots = {1, *(root for *_, root, _ in rows)}
    if (
        not all((kind, name) in known and type(root) is int for kind, name, _, root, _ in rows)
        or len({fold(name) for _, name, *_ in rows}) != len(rows)
        or len(roots) != len(rows) + 1
    ):
        raise UnknownError
    return tuple(SchemaRow(*row) for row in rows)


@dataclass(frozen=True)
class Tree:
    """The pages of one table or index.

    Attributes:
        pages: Their numbers: the root, the levels below it, then overflow pages, in an order that follows
            from what they hold.
        pointers: Where in the file, in bytes, the number of each page but the root stands, in the same order.
    """

    pages: Numbers
    pointers: Numbers


class PageFile:
    """A database file as its pages.

    Raises:
        UnknownError: It is not whole pages, as its header has them.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Without what numpy's class for mapped files does for every slice.
            self.content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
            head = self.content[:100].tobytes()
            (size,) = struct.unpack_from(">H", head, 16)
            change, self.pages = struct.unpack_from(">II", head, 24)
            self.schema_format, self.auto_vacuum, self.encoding, self.incremental = (
                struct.unpack_from(">I", head, at)[0] for at in (44, 52, 56, 64)
            )
            (valid_for,) = struct.unpack_from(">I", head, 92)
        except _ERRORS as error:
            raise UnknownError from error
        self.page_bytes = 65536 if size == 1 else size
        self.usable_bytes = self.page_bytes - head[20]
        # SQLite believes the header only then, and the size of the file otherwise.
        if valid_for != change:
            self.pages = len(self.content) // max(self.page_bytes, 1)
        if not self.pages or self.pages * self.page_bytes != len(self.content):
            raise UnknownError

    @property
    def meaning(self) -> tuple[int, int, int, int]:
        """What decides how the bytes of its pages are read."""
        return self.page_bytes, self.usable_bytes, self.encoding, self.schema_format

    @property
    def lock_page(self) -> int:
        """The page that stays empty, in a file that is so large."""
        return _LOCK_BYTES_AT // self.page_bytes + 1

    def rows(self) -> NDArray[np.uint8]:
        """All bytes, a row for each page."""
        return self.content.reshape(self.pages, self.page_bytes)

    def walk(self, root: int, *, pointers: bool = True) -> Tree:
        """The tree at *root*, without its *pointers* where nobody needs them.

        Raises:
            UnknownError: It is no tree.
        """
        try:
            return _Walk(self, root, pointers=pointers).walk()
        except _ERRORS as error:
            raise UnknownError from error

    def numbers_at(self, places: Numbers, size: int = 4) -> Numbers:
        """The unsigned number of *size* bytes at each of *places*."""
        found = np.zeros(len(places), dtype=np.int64)
        for at in range(size):
            found = found << 8 | self.content[places + at]
        return found


class _Walk:
    """Finds the pages of one tree, level by level and then chain by chain."""

    def __init__(self, file: PageFile, root: int, *, pointers: bool) -> None:
        self._file = file
        self._keeps_pointers = pointers
        self._pages = [np.array([root], dtype=np.int64)]
        self._pointers: list[Numbers] = []
        self._budget = file.pages

    def walk(self) -> Tree:
        if not 1 <= self._pages[0][0] <= self._file.pages:
            raise UnknownError
        level, chains = self._pages[0], list[tuple[Numbers, Numbers]]()
        for _ in range(_MOST_LEVELS):
            kind = self._kind(level)
            below: list[Numbers] = []
            for batch in _batches(level, max(_PARSED_BYTES // self._file.page_bytes, 1)):
                pieces.look()
                owners, cells = self._cells(batch, kind)
                if kind != _INNER_TABLE:
                    chains.append(self._overflowing(owners, cells, kind))
                if kind in (_INNER_INDEX, _INNER_TABLE):
                    below.append(np.concatenate([cells, self._heads(batch) + 8]))
            if not below:
                break
            level = self._follow(np.concatenate(below))
        else:
            raise UnknownError
        self._follow_chains(chains)
        return Tree(
            np.concatenate(self._pages), np.concatenate([np.zeros(0, dtype=np.int64), *self._pointers])
        )

    def _starts(self, pages: Numbers) -> Numbers:
        return (pages - 1) * self._file.page_bytes

    def _heads(self, pages: Numbers) -> Numbers:
        """Where their headers begin: on the first page behind that of the file."""
        return self._starts(pages) + np.where(pages == 1, 100, 0)

    def _kind(self, level: Numbers) -> int:
        """What all pages of *level* are; all leaves of a tree lie at one depth."""
        kinds = self._file.content[self._heads(level)]
        if not (kinds == kinds[0]).all() or kinds[0] not in _KINDS:
            raise UnknownError
        return int(kinds[0])

    def _follow(self, pointers: Numbers) -> Numbers:
        """The pages that *pointers* name, noted."""
        pages = self._file.numbers_at(pointers)
        self._budget -= len(pages)
        # No page is pointed at twice; the first one is that of the schema.
        if self._budget < 0 or (len(pages) and (pages.min() < 2 or pages.max() > self._file.pages)):
            raise UnknownError
        self._pages.append(pages)
        if self._keeps_pointers:
            self._pointers.append(pointers)
        return pages

    def _cells(self, pages: Numbers, kind: int) -> tuple[Numbers, Numbers]:
        """Where the page of each cell begins in the file, and where the cell does."""
        head_bytes = 12 if kind in (_INNER_INDEX, _INNER_TABLE) else 8
        # The first page is alone on its level.
        first = head_bytes + (100 if pages[0] == 1 else 0)
        counts = self._file.numbers_at(self._heads(pages) + 3, 2)
        most = int(counts.max())
        if first + 2 * most > self._file.usable_bytes:
            raise UnknownError
        arrays = self._file.rows()[pages - 1, first : first + 2 * most].view(">u2")
        offsets = arrays[np.arange(most) < counts[:, None]].astype(np.int64)
        owners = np.repeat(self._starts(pages), counts)
        # The smallest cell of an inner page has a number and a byte.
        if len(offsets) and (offsets.min() < head_bytes or offsets.max() > self._file.usable_bytes - 4):
            raise UnknownError
        return owners, owners + offsets

    def _overflowing(self, owners: Numbers, cells: Numbers, kind: int) -> tuple[Numbers, Numbers]:
        """Of the cells that do not hold all of their record: where they point on, and at how many pages."""
        usable = self._file.usable_bytes
        most = usable - 35 if kind == _LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        sizes_at = cells + 4 if kind == _INNER_INDEX else cells
        long = self._may_exceed(sizes_at, most)
        owners, sizes_at = owners[long], sizes_at[long]
        payload, after = self._varints(sizes_at)
        large = payload > most
        payload, after, owners = payload[large], after[large], owners[large]
        if kind == _LEAF_TABLE:
            # The rowid, of which only the length matters here.
            _, after = self._varints(after, whole=False)
        least = (usable - 12) * 32 // 255 - 23
        local = least + (payload - least) % (usable - 4)
        local[local > most] = least
        pointers = after + local
        if len(pointers) and (pointers + 4 > owners + usable).any():
            raise UnknownError
        return pointers, -(-(payload - local) // (usable - 4))

    def _may_exceed(self, places: Numbers, most: int) -> Numbers:
        """Which of the numbers at *places* may be more than *most*; few of those that are not."""
        if most < 0x80:
            return np.arange(len(places))
        content = self._file.content
        which = np.flatnonzero(content[places] >= 0x80)
        first, second = content[places[which]], content[places[which] + 1]
        return which[(second >= 0x80) | (first >= 0x80 + (most >> 7))]

    def _varints(self, places: Numbers, *, whole: bool = True) -> tuple[Numbers, Numbers]:
        """The numbers at *places*, of which *whole* ones are the size of a record, and where each ends."""
        value = np.zeros(len(places), dtype=np.int64)
        ends = places.copy()
        going = np.arange(len(places))
        for nth in range(9):
            # Behind the end of the file there is nothing, which the caller sees from where they end.
            found = self._file.content[np.minimum(ends[going], len(self._file.content) - 1)].astype(np.int64)
            ends[going] += 1
            if whole:
                value[going] = value[going] << 7 | found & 0x7F
            going = going[found >= 0x80]
            if not len(going):
                break
            if whole and nth == 4:
                # SQLite reads a longer number otherwise.
                raise UnknownError
        if len(value) and value.max() > _MOST_PAYLOAD_BYTES:
            raise UnknownError
        return value, ends

    def _follow_chains(self, chains: Sequence[tuple[Numbers, Numbers]]) -> None:
        pointers, left = (np.concatenate(part) for part in zip(*chains, strict=True))
        if left.sum() > self._budget:
            raise UnknownError
        while len(pointers) > _FEW_CHAINS:
            pieces.look()
            starts = self._starts(self._follow(pointers))
            pointers, left = starts[left > 1], left[left > 1] - 1
        for pointer, pages in zip(pointers.tolist(), left.tolist(), strict=True):
            self._follow_chain(pointer, pages)

    def _follow_chain(self, pointer: int, pages: int) -> None:
        content, at = self._file.content.data, list[int]()
        for nth in range(pages):
            if not nth % _STEPS_BETWEEN_LOOKS:
                pieces.look()
            at.append(pointer)
            (page,) = struct.unpack_from(">I", content, pointer)
            if not 2 <= page <= self._file.pages:
                raise UnknownError
            pointer = (page - 1) * self._file.page_bytes
        self._follow(np.array(at, dtype=np.int64))


def _batches(numbers: Numbers, size: int) -> Iterator[Numbers]:
    for begin in range(0, len(numbers), size):
        yield numbers[begin : begin + size]


class _Copied:
    """The pages of trees as copies, in the order of their numbers, with their pointers' places."""

    def __init__(self, file: PageFile, pages: Numbers, pointers: Numbers) -> None:
        self._file = file
        self._order = np.argsort(pages)
        self._pages = pages[self._order]
        self._by_place = np.argsort(pointers)
        self._pointers = pointers[self._by_place]

    def __iter__(self) -> Iterator[tuple[Numbers, NDArray[np.uint8], Numbers, Numbers]]:
        """Some pages at a time.

        Yields:
            Which of the pages they are; a copy of their bytes, a row each; which pointers stand on them, and
            where in these bytes, taken as one row.
        """
        page_bytes, rows = self._file.page_bytes, self._file.rows()
        size = max(_COPIED_BYTES // page_bytes, 1)
        for begin in range(0, len(self._pages), size):
            pieces.look()
            pages = self._pages[begin : begin + size]
            first, end = np.searchsorted(
                self._pointers, [(pages[0] - 1) * page_bytes, pages[-1] * page_bytes]
            )
            pointers = self._pointers[first:end]
            # On a page between those taken here there may be one of another tree.
            slots = np.searchsorted(pages, pointers // page_bytes + 1)
            places = slots * page_bytes + pointers % page_bytes
            yield self._order[begin : begin + size], rows[pages - 1], self._by_place[first:end], places


def same_elsewhere(one: PageFile, mine: Tree, other: PageFile, theirs: Tree) -> bool:
    """True where the pages of two trees differ in nothing but where their pages are.

    Holds where no cell of a page lies over another, which `integrity_check` sees to.
    """
    if len(mine.pages) != len(theirs.pages):
        return False
    rows = other.rows()
    for which, copied, _, places in _Copied(one, mine.pages, mine.pointers):
        found = rows[theirs.pages[which] - 1]
        for content in (copied, found):
            content.reshape(-1)[places[:, None] + np.arange(4)] = 0
        if not np.array_equal(copied, found):
            return False
    return True


def can_append(source: Path, into: Path) -> bool:
    """Whether the pages of *source* mean the same in *into*, so that trees of it can be appended."""
    try:
        return _takes(PageFile(into), PageFile(source))
    except UnknownError:
        return False


def _takes(target: PageFile, source: PageFile) -> bool:
    # With auto_vacuum there are pages that point at others.
    return target.meaning == source.meaning and not target.auto_vacuum


class Appender:
    """Appends trees of other files to a copy of a database, which may be on its way meanwhile.

    Args:
        base: What is copied.
        into: The copy: there, with what comes first in it or without; it has no WAL, and nobody else writes
            behind that. Not made durable.
    """

    def __init__(self, base: Path, into: Path) -> None:
        self._base, self._into = base, into
        self._pages = 0

    def append(
        self, source: Path, roots: Sequence[int], told: Callable[[int], None] | None = None
    ) -> Mapping[int, int]:
        """Append the trees of *source* at *roots*, none of them that of the schema.

        *told* is given bytes as they are written.

        Returns:
            The new root of each tree by the old one; the schema of the copy does not know them yet.

        Raises:
            UnknownError: Nothing was written: pages mean something else there, or a tree is none.
        """
        target, file = PageFile(self._base), PageFile(source)
        if not _takes(target, file):
            raise UnknownError
        trees = list(_walk_all(file, roots))
        if not trees:
            return {}
        pages = np.concatenate([t.pages for t in trees])
        pointers = np.concatenate([t.pointers for t in trees])
        pointed_at = np.concatenate([t.pages[1:] for t in trees])
        after = self._pages or target.pages
        moved = _numbered(pages, after=after, target=target)
        done_bytes = after * target.page_bytes
        with (
            self._into.open("r+b") as stream,
            Writeback(stream.fileno(), done_bytes=done_bytes) as writeback,
        ):
            for which, content, on_them, places in _Copied(file, pages, pointers):
                new = moved[pointed_at[on_them]].astype(">u4").view(np.uint8).reshape(-1, 4)
                content.reshape(-1)[places[:, None] + np.arange(4)] = new
                _write_pages(stream.fileno(), content, moved[pages[which]])
                writeback.reach(int(moved[pages[which[-1]]]) * target.page_bytes)
                if told is not None:
                    told(content.size)
        self._pages = int(moved.max())
        return {root: int(moved[root]) for root in roots}

    def finish(self) -> None:
        """Have the header of the copy, which is there now, say how many pages there are, and be believed."""
        if self._pages:
            with self._into.open("r+b") as stream:
                change = os.pread(stream.fileno(), 4, 24)
                os.pwrite(stream.fileno(), struct.pack(">I", self._pages), 28)
                os.pwrite(stream.fileno(), change, 92)


def _walk_all(file: PageFile, roots: Sequence[int], *, pointers: bool = True) -> Iterator[Tree]:
    """The trees at *roots*.

    Raises:
        UnknownError: One is none, or has a page of another one, or one twice.
    """
    used, uses = np.zeros(file.pages + 1, dtype=bool), 0
    for root in roots:
        tree = file.walk(root, pointers=pointers)
        used[tree.pages] = True
        uses += len(tree.pages)
        if np.count_nonzero(used) != uses:
            raise UnknownError
        yield tree


def require_trees(path: Path) -> None:
    """Return where all tables and indexes of *path* are trees, and no page is in two places.

    What SQLite does with such a file comes to an end. Reads the pages that have pointers.

    Raises:
        UnknownError: It is not so, or not known.
    """
    for _ in _walk_all(PageFile(path), [row.root for row in schema_rows(path)], pointers=False):
        pass


def _numbered(pages: Numbers, *, after: int, target: PageFile) -> Numbers:
    """The numbers that *pages* get behind page *after* of *target*, each at the place of the old one."""
    fresh = after + 1 + np.arange(len(pages))
    if after < target.lock_page:
        fresh[fresh >= target.lock_page] += 1
    if fresh[-1] > _MOST_PAGES:
        raise UnknownError
    moved = np.zeros(pages.max() + 1, dtype=np.int64)
    moved[np.sort(pages)] = fresh
    return moved


def _write_pages(descriptor: int, content: NDArray[np.uint8], numbers: Numbers) -> None:
    """Write rows of *content* as the pages *numbers*, which rise."""
    page_bytes = content.shape[1]
    for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1):
        rest = content[run[0] : run[-1] + 1].data.cast("B")
        at = int(numbers[run[0]] - 1) * page_bytes
        while rest:
            written = os.pwrite(descriptor, rest, at)
            rest, at = rest[written:], at + written
