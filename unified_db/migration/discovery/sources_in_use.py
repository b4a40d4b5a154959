"""Which databases the application uses: what its settings name, else what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from unified_db.migration.discovery.databases import look_at
from unified_db.migration.discovery.finds import DatabaseFind, EngineUse, Role, SaverUse, TreeReading
from unified_db.migration.records import Record, SourceKind


class SourceChoice(Record):
    """A database that may move.

    Attributes:
        path: As in `[[source]]`: relative to the root, or absolute outside of it.
        why: What speaks for it, as one sentence without its full stop.
        sure: False where a person has to say whether it moves.
        threads: Columns that name threads, as "table.column".
        holds_checkpoints: True where LangGraph's checkpoints are in it.
        doubt: What a person should know of it before a run; else empty.
    """

    path: Path
    kind: SourceKind
    why: str
    sure: bool
    threads: tuple[str, ...] = ()
    holds_checkpoints: bool = False
    doubt: str = ""


def named_files(reading: TreeReading, root: Path) -> dict[Path, str]:
    """Each file that the application opens or that a winning setting names, with the place that says so."""
    named: dict[Path, str] = {}
    for setting in reading.settings:
        if setting.wins and setting.resolved is not None:
            named.setdefault((root / setting.resolved).resolve(), str(setting.place))
    uses: tuple[SaverUse | EngineUse, ...] = (*reading.savers, *reading.engines)
    for use in uses:
        if use.resolved is not None:
            named.setdefault((root / use.resolved).resolve(), str(use.place))
    return named


def with_configured(
    found: Sequence[DatabaseFind], reading: TreeReading, root: Path
) -> tuple[DatabaseFind, ...]:
    """*found* and the databases that settings name elsewhere, those that were never created too."""
    known = {(root / d.path).resolve() for d in found}
    others = [look_at(path, root=root) for path in named_files(reading, root) if path not in known]
    told = [
        d
        if (root / d.path).exists()
        else d.model_copy(update={"decoy": "it is configured, and was never created"})
        for d in others
    ]
    return tuple(sorted((*found, *told), key=lambda d: str(d.path)))


def choose(databases: Sequence[DatabaseFind], reading: TreeReading, root: Path) -> tuple[SourceChoice, ...]:
    """The databases that may move, the application's first.

    What a setting that wins names is sure, whatever its name looks like. Of what nothing names a
    database is sure where it is the only one that looks like its kind, and no setting names one.
    """
    missing = {
        s.role
        for s in reading.settings
        if s.wins and s.resolved is not None and not (root / s.resolved).exists()
    }
    chosen = list(_choose(databases, named_files(reading, root), missing, root))
    order = {"application": 0, "checkpoints": 1, "store": 2, "other": 3}
    return tuple(sorted(chosen, key=lambda s: (not s.sure, order[s.kind], str(s.path))))


_ROLES: dict[str, Role] = {"checkpoints": "checkpoints", "store": "store", "application": "engine"}


def _choose(
    databases: Sequence[DatabaseFind], named: dict[Path, str], missing: AbstractSet[Role], root: Path
) -> Iterator[SourceChoice]:
    usable = [d for d in databases if d.tables and not d.problem]
    places = {d.path: named.get((root / d.path).resolve(), "") for d in usable}
    for find in usable:
        rivals = [
            d for d in usable if d.kind == find.kind and d is not find and (places[d.path] or not d.decoy)
        ]
        place = places[find.path]
        if not place and find.decoy:
            continue
        role = _ROLES.get(find.kind)
        alone = not rivals and role is not None and role not in missing
        named_by = f"{place} names it" if place else "no setting that could be read names it"
        yield SourceChoice(
            path=find.path,
            kind=find.kind,
            why=f"{'; '.join(find.why)}; {named_by}",
            sure=bool(place) or alone,
            holds_checkpoints=bool(find.era),
            doubt=_doubt(find, place=place),
        )


def _doubt(find: DatabaseFind, *, place: str) -> str:
    if find.era == "before checkpoint_ns":
        return (
            f"{find.path} holds checkpoints from before LangGraph had the column checkpoint_ns, which a run "
            "refuses. Can it go?"
        )
    if find.path.is_absolute():
        return (
            f"{find.path} lies outside of the application's tree, so a rehearsal cannot copy it. Can [app] "
            "root be a folder that holds both?"
        )
    if place and find.decoy:
        return f"{find.path} looks like something else ({find.decoy}), but {place} names it. Is that right?"
    return "" if place else f"No setting that could be read names {find.path}. Does the application use it?"
