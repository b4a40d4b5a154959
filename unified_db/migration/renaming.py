"""What a source's schema becomes when objects in it are renamed: worked out by SQLite itself.

The schema is built empty in memory, SQLite's own ALTER TABLE renames there, and what it made of
every definition is read back. No row is needed for that, and nobody else's SQL is rewritten here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unified_db import sqlite
from unified_db.errors import SourceError, UsageError
from unified_db.migration import copy, definitions
from unified_db.migration.records import Rename, SchemaObject
from unified_db.migration.references import Key, key_of
from unified_db.sqlite import fold, quote_name

_BROKEN = re.compile(r"error in (?:view|trigger|table|index) (.*)", re.DOTALL)
# Not UTF-8, NUL, and the two that SQLite writes as another one where it stores UTF-16.
_NO_NAME = re.compile("[\0\ud800-\udfff\ufffe\uffff]")
_MISSING = re.compile(r"(?:no such collation sequence|no such function|unknown function): (\S+?)(?:\(\))?$")
_ROWS = (
    "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^'"
)


def rename_objects(
    objects: Sequence[SchemaObject], renames: Sequence[Rename]
) -> tuple[tuple[SchemaObject, SchemaObject], ...]:
    """Each of *objects* with what it is after *renames*: its name, its table's name, its definition.

    A table takes along its indexes and triggers, the shadow tables of a virtual table, and its
    name in foreign keys, views and triggers.

    Raises:
        UsageError: There is no such object, the new name is taken or reserved.
        SourceError: SQLite cannot rename it, or something that names it cannot be rewritten.
    """
    known = {fold(o.name): o for o in objects}
    for rename in renames:
        _require_sensible(rename, known)
        _require_one(rename, objects)
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        scratch = _Scratch(conn, objects)
        for rename in _in_order(renames, known):
            scratch.rename(rename)
        return scratch.read()


def _require_sensible(rename: Rename, known: dict[str, SchemaObject]) -> None:
    hint = "Nothing was written. Correct this rename."
    if fold(rename.object) not in known:
        names = ", ".join(sorted(o.name for o in known.values())[:20]) or "nothing"
        raise UsageError(
            f"{rename.source} has no {rename.object} that could be renamed; it has {names}", hint=hint
        )
    if _NO_NAME.search(rename.to):
        raise UsageError(
            f"{rename.object} of {rename.source} cannot be called {rename.to!r}, which is no text in UTF-8 "
            "or has a character that stands for none",
            hint=hint,
        )
    if not rename.to or fold(rename.to).startswith("sqlite_"):
        raise UsageError(
            f"{rename.object} of {rename.source} cannot be called {rename.to!r}: "
            "SQLite keeps names that begin with sqlite_ for itself",
            hint=hint,
        )
    if fold(rename.to) == fold(rename.object):
        raise UsageError(
            f"{rename.object} of {rename.source} cannot be called {rename.to}: "
            "SQLite takes names that differ only in case for one",
            hint=hint,
        )


def _require_one(rename: Rename, objects: Sequence[SchemaObject]) -> None:
    named = [o.kind for o in objects if fold(o.name) == fold(rename.object)]
    if len(named) > 1:
        raise UsageError(
            f"{rename.source} has a {' and a '.join(sorted(named))} named {rename.object}, so which is to be "
            "renamed is not said",
            hint="Nothing was written. Give one of them another name from the application, or rename the "
            "object of the other source instead.",
        )


def _in_order(renames: Sequence[Rename], known: dict[str, SchemaObject]) -> Iterable[Rename]:
    """The renames so that a name is given up before another object takes it."""
    taken, waiting = set(known), list(renames)
    while waiting:
        rename = next((r for r in waiting if fold(r.to) not in taken), None)
        if rename is None:
            raise UsageError(
                f"{waiting[0].object} of {waiting[0].source} cannot be called {waiting[0].to}: "
                "that source has an object of that name already",
                hint="Nothing was written. Choose another name.",
            )
        waiting.remove(rename)
        taken = (taken - {fold(rename.object)}) | {fold(rename.to)}
        yield rename


@dataclass(frozen=True)
class _Aside:
    """A view or trigger that SQLite cannot read as it stands, so that it takes no part."""

    row: SchemaObject
    reason: str


class _Scratch:
    """The schema of *objects* in the empty database *conn*, to be renamed in."""

    def __init__(self, conn: sqlite3.Connection, objects: Sequence[SchemaObject]) -> None:
        self._conn = conn
        self._objects = objects
        self._asides: dict[Key, _Aside] = {}
        self._done: list[Rename] = []
        conn.text_factory = sqlite.text_as_it_is
        # Older behaviour, which a build of SQLite may have as its default, leaves references alone.
        conn.execute("PRAGMA legacy_alter_table=OFF")
        conn.execute("PRAGMA foreign_keys=OFF")
        # Virtual tables first: they make their shadow tables themselves.
        for item in sorted(objects, key=lambda o: not copy.is_virtual(o)):
            if item.kind == "table" and not sqlite.has_table(conn, item.name):
                self._make(item)
        for item in objects:
            if item.kind == "index" and item.sql:
                self._make(item)
        as_text = [o for o in objects if o.kind in ("view", "trigger")]
        copy.write_schema_rows(conn, as_text)
        self._before = {row[0]: row for row in conn.execute(_ROWS)}

    def _make(self, item: SchemaObject) -> None:
        """Create *item*, with stand-ins for the functions and collations that only its application has."""
        while True:
            try:
                self._conn.execute(str(item.sql))
            except UnicodeEncodeError:
                self._set_aside(item, "its definition is no UTF-8")
                return
            except sqlite3.OperationalError as error:
                missing = _MISSING.search(str(error))
                if missing is None:
                    self._set_aside(item, str(error))
                    return
                self._stand_in(missing[1], collation="collation" in str(error))
            else:
                return

    def _stand_in(self, name: str, *, collation: bool) -> None:
        if collation:
            self._conn.create_collation(name, lambda a, b: (a > b) - (a < b))
        else:
            self._conn.create_function(name, -1, lambda *_: None, deterministic=True)

    def _set_aside(self, item: SchemaObject, reason: str) -> None:
        self._asides[key_of(item)] = _Aside(item, reason)

    def rename(self, rename: Rename) -> None:
        """Do one rename."""
        item = next(o for o in self._objects if fold(o.name) == fold(rename.object))
        self._require_rewritable(rename, item)
        self._done.append(rename)
        if item.kind != "table":
            self._rename_by_text(rename, item)
            return
        while True:
            try:
                self._conn.execute(f"ALTER TABLE {quote_name(item.name)} RENAME TO {quote_name(rename.to)}")
            except sqlite3.Error as error:
                self._drop_broken(rename, str(error))
            else:
                return

    def _require_rewritable(self, rename: Rename, item: SchemaObject) -> None:
        """Return where SQLite (or we) will rewrite everything that names *item*."""
        if key_of(item) in self._asides:
            reason = self._asides[key_of(item)].reason
            raise _cannot(rename, f"SQLite cannot make it here: {reason}")
        if self._is_shadow(item.name):
            raise _cannot(rename, "it belongs to a virtual table, whose own name decides")
        others = [o for o in self._objects if o.name != item.name and definitions.mentions(o.sql, item.name)]
        for other in others:
            if key_of(other) in self._asides:
                raise _cannot(rename, f"{other.kind} {other.name} names it, and SQLite cannot read that")
            # What stands in a virtual table's arguments is for its module, not for SQLite.
            if copy.is_virtual(other):
                raise _cannot(rename, f"the virtual table {other.name} names it in its arguments")
            if item.kind in ("view", "index") and other.kind in ("view", "trigger"):
                raise _cannot(
                    rename, f"{other.kind} {other.name} names it, and only tables are renamed there"
                )

    def _is_shadow(self, name: str) -> bool:
        sql = "SELECT 1 FROM pragma_table_list WHERE name = ? COLLATE NOCASE AND type = 'shadow'"
        return self._conn.execute(sql, (name,)).fetchone() is not None

    def _rename_by_text(self, rename: Rename, item: SchemaObject) -> None:
        sql = self._conn.execute(
            "SELECT sql FROM sqlite_schema WHERE type = ? AND name = ?", (item.kind, item.name)
        ).fetchone()[0]
        table, new = rename.to if item.kind == "view" else None, definitions.with_name(sql, rename.to)
        with sqlite.writable_schema(self._conn):
            self._conn.execute(
                "UPDATE sqlite_schema SET name = ?, sql = CAST(? AS TEXT), tbl_name = coalesce(?, tbl_name) "
                "WHERE type = ? AND name = ?",
                (rename.to, copy.raw(new), table, item.kind, item.name),
            )

    def _drop_broken(self, rename: Rename, error: str) -> None:
        """Take out the view or trigger that stops SQLite, unless it names what is renamed."""
        found = _BROKEN.match(error)
        said = found[1] if found else ""
        rows = self._conn.execute(_ROWS).fetchall()
        broken = [r for r in rows if r[1] in ("view", "trigger") and said.startswith(f"{r[2]}:")]
        # "after rename": it could be read before, so it is the new name that it does not bear.
        if not broken or definitions.mentions(broken[0][4], rename.object):
            raise _cannot(rename, f"SQLite says: {error}")
        rowid, kind, name, table, sql = broken[0]
        self._set_aside(SchemaObject(kind=kind, name=name, table=table, sql=sql), error)
        self._conn.execute(f"DROP {kind} {quote_name(name)}")
        self._before.pop(rowid, None)

    def read(self) -> tuple[tuple[SchemaObject, SchemaObject], ...]:
        """Each object with what has become of it."""
        # ALTER changes rows of the schema in their places, so a rowid tells what became of what.
        now = {row[0]: row for row in self._conn.execute(_ROWS)}
        became = {(b[1], fold(b[2])): now[rowid] for rowid, b in self._before.items() if rowid in now}
        names = {old: str(row[2]) for (kind, old), row in became.items() if kind == "table"}
        return tuple((o, self._result(o, became, names)) for o in self._objects)

    def _result(
        self, item: SchemaObject, became: dict[tuple[str, str], tuple[object, ...]], names: dict[str, str]
    ) -> SchemaObject:
        row = became.get(key_of(item))
        if row is None or key_of(item) in self._asides:
            self._require_unconcerned(item)
            return item
        _, _, name, table, sql = row
        if name == item.name and table == item.table and self._was(item) != item.sql:
            return item  # a shadow table as another version of SQLite would define it
        if self._was(item) != item.sql:
            sql = _rename_alone(str(item.sql), item.name, names[fold(item.name)])
        return SchemaObject(kind=item.kind, name=str(name), table=str(table), sql=str(sql) if sql else None)

    def _require_unconcerned(self, item: SchemaObject) -> None:
        """Return where *item*, which took no part, names nothing that was renamed."""
        for rename in self._done:
            if definitions.mentions(item.sql, rename.object):
                raise _cannot(rename, f"{item.kind} {item.name} names it, and SQLite cannot read that")

    def _was(self, item: SchemaObject) -> str | None:
        """The definition that *item* had here before anything was renamed."""
        found = [r for r in self._before.values() if (r[1], fold(r[2])) == key_of(item)]
        return found[0][4] if found else item.sql


def _rename_alone(sql: str, old: str, new: str) -> str:
    """The table definition *sql* under another name, where no other object names the table."""
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute(sql)
        conn.execute(f"ALTER TABLE {quote_name(old)} RENAME TO {quote_name(new)}")
        return str(conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (new,)).fetchone()[0])


def _cannot(rename: Rename, why: str) -> SourceError:
    return SourceError(
        f"{rename.object} of {rename.source} cannot be renamed to {rename.to}: {why}",
        hint="Nothing was written. Rename the object of the other source instead.",
    )
