"""What changed in the unified file's schema since the switch, and to which old file each change belongs.

Pure but for schemas that are compiled in memory. The rules:

* What stands on a table (an index, a trigger) belongs to the source that has the table.
* A new table belongs where the tables belong that its foreign keys name, and where that is which was
  there before and refers to it now; new tables that refer to each other stay together. One that is
  defined as a table which is gone is that table under a new name.
* A view or trigger belongs where everything belongs that it reads and writes.
* What refers to nothing belongs to the one source of kind "application" (or to the only source),
  LangGraph's own tables to the one source that holds such.
* What would belong to two sources, or to a united table, belongs to none and is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from unified_db.errors import UnifyError
from unified_db.migration import copy, definitions, langgraph
from unified_db.migration.layout import Placed, SourceLayout
from unified_db.migration.records import Rename, SchemaObject, SourceKind
from unified_db.migration.references import Key, References, key_of, read_references
from unified_db.migration.renaming import rename_objects
from unified_db.sqlite import fold

_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}
_REFUSED = "what is refused"
_NOBODY = frozenset({_REFUSED})


@dataclass(frozen=True)
class OldSchema:
    """One source's schema as its old file has it.

    Attributes:
        places: Its objects, and what each was in the unified file at the switch.
        renames: The renames of the layout that are its own.
        numbers: `user_version` and `application_id`, of which the unified file has one for all.
    """

    label: str
    kind: SourceKind
    places: SourceLayout
    renames: tuple[Rename, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def own(self) -> Mapping[Key, Placed]:
        """What it has for itself, by the key in the unified file."""
        return {key_of(p.unified): p for p in self.places.placed if p.union is None}


@dataclass(frozen=True)
class Change:
    """What one old file has to become.

    Attributes:
        gone: Objects of the old file that are dropped, or replaced.
        come: Objects of the unified file that are new or replaced, each with what it is in the old file.
        told: The changes in words, such as "table notes was changed".
        numbers: `user_version` and `application_id` where they change.
    """

    gone: tuple[SchemaObject, ...] = ()
    come: tuple[tuple[SchemaObject, SchemaObject], ...] = ()
    told: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Drift:
    """All that changed.

    Attributes:
        changes: For each old file that changes, by its label.
        refused: What belongs to no single source: a sentence each, with a way out.
    """

    changes: Mapping[str, Change] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def find_drift(
    olds: Sequence[OldSchema],
    found: Sequence[SchemaObject],
    numbers: Mapping[str, int],
    planned: Mapping[str, int],
) -> Drift:
    """What is to be done about what was *found* in the unified file, source by source.

    Args:
        olds: All old files, as they are.
        found: All objects of the unified file as it is.
        numbers: Its `user_version` and `application_id`.
        planned: What these were to become when the run was planned.
    """
    judge = _Judge(olds, found)
    changes: dict[str, Change] = {}
    if not judge.nothing_changed():
        judge.judge()
        changes = {old.label: judge.change_of(old) for old in olds}
    for name, value in numbers.items():
        home = _home_of_number(olds, name)
        known = {planned.get(name), home.numbers.get(name) if home else 0}
        if value not in known and home is None:
            judge.refused.append(_no_owner(f"{name} was set to {value}", frozenset(), olds))
        elif value not in known and home is not None:
            changes[home.label] = _with_number(changes.get(home.label, Change()), name, value)
    carried = {label: c for label, c in changes.items() if c.gone or c.come or c.numbers}
    return Drift(carried, tuple(judge.refused))


def choose_number(values: Sequence[tuple[SourceKind, int]]) -> int:
    """The number that the unified file got, by the rule of :func:`copy.choose_header_number`."""
    ordered = sorted(values, key=lambda v: v[0] != "application")
    return next((value for _, value in ordered if value), 0)


def _home_of_number(olds: Sequence[OldSchema], name: str) -> OldSchema | None:
    """The source whose number the unified file has; where all are 0, the application's."""
    ordered = sorted(olds, key=lambda old: old.kind != "application")
    found = next((old for old in ordered if old.numbers.get(name)), None)
    if found is not None or len(olds) == 1:
        return found or olds[0]
    applications = [old for old in olds if old.kind == "application"]
    return applications[0] if len(applications) == 1 else None


