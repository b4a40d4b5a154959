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
from unified_db.migration import copy, langgraph
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Backup, Layout, Rename, SchemaObject, Union
from unified_db.migration.renaming import rename_objects
from unified_db.sqlite import fold


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
        """What the object called *original* in the source, in any case, is called in the unified file."""
        renamed = {fold(old): new for old, new in self.renamed.items()}
        return renamed.get(fold(original), original)

    @property
    def united_elsewhere(self) -> tuple[Placed, ...]:
        """United tables whose home is another source, with what stands on them."""
        return tuple(p for p in self.placed if p.union is not None and p.union.home != self.label)

    def union_of(self, table: str) -> Union | None:
        """The united table that the source's *table* is part of; None where it stays alone."""
        found = (p.union for p in self.placed if p.original.kind == "table" and p.original.name == table)
        return next(found, None)


def configured(config: MigrationConfig) -> Layout:
    """What the configuration says, with sources named by their labels."""
    return Layout(
        renames=tuple(
            Rename(source=config.label(config.resolve(r.source)), object=r.object, to=r.to)
            for r in config.rename
        ),
        unions=tuple(Union(table=u.table, home=config.label(config.resolve(u.home))) for u in config.union),
    )


def settle(layout: Layout, places: Sequence[SourceLayout]) -> Layout:
    """*layout* with each union's table named as its home spells it, which is how the unified file does."""
    spelt = {
        (source.label, fold(item.unified.name)): item.unified.name
        for source in places
        for item in source.placed
    }
    unions = (
        u.model_copy(update={"table": spelt.get((u.home, fold(u.table)), u.table)}) for u in layout.unions
    )
    return layout.model_copy(update={"unions": tuple(unions)})


def from_options(
    renames: Sequence[str], unions: Sequence[str], schemas: Sequence[tuple[str, Sequence[SchemaObject]]]
) -> Layout:
    """What the options `--rename SOURCE:OLD=NEW` and `--union [SOURCE:]TABLE` say.

    Args:
        renames: Values of the one.
        unions: Values of the other; without SOURCE the first source that has the table is its home.
        schemas: Every source's label with its objects.

    Raises:
        UsageError: Not of that form, or of no source.
    """
    labels = [label for label, _ in schemas]
    read = [_read_rename(text, labels) for text in renames]
    return Layout(
        renames=tuple(read),
        unions=tuple(_read_union(text, schemas, Layout(renames=tuple(read))) for text in unions),
    )


def _read_rename(text: str, labels: Sequence[str]) -> Rename:
    source = _source_of(text, labels)
    old, equals, new = text.removeprefix(f"{source}:").partition("=")
    if source is None or not (old and equals and new):
        raise UsageError(
            f"--rename {text} is not SOURCE:OLD=NEW with one of the sources {', '.join(labels)}",
            hint="Nothing was written. Name the source just as it is named on this command line.",
        )
    return Rename(source=source, object=old, to=new)


def _read_union(text: str, schemas: Sequence[tuple[str, Sequence[SchemaObject]]], renamed: Layout) -> Union:
    source = _source_of(text, [label for label, _ in schemas])
    if source is not None:
        return Union(table=text.removeprefix(f"{source}:"), home=source)
    for label, objects in schemas:
        names = {fold(p.unified.name) for p in place(label, objects, renamed).placed}
        if fold(text) in names:
            return Union(table=text, home=label)
    raise UsageError(
        f"--union {text}: no source has a table {text}",
        hint="Nothing was written. Name the table as the unified file shall have it, or SOURCE:TABLE.",
    )


def _source_of(text: str, labels: Sequence[str]) -> str | None:
    """The source that *text* begins with; a path may hold a colon itself, so the labels decide."""
    found = [label for label in labels if text.startswith(f"{label}:")]
    return max(found, key=len, default=None)


def place_all(
    schemas: Sequence[tuple[str, Sequence[SchemaObject]]], layout: Layout
) -> tuple[SourceLayout, ...]:
    """As :func:`place` for every source, given as pairs of its label and its objects.

    Raises:
        UsageError: *layout* names a source that is not there, or as :func:`place` does.
        SourceError: As :func:`place` does.
    """
    require_known(layout, [label for label, _ in schemas])
    return tuple(place(label, objects, layout) for label, objects in schemas)


def place(label: str, objects: Sequence[SchemaObject], layout: Layout) -> SourceLayout:
    """Where *objects* of the source called *label* are in the unified file.

    Raises:
        UsageError: A rename of something that is not there, or to a name that cannot be.
        SourceError: A rename that SQLite cannot make.
    """
    renames = [r for r in layout.renames if r.source == label]
    for rename in renames:
        own = [o for o in objects if fold(o.name) == fold(rename.object) and langgraph.is_own_table(o)]
        if own:
            raise UsageError(
                f"{own[0].name} of {label} is LangGraph's own table, whose name is in LangGraph's code",
                hint="Nothing was written. Rename the other source's object of that name, or unite the two.",
            )
    # Nothing is worked out where nothing changes: that needs no module, function or collation.
    pairs = rename_objects(objects, renames) if renames else tuple((o, o) for o in objects)
    unions = {fold(u.table): u for u in layout.unions}
    return SourceLayout(label, tuple(Placed(old, new, unions.get(fold(new.table))) for old, new in pairs))


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
    objects = [(r.source, fold(r.object)) for r in layout.renames]
    tables = [("", fold(u.table)) for u in layout.unions]
    for source, name in (*objects, *tables):
        if [*objects, *tables].count((source, name)) > 1:
            raise UsageError(
                f"{name}{' of ' + source if source else ''} is named twice",
                hint="Nothing was written. Leave one rename, or one union, of it.",
            )
