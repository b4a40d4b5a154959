"""The same name in two sources: found here, for the plan to show and the merge to refuse."""

from __future__ import annotations

from collections.abc import Sequence

from unified_db.errors import SourceError
from unified_db.migration.records import Collision, SchemaObject


def find_collisions(schemas: Sequence[tuple[str, Sequence[SchemaObject]]]) -> tuple[Collision, ...]:
    """Names that more than one source has, compared without case as SQLite does.

    Args:
        schemas: Pairs of a source's label and its objects.
    """
    places: dict[str, list[tuple[str, SchemaObject]]] = {}
    for label, objects in schemas:
        for item in objects:
            places.setdefault(item.name.lower(), []).append((label, item))
    return tuple(
        Collision(
            name=owners[0][1].name,
            definitions=tuple((label, item.sql or "") for label, item in owners),
            ways_out="Rename the object in one of the sources, or leave that source out.",
        )
        for owners in places.values()
        if len({label for label, _ in owners}) > 1
    )


def require_no_collisions(collisions: Sequence[Collision]) -> None:
    """Return where *collisions* is empty.

    Raises:
        SourceError: Names the first with the sources that have it.
    """
    if not collisions:
        return
    first = collisions[0]
    owners = " and ".join(label for label, _ in first.definitions)
    more = f" (and {len(collisions) - 1} more names)" if len(collisions) > 1 else ""
    definitions = "\n".join(f"  {label}: {sql}" for label, sql in first.definitions)
    raise SourceError(
        f"both {owners} have an object named {first.name}{more}:\n{definitions}",
        hint=f"Nothing was written. {first.ways_out}",
    )
