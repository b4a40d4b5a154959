"""Names that a schema takes beyond those of its own objects, and that another source has a table for.

SQLite finds the parts of a virtual table by their names alone: whatever is called `notes_stat` is dropped
with the FTS3 table `notes`. And a table goes before the function of SQLite's own that has its name, so that
a view which asks `json_each` would ask the table.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.migration import definitions
from unified_db.migration.copy import is_virtual
from unified_db.migration.layout import Placed, SourceLayout
from unified_db.sqlite import fold, quote_name

_FULL_TEXT = ("content", "docsize", "segdir", "segments", "stat")
_PLACES = ("node", "parent", "rowid")
# What the modules that SQLite brings call their parts (sqlite.org/fts3.html, fts5.html, rtree.html).
_PARTS = {
    **dict.fromkeys(("fts3", "fts4"), _FULL_TEXT),
    "fts5": ("config", "content", "data", "docsize", "idx"),
    **dict.fromkeys(("rtree", "rtree_i32", "geopoly"), _PLACES),
}


@dataclass(frozen=True)
class Claim:
    """Somebody's object stands where another source's schema means something else.

    Attributes:
        label: The source that means something else.
        by: Its object that does.
        why: What it means by the name.
        owner: The source whose object has the name.
        item: That object.
    """

    label: str
    by: Placed
    why: str
    owner: str
    item: Placed


def find_claims(places: Sequence[SourceLayout]) -> Iterator[Claim]:
    """Every table or view of one source that another one's schema would take for something else."""
    named = {source.label: {fold(p.unified.name) for p in source.placed} for source in places}
    parts = {source.label: _parts_of_all(source) for source in places}
    functions = _functions({n for names in named.values() for n in names})
    for owner in places:
        for item in owner.placed:
            name = fold(item.unified.name)
            if item.unified.kind not in ("table", "view") or name in parts[owner.label]:
                continue
            for other in places:
                if name in named[other.label]:
                    continue
                if by := parts[other.label].get(name):
                    yield Claim(other.label, by, f"takes {name} for a part of itself", owner.label, item)
                elif name in functions and (by := _first_that_mentions(name, other)):
                    yield Claim(other.label, by, f"means SQLite's own {name}", owner.label, item)


def _parts_of_all(source: SourceLayout) -> dict[str, Placed]:
    """The names that the modules of virtual tables of *source* take for parts of them."""
    return {part: p for p in source.placed if is_virtual(p.unified) for part in _parts(p)}


def _parts(virtual: Placed) -> list[str]:
    tokens = [t.normal for t in definitions.read_tokens(virtual.unified.sql or "")]
    module = tokens[tokens.index("using") + 1] if "using" in tokens[:-1] else ""
    return [f"{fold(virtual.unified.name)}_{part}" for part in _PARTS.get(module, ())]


def _first_that_mentions(name: str, source: SourceLayout) -> Placed | None:
    return next((p for p in source.placed if definitions.mentions(p.unified.sql, name)), None)


def _functions(names: Iterable[str]) -> set[str]:
    """Which of *names* may be read from in a database that has no table at all."""
    found: set[str] = set()
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for name in names:
            with contextlib.suppress(sqlite3.Error):
                conn.execute(f"SELECT count(*) FROM {quote_name(name)} WHERE 0").fetchone()
                found.add(name)
    return found