def _with_number(change: Change, name: str, value: int) -> Change:
    return replace(
        change,
        numbers={**change.numbers, name: value},
        told=(*change.told, f"{name} was set to {value}"),
    )


class _Judge:
    """Says whose every object is; `owners` has one label for each, or other ones where it is refused."""

    def __init__(self, olds: Sequence[OldSchema], found: Sequence[SchemaObject]) -> None:
        self._olds = {old.label: old for old in olds}
        self._found = {key_of(o): o for o in found}
        self._own = {key: old.label for old in olds for key in old.own}
        self._united = _united(olds)
        self.owners: dict[Key, frozenset[str]] = {}
        self.refused: list[str] = []

    def nothing_changed(self) -> bool:
        known = self._own.keys() | self._united.keys()
        return known == self._found.keys() and not any(self._differing()) and not any(self._broken_unions())

    def _broken_unions(self) -> Iterator[Key]:
        """Objects of united tables that are gone or not as they were."""
        for key, (_, wanted) in self._united.items():
            if key not in self._found or not _same(wanted, self._found[key]):
                yield key

    def judge(self) -> None:
        self.owners |= {key: labels for key, (labels, _) in self._united.items()}
        for key in self._broken_unions():
            labels, wanted = self._united[key]
            what = "was changed" if key in self._found else "is gone"
            self.refused.append(
                f"{key[0]} {wanted.name} {what}, which is united from {_list(labels)}: take that back by hand"
            )
        for key, label in self._own.items():
            if key in self._found and key[0] in ("table", "index"):
                self.owners[key] = frozenset({label})
        differing = sorted(self._differing(), key=lambda o: _ORDER[o.kind])
        references = read_references(list(self._found.values()), differing)
        new = [o for o in differing if o.kind == "table" and key_of(o) not in self._own]
        self._place_tables(new, references)
        self._refuse_new_parents([o for o in differing if key_of(o) in self._own], references)
        for kind in ("index", "view", "trigger"):
            for item in (o for o in differing if o.kind == kind):
                self._place_dependent(item, references[key_of(item)])

    def _differing(self) -> Iterator[SchemaObject]:
        """New and changed objects, without those of united tables as they were."""
        for key, item in self._found.items():
            if key in self._united:
                continue
            label = self._own.get(key)
            if label is None or not _same(self._olds[label].own[key].unified, item):
                yield item

    # ---- tables ------------------------------------------------------------------------------

    def _place_tables(self, new: Sequence[SchemaObject], references: Mapping[Key, References]) -> None:
        for group in _groups(new, references):
            labels = frozenset[str]().union(*(self._hints(t, references) for t in group))
            labels = labels or self._default()
            names = ", ".join(t.name for t in group)
            for table in group:
                self.owners[key_of(table)] = labels if len(labels) == 1 else _NOBODY
            if len(labels) != 1:
                self.refused.append(_no_owner(f"table {names} is new", labels, self._olds.values()))

    def _hints(self, table: SchemaObject, references: Mapping[Key, References]) -> frozenset[str]:
        """The sources that the new *table* has to do with, other new tables aside."""
        refers = references[key_of(table)].tables | self._virtual_of(table)
        known = (self.owners.get(("table", name), frozenset[str]()) for name in refers)
        labels = frozenset(self._referring(table, references)).union(*known)
        if labels:
            return labels
        if langgraph.is_own_table(table):
            return self._only("store", "checkpoints") if "store" in table.name else self._only("checkpoints")
        return frozenset(self._former(table))

    def _referring(self, table: SchemaObject, references: Mapping[Key, References]) -> Iterator[str]:
        """The sources that had something which refers to *table* now, such as an index of it."""
        name = fold(table.name)
        for key in references.keys() & self._own.keys():
            if name in references[key].tables or fold(self._found[key].table) == name:
                yield self._own[key]

    def _virtual_of(self, table: SchemaObject) -> frozenset[str]:
        """The virtual table, in small letters, that *table* is a shadow of by its name."""
        virtual = (fold(o.name) for o in self._found.values() if copy.is_virtual(o))
        return frozenset(name for name in virtual if fold(table.name).startswith(f"{name}_"))

    def _former(self, table: SchemaObject) -> Iterator[str]:
        """The sources that lost a table which was defined as *table* is: it was only renamed."""
        for key, label in self._own.items():
            was = self._olds[label].own[key].unified
            ordinary = was.kind == "table" and not copy.is_virtual(was) and not copy.is_virtual(table)
            if key not in self._found and ordinary and definitions.agree(str(was.sql), str(table.sql)):
                yield label

    def _default(self) -> frozenset[str]:
        return frozenset(self._olds) if len(self._olds) == 1 else self._only("application")

    def _only(self, *kinds: SourceKind) -> frozenset[str]:
        """The one source of the first of *kinds* of which there is exactly one."""
        for kind in kinds:
            labels = [old.label for old in self._olds.values() if old.kind == kind]
            if len(labels) == 1:
                return frozenset(labels)
        return frozenset()

    def _refuse_new_parents(
        self, changed: Iterable[SchemaObject], references: Mapping[Key, References]
    ) -> None:
        for table in (t for t in changed if t.kind == "table" and not copy.is_virtual(t)):
            label = self._own[key_of(table)]
            was = self._olds[label].own[key_of(table)].unified
            before = read_references(self._olds[label].places.unified, [was])[key_of(was)].tables
            for name in sorted(references[key_of(table)].tables - before):
                labels = self.owners.get(("table", name))
                if labels is not None and labels != {label}:
                    self.owners[key_of(table)] = _NOBODY
                    self.refused.append(
                        f"table {table.name} of {label} refers to {name} now, which belongs to "
                        f"{_list(labels)}: take that foreign key back by hand"
                    )

    # ---- what stands on tables, and reads them -----------------------------------------------

    def _place_dependent(self, item: SchemaObject, refers: References) -> None:
        names = {*refers.tables, fold(item.table)} - ({fold(item.name)} if item.kind == "view" else set())
        labels = frozenset[str]().union(*(self._owners_by_name(n) for n in names)) or self._default()
        self.owners[key_of(item)] = labels if len(labels) == 1 and not refers.unreadable else _NOBODY
        if refers.unreadable:
            self.refused.append(
                f"{self._said(item)}, and SQLite cannot read it ({refers.unreadable}): drop it"
            )
        elif len(labels) != 1:
            self.refused.append(_no_owner(self._said(item), labels, self._olds.values()))

    def _owners_by_name(self, name: str) -> frozenset[str]:
        if ("table", name) in self.owners:
            return self.owners[("table", name)]
        if ("view", name) in self.owners:
            return self.owners[("view", name)]
        label = self._own.get(("view", name))
        return frozenset({label}) if label else frozenset()

    def _said(self, item: SchemaObject) -> str:
        what = "was changed" if key_of(item) in self._own else "is new"
        return f"{item.kind} {item.name} {what}"

    # ---- what an old file has to become ------------------------------------------------------

    def change_of(self, old: OldSchema) -> Change:
        """What *old* has to become; what was refused is left as it is there."""
        theirs = {k for k, labels in self.owners.items() if labels == {old.label} and k in self._found}
        theirs |= {k for k in old.own if k in self._found and k not in self.owners}
        refused = {k for k, labels in self.owners.items() if labels == _NOBODY and k in old.own}
        differing = {key_of(o) for o in self._differing()} & theirs
        lost = old.own.keys() - theirs - refused
        remade = {k[1] for k in differing | lost if k[0] in ("table", "view")}
        # What stands on a table goes with it, and has to come again with it.
        dragged = {
            k
            for k in theirs - differing
            if k[0] in ("index", "trigger") and fold(self._found[k].table) in remade
        }
        gone = [old.own[k].original for k in old.own if k in lost | differing | dragged]
        come = [k for k in self._found if k in differing | dragged]
        try:
            pairs = self._as_there(old, theirs)
        except UnifyError as error:
            self.refused.append(f"{error.message}: take what was changed there back by hand")
            return Change()
        kept = {k: old.own[k].original for k in dragged}
        return Change(
            gone=tuple(gone),
            come=tuple((self._found[k], kept.get(k) or pairs[k]) for k in come),
            told=tuple(sorted(self._tell(old, differing, lost))),
        )

    def _as_there(self, old: OldSchema, theirs: Iterable[Key]) -> Mapping[Key, SchemaObject]:
        """Each object as the old file names it: the layout's renames taken back."""
        mine = set(theirs)
        united = {k for k, (labels, _) in self._united.items() if old.label in labels and k in self._found}
        objects = [o for k, o in self._found.items() if k in mine | united]
        here = {fold(o.name) for o in objects}
        back = [Rename(source=old.label, object=r.to, to=r.object) for r in old.renames if fold(r.to) in here]
        pairs = rename_objects(objects, back) if back else [(o, o) for o in objects]
        return {key_of(one): other for one, other in pairs}

    def _tell(self, old: OldSchema, differing: set[Key], lost: set[Key]) -> Iterator[str]:
        for key in differing:
            what = "was changed" if key in old.own else "is new"
            yield f"{key[0]} {self._found[key].name} {what}"
        for key in lost:
            yield f"{key[0]} {old.own[key].unified.name} is gone"


