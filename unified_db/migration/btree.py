"""Which rows of which tables may have changed, told from the pages that were written.

The inner pages of a table's tree say which rowids each of its leaves holds. A row that was inserted,
changed or deleted lies, by its rowid, on a leaf that was written: SQLite writes every page that it moves
rows between. A value that does not fit lies in a chain of overflow pages, where it may be changed alone.
So every written page has to be accounted for, as one of a tree, of a chain that begins on a written
leaf, or of the free list; where one is not, nothing is said, and whoever asks compares everything.

The format is SQLite's (sqlite.org/fileformat2.html, "B-tree Pages").
"""

from __future__ import annotations

import heapq
import itertools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unified_db import pieces
from unified_db.migration.compare import WHOLE, Span

_INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_INNER = (_INNER_INDEX, _INNER_TABLE)
_LARGEST_ROWID = (1 << 63) - 1
# Up to so many pages the number of one that follows, with which an overflow page begins, has a first byte
# of 0: none is taken for a page of a tree.
_MOST_PAGES = 1 << 24
# Where more leaves than that were written, neighbours are taken together.
_MOST_SPANS = 512


class UnknownError(Exception):
    """A page cannot be accounted for; never leaves the modules that walk trees."""


@dataclass
class _Tables:
    """What was found of the pages of all tables.

    Attributes:
        spans: Of each table the rowids on leaves that were written.
        leaves: The written leaves of tables with rowids.
        known: For each page of the file whether it is one of a table's tree.
    """

    known: NDArray[np.bool_]
    spans: dict[str, list[Span]] = field(default_factory=dict)
    leaves: list[int] = field(default_factory=list)


class File:
    """A database file that nobody writes, page by page."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        head = os.pread(descriptor, 100, 0)
        if len(head) < 100:
            raise UnknownError
        (size,) = struct.unpack_from(">H", head, 16)
        self.page_bytes = 65536 if size == 1 else size
        self.usable_bytes = self.page_bytes - head[20]
        (self.first_free,) = struct.unpack_from(">I", head, 32)
        self.auto_vacuum, self.encoding = struct.unpack_from(">II", head, 52)
        self.pages, beyond = divmod(os.fstat(descriptor).st_size, self.page_bytes)
        if beyond:
            raise UnknownError

    def read(self, page: int) -> bytes:
        """The bytes of *page*, the first of which is 1."""
        if not 1 <= page <= self.pages:
            raise UnknownError
        return os.pread(self.descriptor, self.page_bytes, (page - 1) * self.page_bytes)


def changed_rows(
    descriptor: int, roots: Mapping[str, int], written: Set[int]
) -> dict[str, list[Span]] | None:
    """The rows that may differ from those before *written* were written; None where that is not known.

    Args:
        descriptor: Open for reading, of a database that is complete without a WAL and that nobody writes.
        roots: The root page of each table, SQLite's own included.
        written: The numbers of all pages that were written since.

    Returns:
        Of each table in which rows may have changed the spans that hold them; the whole table, if
        any, where it has no rowids.
    """
    try:
        return _find(File(descriptor), roots, written)
    except (UnknownError, struct.error, IndexError, ValueError):
        return None


def _find(file: File, roots: Mapping[str, int], written: Set[int]) -> dict[str, list[Span]]:
    # With auto_vacuum there are pages that point at others, and pages that move.
    if file.auto_vacuum or file.pages >= _MOST_PAGES:
        raise UnknownError
    is_written = np.zeros(file.pages + 1, dtype=bool)
    # What is beyond the end is not there any more.
    is_written[[p for p in written if 0 < p <= file.pages]] = True
    found = _Tables(np.zeros(file.pages + 1, dtype=bool))
    for name, root in roots.items():
        _walk_tree(file, name, root, is_written, found)
    _account_for(file, is_written, found)
    return {name: _joined(spans) for name, spans in found.spans.items()}


def _walk_tree(file: File, name: str, root: int, is_written: NDArray[np.bool_], found: _Tables) -> None:
    """Note in *found* the pages of the tree at *root*, and the rows on its leaves that were written."""
    found.known[root] = True
    kind = _kind(root, file.read(root))
    if kind == _LEAF_TABLE:
        if is_written[root]:
            found.spans.setdefault(name, []).append(WHOLE)
            found.leaves.append(root)
    elif kind == _INNER_TABLE:
        for page, span in _written_leaves(file, root, is_written, found.known):
            found.spans.setdefault(name, []).append(span)
            found.leaves.append(page)
    elif kind in (_INNER_INDEX, _LEAF_INDEX):
        # Of a table without rowids no page is looked for: whether it changed is not worth knowing.
        found.spans[name] = [WHOLE]
    else:
        raise UnknownError


def _written_leaves(
    file: File, root: int, is_written: NDArray[np.bool_], known: NDArray[np.bool_]
) -> Iterator[tuple[int, Span]]:
    """The written leaves of a tree with inner pages, and the rowids on each; *known* gets all its pages."""
    todo: list[tuple[int, int | None, int | None]] = [(root, None, None)]
    depth = _inner_levels(file, root)
    for level in range(depth):
        below: list[tuple[int, int | None, int | None]] = []
        for page, first, end in todo:
            content = file.read(page)
            if _kind(page, content) != _INNER_TABLE:
                raise UnknownError
            children, cells = _children(page, content)
            known[children] = True
            wanted = np.flatnonzero(is_written[children]) if level == depth - 1 else range(len(children))
            for place in map(int, wanted):
                low = _key(content, cells, place - 1) + 1 if place else first
                high = _end(_key(content, cells, place)) if place < len(cells) else end
                below.append((int(children[place]), low, high))
        todo = below
    for page, first, end in todo:
        if file.read(page)[0] != _LEAF_TABLE:
            raise UnknownError
        yield page, Span(first, end)


def _end(key: int) -> int | None:
    return key + 1 if key < _LARGEST_ROWID else None


def _inner_levels(file: File, root: int) -> int:
    """How many levels of inner pages a tree has; all its leaves lie at one depth."""
    page, levels = root, 0
    while _kind(page, content := file.read(page)) in _INNER:
        levels += 1
        page = int(_children(page, content)[0][0])
        if levels > 20:
            raise UnknownError
    return levels


def _kind(page: int, content: bytes) -> int:
    return content[_start(page)]


def _start(page: int) -> int:
    """Where the header of a page of a tree lies: on the first page behind that of the file."""
    return 100 if page == 1 else 0


def _children(page: int, content: bytes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The children of an inner page in their order, and where the cell of each but the last lies."""
    start = _start(page)
    count, last = (
        struct.unpack_from(">H", content, start + 3)[0],
        struct.unpack_from(">I", content, start + 8)[0],
    )
    cells = np.frombuffer(content, dtype=">u2", count=count, offset=start + 12).astype(np.intp)
    raw = np.frombuffer(content, dtype=np.uint8)
    pages = raw[cells[:, None] + np.arange(4)].copy().view(">u4")[:, 0].astype(np.intp)
    children = np.append(pages, last)
    return children, cells


