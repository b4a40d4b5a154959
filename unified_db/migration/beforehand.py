"""What a rollback will need, found out while the application still serves: room, and what only it has.

Nothing of the application is touched here. Whether a function, a collation or a module that this process
lacks is really asked for depends on rows, so the way back is tried on copies, in the run's folder, of the
files whose schema names one; of no other files.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unified_db import causes, files, sources, sqlite
from unified_db.errors import RollbackError, SourceError, UnifyError
from unified_db.migration import carry_back, copy, schema_changes
from unified_db.migration.drift import Change, Drift
from unified_db.migration.old_files import OldFile, find_old_files
from unified_db.migration.records import SchemaObject
from unified_db.migration.runs import RunFolder
from unified_db.sqlite import fold
from unified_db.standins import StandIns

_UNTOUCHED = "Nothing was changed; the application was not stopped."
# Pages that change beside those of the tables themselves: the schema, the free list, counters.
_SLACK_BYTES = 1 << 20
_SLACK = 1.05
_TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - where SQLite looks, in its order


def require_possible(run: RunFolder, unified: Path, found: Drift) -> None:
    """Return where the rows of *unified*, and the changes *found* in its schema, can go into the old files.

    Args:
        run: One whose old files are out of the archive.
        unified: The unified file, in use or not.
        found: As :func:`carry_back.find_drift` gives it, with nothing refused.

    Raises:
        RollbackError: There is no room for what was written since, or something is needed that only the
            application has: says which.

    Reads the pages of such tables; copies and compares whole files only where a schema names something
    that is not here.
    """
    olds = find_old_files(run).items
    changes = [(old, found.changes.get(old.label, Change())) for old in olds]
    needs = sources.look_at(unified, lambda conn: _room_to_remake(conn, changes))
    folder = olds[0].path.parent
    needs[folder] = max(needs[folder], _room_to_grow(unified, olds))
    _require_room(run, needs)
    lacking = [old for old, change in changes if _may_lack(old, change)]
    if lacking:
        # A united table is proven with all of its parts.
        chosen = olds if olds[0].layout.unions else tuple(lacking)
        _try_on_copies(run, unified, chosen, found)


def _require_room(run: RunFolder, needs: Mapping[Path, int]) -> None:
    try:
        sources.require_space(dict(needs))
    except SourceError as error:
        hint = f"{_UNTOUCHED} Make room there, then `unify-db rollback {run.name}` again."
        raise RollbackError(f"the rollback needs room: {error.message}", hint=hint) from error


# ---- room ------------------------------------------------------------------------------------------


def _room_to_remake(unified: sqlite3.Connection, changes: Sequence[tuple[OldFile, Change]]) -> Counter[Path]:
    """Bytes that making tables and indexes anew needs, by folder."""
    needs: Counter[Path] = Counter()
    for old, change in changes:
        tables, indexes = schema_changes.remade_tables(change), _indexes(new for new, _ in change.come)
        if not tables and not indexes:
            continue
        come = _bytes_of(unified, tables, indexes)
        # What is dropped goes into the journal, and its pages are taken again by what comes.
        most = max(come, _bytes_that_go(old, change))
        needs[old.path.parent] += int(most * _SLACK) + _SLACK_BYTES
        # An index is sorted in a file of SQLite's own before it is made.
        needs[_temporary_folder()] += come
    return needs


def _room_to_grow(unified: Path, olds: Sequence[OldFile]) -> int:
    """Bytes by which the old files will be larger: about as many as the unified file has more than they."""
    more = sources.total_bytes([unified]) - sources.total_bytes([old.path for old in olds])
    return int(more * _SLACK) if more > _SLACK_BYTES else 0


def _indexes(objects: Iterable[SchemaObject]) -> list[str]:
    return [o.name for o in objects if o.kind == "index"]


def _bytes_that_go(old: OldFile, change: Change) -> int:
    tables = [o.name for o in change.gone if o.kind == "table" and not copy.is_virtual(o)]
    with sources.reading(old.path) as conn:
        return _bytes_of(conn, tables, _indexes(change.gone))


def _bytes_of(conn: sqlite3.Connection, tables: Iterable[str], indexes: Iterable[str]) -> int:
    """Bytes in pages of *tables* with all their indexes, and of *indexes*; the file's without `dbstat`."""
    rows = conn.execute("SELECT name, tbl_name, type FROM main.sqlite_schema WHERE rootpage > 0")
    of_tables, alone = {fold(t) for t in tables}, {fold(i) for i in indexes}
    names = [
        name
        for name, table, kind in rows
        if fold(table) in of_tables or (kind == "index" and fold(name) in alone)
    ]
    sql = "SELECT sum(pgsize) FROM dbstat WHERE name = ? AND aggregate = 1"
    try:
        return sum(int(conn.execute(sql, (name,)).fetchone()[0] or 0) for name in names)
    except sqlite3.OperationalError:
        # SQLite may be built without it.
        return int(sqlite.pragma(conn, "page_count")) * int(sqlite.pragma(conn, "page_size"))


def _temporary_folder() -> Path:
    """Where SQLite puts what it sorts (sqlite.org/tempfiles.html)."""
    named = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *_TEMPORARY]
    folders = [Path(name) for name in named if name]
    return next((f for f in folders if f.is_dir() and os.access(f, os.W_OK | os.X_OK)), Path())


# ---- functions, collations, modules ----------------------------------------------------------------


def _may_lack(old: OldFile, change: Change) -> bool:
    """True where a table or an index of *old*, as it shall be, names a function or a collation not here."""
    with sources.reading(old.path) as conn:
        gone = set(change.gone)
        objects = [o for o in copy.read_objects(conn) if o not in gone]
    objects += [ours for _, ours in change.come]
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        stand_ins = StandIns(conn)
        try:
            copy.create_tables(stand_ins, objects)
            copy.create_indexes(stand_ins, objects)
        except sqlite3.Error:
            # Whatever it is, trying it tells.
            return True
        return bool(stand_ins.lent)


def _try_on_copies(run: RunFolder, unified: Path, olds: Sequence[OldFile], found: Drift) -> None:
    """Carry everything into copies of *olds*, which are gone afterwards.

    Raises:
        RollbackError: It does not work, or there is no room for the copies.
    """
    size_bytes = sources.total_bytes([unified, *(old.path for old in olds)])
    _require_room(run, {run.path: int(size_bytes * _SLACK) + _SLACK_BYTES})
    with contextlib.ExitStack() as stack:
        there = _copy(stack, run, unified)
        copies = [replace(old, path=_copy(stack, run, old.path)) for old in olds]
        for old in copies:
            change = found.changes.get(old.label, Change())
            told = f" ({'; '.join(change.told[:5])})" if change.told else ""
            with _refusing(f"{old.label}{told}"):
                carry_back.carry_into(old, there, change)
        with _refusing("a united table"):
            carry_back.carry_unions(copies, there)


def _copy(stack: contextlib.ExitStack, run: RunFolder, path: Path) -> Path:
    place = stack.enter_context(files.scratch_file(run.path / path.name))

    def copy_all(conn: sqlite3.Connection) -> None:
        place.unlink(missing_ok=True)
        sqlite.copy_database(conn, place)

    sources.look_at(path, copy_all)
    place.chmod(0o600)
    return place


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse the rollback where the block fails; *what* says whose matter it is."""
    try:
        yield
    except (UnifyError, sqlite3.Error) as error:
        raise RollbackError(
            f"{what}: {causes.sentence(error)}",
            hint=f"{_UNTOUCHED} Take what asks for it back in the unified file, with `alembic downgrade` or "
            "by hand, then roll back again.",
        ) from error