def _united(olds: Sequence[OldSchema]) -> dict[Key, tuple[frozenset[str], SchemaObject]]:
    """United tables and what stands on them: whose they are, and how the union's home defines them."""
    found: dict[Key, tuple[frozenset[str], SchemaObject]] = {}
    tables: dict[str, set[str]] = {}
    items = [(old.label, p) for old in olds for p in old.places.placed if p.union is not None]
    for label, item in items:
        tables.setdefault(fold(item.unified.table), set()).add(label)
    # A united table is defined as its home defines it; only what the home lacks came from others.
    for _, item in sorted(items, key=lambda i: i[1].union is not None and i[1].union.home != i[0]):
        labels = frozenset(tables[fold(item.unified.table)])
        found.setdefault(key_of(item.unified), (labels, item.unified))
    return found


def _same(wanted: SchemaObject, found: SchemaObject) -> bool:
    if fold(wanted.table) != fold(found.table):
        return False
    return found.sql == wanted.sql or (
        wanted.kind == "table" and wanted.sql is not None and found.sql == langgraph.upgraded_sql(wanted)
    )


def _groups(new: Sequence[SchemaObject], references: Mapping[Key, References]) -> list[list[SchemaObject]]:
    """New tables that refer to one another, by foreign keys or as a virtual table and its shadows."""
    group = {fold(t.name): fold(t.name) for t in new}

    def join(one: str, other: str) -> None:
        old, target = group[one], group[other]
        for name, its in group.items():
            if its == old:
                group[name] = target

    for table in new:
        name = fold(table.name)
        for other in references[key_of(table)].tables & group.keys():
            join(name, other)
        if copy.is_virtual(table):
            for shadow in (n for n in list(group) if n.startswith(f"{name}_")):
                join(shadow, name)
    found: dict[str, list[SchemaObject]] = {}
    for table in new:
        found.setdefault(group[fold(table.name)], []).append(table)
    return list(found.values())


def _no_owner(what: str, labels: frozenset[str], olds: Iterable[OldSchema]) -> str:
    if labels:
        return f"{what} and has to do with tables of {_list(labels)}: drop it, or leave it to one of them"
    kinds = ", ".join(f"{old.label} ({old.kind})" for old in olds)
    return (
        f"{what} and refers to no table, and of {kinds} not exactly one is of kind application: "
        "give it a foreign key to a table of its source, or move its rows by hand and drop it"
    )


def _list(labels: Iterable[str]) -> str:
    return " and ".join(sorted(labels)) or "no source"