def _key(content: bytes, cells: NDArray[np.intp], place: int) -> int:
    return _varint(content, int(cells[place]) + 4)[0]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The signed 64-bit number at *at*, and where it ends."""
    value = 0
    for place in range(8):
        byte = content[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    value = value << 8 | content[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def _account_for(file: File, is_written: NDArray[np.bool_], found: _Tables) -> None:
    """Return where every written page is one whose rows are known."""
    rest = np.flatnonzero(is_written & ~found.known).tolist()
    left = {p for p in rest if not _is_index(file.read(p))}
    if left:
        left -= free_pages(file)
    _require_chained(file, left, found.leaves)


def _is_index(content: bytes) -> bool:
    return content[0] in (_INNER_INDEX, _LEAF_INDEX)


def free_pages(file: File) -> set[int]:
    """The pages that nothing uses.

    Raises:
        UnknownError: It is no list of free pages.
    """
    free: set[int] = set()
    trunk = file.first_free
    while trunk:
        content = file.read(trunk)
        follows, count = struct.unpack_from(">II", content)
        if count > len(content) // 4 - 2:
            raise UnknownError
        more = {trunk, *struct.unpack_from(f">{count}I", content, 8)}
        if len(more) != count + 1 or free & more or max(more) > file.pages:
            raise UnknownError
        free |= more
        trunk = follows
    return free


def _require_chained(file: File, pages: set[int], leaves: Iterable[int]) -> None:
    """Return where each of *pages* is in a chain of overflow pages that begins on one of *leaves*.

    Leaves of an index, and inner pages, are looked over.

    Raises:
        UnknownError: One of *pages* may be anything.
    """
    left = set(pages)
    # No page is in two chains.
    budget = file.pages
    for leaf in leaves:
        if not left:
            return
        pieces.look()
        for begin, rest_bytes in _overflowing(file, leaf):
            for page in _chain(file, begin, rest_bytes):
                left.discard(page)
                budget -= 1
                if budget < 0:
                    raise UnknownError
    if left:
        raise UnknownError


def _overflowing(file: File, leaf: int) -> Iterator[tuple[int, int]]:
    """Where the chain of each row begins that has one, and how many bytes it holds."""
    content = file.read(leaf)
    start = _start(leaf)
    if content[start] != _LEAF_TABLE:
        return
    (count,) = struct.unpack_from(">H", content, start + 3)
    for at in struct.unpack_from(f">{count}H", content, start + 8):
        payload, after = _varint(content, at)
        # SQLite itself keeps no more, and reads a longer number otherwise.
        if not 0 <= payload < 1 << 31 or after - at > 5:
            raise UnknownError
        _, after = _varint(content, after)
        local = _local_bytes(payload, file.usable_bytes)
        if local < payload:
            yield struct.unpack_from(">I", content, after + local)[0], payload - local


def _chain(file: File, page: int, rest_bytes: int) -> Iterator[int]:
    while rest_bytes > 0:
        yield page
        rest_bytes -= file.usable_bytes - 4
        if rest_bytes > 0:
            (page,) = struct.unpack_from(">I", file.read(page))


def _local_bytes(payload: int, usable: int) -> int:
    """How much of a row of *payload* bytes lies on its leaf."""
    most = usable - 35
    if payload <= most:
        return payload
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (payload - least) % (usable - 4)
    return fitting if fitting <= most else least


def _joined(spans: list[Span]) -> list[Span]:
    """*spans*, which lie in order, as few enough to be asked for one by one: those nearest taken together."""
    gaps = [_gap(one, other) for one, other in itertools.pairwise(spans)]
    cuts = sorted(
        heapq.nlargest(_MOST_SPANS - 1, (n for n, gap in enumerate(gaps) if gap), key=gaps.__getitem__)
    )
    bounds = itertools.pairwise([-1, *cuts, len(spans) - 1])
    return [Span(spans[before + 1].first, spans[last].end) for before, last in bounds]


def _gap(one: Span, other: Span) -> int:
    """How many rowids lie between two spans, the first of which has an end and the second a beginning."""
    return (other.first or 0) - (one.end or 0)
