"""Says for every object of every source what it is in the unified file: its name and its definition.

Below the phases: the plan and the merge refuse by it, and merge, proof, cut-over and way back
translate with it. Without renames and unions everything is called what it was called before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.errors import UsageError
from unified_db.migration import copy
from unified_db.migration.records import Backup, Layout, SchemaObject, Union
from unified_db.migration.renaming import rename_objects


@dataclass(frozen=True)
class Placed:
    """One object of a source and what it is in the unified file.

    Attributes:
        union: The united table that it is, or that it is an index or trigger of; None elsewhere.
    """

    original: SchemaObject
    unified: SchemaObject
    union: Union | None = None


@dataclass(frozen=True)
class SourceLayout:
    """Where the objects of the source called *label* are in the unified file.

    Attributes:
        placed: Every object of the source, in its order.
    """

    label: str
    placed: tuple[Placed, ...]

    @property
    def unified(self) -> tuple[SchemaObject, ...]:
        """All objects as the unified file has them."""
        return tuple(p.unified for p in self.placed)

    @property
    def renamed(self) -> Mapping[str, str]:
        """New names by the old ones: of tables with their shadow tables, indexes, views and triggers."""
        return {p.original.name: p.unified.name for p in self.placed if p.original.name != p.unified.name}

    def name(self, original: str) -> str:
        """What the object called *original* in the source is called in the unified file."""
        return self.renamed.get(original, original)

    def union_of(self, table: str) -> Union | None:
        """The united table that the source's *table* is part of; None where it stays alone."""
        found = (p.union for p in self.placed if p.original.kind == "table" and p.original.name == table)
        return next(found, None)


def place(label: str, objects: Sequence[SchemaObject], layout: Layout) -> SourceLayout:
    """Where *objects* of the source called *label* are in the unified file.

    Raises:
        UsageError: A rename of something that is not there, or to a name that cannot be.
        SourceError: A rename that SQLite cannot make.
    """
    renames = [r for r in layout.renames if r.source == label]
    # Nothing is worked out where nothing changes: that needs no module, function or collation.
    pairs = rename_objects(objects, renames) if renames else tuple((o, o) for o in objects)
    unions = {u.table.lower(): u for u in layout.unions}
    return SourceLayout(label, tuple(Placed(old, new, unions.get(new.table.lower())) for old, new in pairs))


def place_backup(backup: Backup, layout: Layout) -> SourceLayout:
    """As :func:`place`, for the objects of *backup*."""
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        return place(backup.label, copy.read_objects(conn), layout)


def place_attached(
    conn: sqlite3.Connection, label: str, layout: Layout, *, schema: str = "src"
) -> SourceLayout:
    """As :func:`place`, for the objects of a database that is attached to *conn*."""
    return place(label, copy.read_objects(conn, schema), layout)


def require_known(layout: Layout, labels: Sequence[str]) -> None:
    """Return where *layout* speaks only of the sources called *labels*, and of each object once.

    Raises:
        UsageError: Names what it is about.
    """
    named = [(r.source, f"the rename of {r.object}") for r in layout.renames]
    named += [(u.home, f"the union of {u.table}") for u in layout.unions]
    for source, what in named:
        if source not in labels:
            raise UsageError(
                f"{what} names a source {source} that there is not; the sources are {', '.join(labels)}",
                hint="Nothing was written. Name the source as it is named there.",
            )
    objects = [(r.source, r.object.lower()) for r in layout.renames]
    tables = [("", u.table.lower()) for u in layout.unions]
    for source, name in (*objects, *tables):
        if [*objects, *tables].count((source, name)) > 1:
            raise UsageError(
                f"{name}{' of ' + source if source else ''} is named twice",
                hint="Nothing was written. Leave one rename, or one union, of it.",
            )
