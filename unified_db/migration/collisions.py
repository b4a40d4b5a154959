"""The same name in two sources, or one by which another means something else (`claims.py`).

Found here, with the ways out, for the plan to show and the merge to refuse.
Names are compared over all kinds of objects and without case, as SQLite does in one file. What
SQLite names itself cannot collide alone: an automatic index carries its table's name, and the
shadow tables of a virtual table are reported with it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from unified_db.errors import SourceError
from unified_db.migration import definitions, langgraph
from unified_db.migration.claims import Claim, find_claims
from unified_db.migration.copy import is_virtual
from unified_db.migration.layout import Placed, SourceLayout
from unified_db.migration.records import Collision, SourceKind
from unified_db.sqlite import fold

_MOST_SHOWN = 8
VERSION_TABLE = "alembic_version"


@dataclass(frozen=True)
class _Owner:
    """One object in a collision, with the source that it is from."""

    label: str
    item: Placed

    @property
    def table(self) -> bool:
        """True for a table that holds rows."""
        return self.item.unified.kind == "table" and not is_virtual(self.item.unified)


def find_collisions(
    places: Sequence[SourceLayout], kinds: Mapping[str, SourceKind] | None = None
) -> tuple[Collision, ...]:
    """Names that more than one source has in the unified file, and that are not united there.

    Args:
        places: Where the objects of each source are.
        kinds: What each source holds, by its label; says which Alembic history keeps its table.
    """
    owners: dict[str, list[_Owner]] = {}
    for source in places:
        for item in source.placed:
            owners.setdefault(fold(item.unified.name), []).append(_Owner(source.label, item))
    clashes = [g for g in owners.values() if len(g) > 1 and not (_are_united(g) or _stood_together(g))]
    virtual = {(o.label, fold(o.item.unified.name)) for g in clashes for o in g if is_virtual(o.item.unified)}
    same_name = [
        _describe(group, taken=owners.keys(), kinds=kinds or {})
        for group in clashes
        if not all(_is_shadow(o, virtual) for o in group)
    ]
    return (*same_name, *(_describe_claim(claim, owners.keys()) for claim in find_claims(places)))


def _stood_together(owners: Sequence[_Owner]) -> bool:
    """True where one file had all of them under these names: a trigger may be called like a table."""
    kept = all(o.item.original.name == o.item.unified.name for o in owners)
    return kept and len({o.label for o in owners}) == 1


def require_no_collisions(collisions: Sequence[Collision]) -> None:
    """Return where *collisions* is empty.

    Raises:
        SourceError: Names each with the sources that have it, their definitions and the ways out.
    """
    if not collisions:
        return
    names = ", ".join(c.name for c in collisions[:_MOST_SHOWN])
    owners = " and ".join(dict.fromkeys(label for c in collisions for label, _ in c.definitions))
    what = "an object" if len(collisions) == 1 else f"{len(collisions)} objects"
    shown = "\n".join(f"  {label}: {sql}" for c in collisions[:_MOST_SHOWN] for label, sql in c.definitions)
    # All of them, to be copied as a whole: with some of the names only, the next attempt fails again.
    ways = "\n".join(c.ways_out for c in collisions)
    raise SourceError(
        f"{owners} have {what} named {names}{' ...' if len(collisions) > _MOST_SHOWN else ''}, "
        f"and one file can have each name once:\n{shown}",
        hint=f"Nothing was written. The ways out, for unify.toml or as options of `merge` and `validate`:\n"
        f"{ways}",
    )


def _are_united(group: Sequence[_Owner]) -> bool:
    """True where all of *group* are one table of the layout, or the same index or trigger of one."""
    first = group[0].item
    if any(o.item.union is None or o.item.union != first.union for o in group):
        return False
    if any(o.item.unified.kind != first.unified.kind for o in group):
        return False
    if first.unified.kind == "table":
        return all(o.table for o in group)
    return all(definitions.same_words(str(first.unified.sql), str(o.item.unified.sql)) for o in group)


def _are_on_one_union(group: Sequence[_Owner]) -> bool:
    """True where all of *group* are indexes or triggers on one united table."""
    union = group[0].item.union
    return union is not None and all(
        o.item.union == union and o.item.unified.kind in ("index", "trigger") for o in group
    )


def _is_shadow(owner: _Owner, virtual: set[tuple[str, str]]) -> bool:
    name = fold(owner.item.unified.name)
    return any(label == owner.label and name.startswith(f"{table}_") for label, table in virtual)


def _describe(
    group: Sequence[_Owner], *, taken: Collection[str], kinds: Mapping[str, SourceKind]
) -> Collision:
    return Collision(
        name=group[0].item.unified.name,
        definitions=tuple(
            (o.label, definitions.shorten(o.item.original.sql or f"{o.item.original.kind}, made by SQLite"))
            for o in group
        ),
        ways_out="\n".join(_ways_out(group, taken, kinds)),
    )


def _describe_claim(claim: Claim, taken: Collection[str]) -> Collision:
    means = f"{definitions.shorten(claim.by.original.sql or '')} -- {claim.why}"
    has = definitions.shorten(claim.item.original.sql or "")
    return Collision(
        name=claim.item.unified.name,
        definitions=((claim.label, means), (claim.owner, has)),
        ways_out=_rename_way(_Owner(claim.owner, claim.item), taken),
    )


def _ways_out(
    group: Sequence[_Owner], taken: Collection[str], kinds: Mapping[str, SourceKind]
) -> Iterator[str]:
    name = group[0].item.unified.name
    foreign = [o for o in group if not langgraph.is_own_table(o.item.original)]
    if fold(name) == VERSION_TABLE:
        yield from _alembic_ways(group, taken, kinds)
        return
    if len(foreign) < len(group):
        for owner in foreign:
            yield (
                f"# {name} of {owner.label} has one of LangGraph's names without LangGraph's columns: "
                "rename the application's table, since LangGraph's own name is in LangGraph's code."
            )
    if foreign and not _are_on_one_union(group):
        yield _rename_way(_to_rename(foreign, kinds), taken)
    if _could_unite(group):
        home = group[0].label
        yield f"# One table for the rows of {' and '.join(o.label for o in group)}, compared by key:"
        yield _union_text(name, home)
    elif _are_on_one_union(group):
        table = group[0].item.unified.table
        yield (
            f"# {table} is united, so what is on it holds for the rows of all: bring {name} to one "
            f"definition in all of them, or rename {table} in one instead."
        )
    elif not foreign:
        yield f"# Their definitions of {name} do not agree, so leave one of these sources out."


def _alembic_ways(
    group: Sequence[_Owner], taken: Collection[str], kinds: Mapping[str, SourceKind]
) -> Iterator[str]:
    owner = _to_rename(group, kinds)
    new = _free_name(owner, taken)
    yield (
        "# Two Alembic histories need a version table each. The application's keeps its name; the other is "
        f'renamed, and its env.py says so with an edit: context.configure(..., version_table="{new}").'
    )
    yield _rename_way(owner, taken)
    if _could_unite(group):
        yield "# Or, where both files are stamped by one and the same history:"
        yield _union_text(group[0].item.unified.name, group[0].label)


def _to_rename(group: Sequence[_Owner], kinds: Mapping[str, SourceKind]) -> _Owner:
    """Whose object is renamed: not the application's where another one is there, else the last's."""
    others = [o for o in group if kinds.get(o.label) != "application"]
    return (others or list(group))[-1]


def _rename_way(owner: _Owner, taken: Collection[str]) -> str:
    old, new = owner.item.original.name, _free_name(owner, taken)
    option = shlex.quote(f"{owner.label}:{old}={new}")
    return (
        f"[[rename]]  # or --rename {option}\n"
        f"source = {_toml(owner.label)}\nobject = {_toml(old)}\nto = {_toml(new)}"
    )


def _union_text(table: str, home: str) -> str:
    option = shlex.quote(f"{home}:{table}")
    return f"[[union]]  # or --union {option}\ntable = {_toml(table)}\nhome = {_toml(home)}"


def _toml(text: str) -> str:
    # A JSON string is a TOML basic string, but for characters that no name has.
    return json.dumps(text, ensure_ascii=False)


def _free_name(owner: _Owner, taken: Collection[str]) -> str:
    stem = re.sub(r"\W+", "_", PurePath(owner.label).stem).strip("_").lower() or "other"
    old = owner.item.original.name
    name = f"{old}_{stem}" if fold(old) == VERSION_TABLE else f"{stem}_{old}"
    number = 2
    while fold(name) in taken:
        name = f"{stem}{number}_{old}"
        number += 1
    return name


def _could_unite(group: Sequence[_Owner]) -> bool:
    """True where a union would be taken: all of them tables whose definitions agree."""
    if not all(o.table for o in group):
        return False
    first = langgraph.upgraded_sql(group[0].item.unified)
    return all(definitions.agree(first, langgraph.upgraded_sql(o.item.unified)) for o in group[1:])
