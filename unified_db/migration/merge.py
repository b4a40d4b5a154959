"""Builds the unified file from the backups: the largest by its pages, the others tree by tree or row by row.

Nothing here reads a source; backups are files of ours that nobody else writes.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from unified_db import causes, files, pieces, sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, copy, langgraph, page_trees, unions
from unified_db.migration.btree import UnknownError
from unified_db.migration.collisions import find_collisions, require_no_collisions
from unified_db.migration.layout import SourceLayout, place_backup
from unified_db.migration.page_trees import Appender, SchemaRow
from unified_db.migration.records import (
    Backup,
    Backups,
    Layout,
    SchemaObject,
    TableFacts,
    UnifiedFile,
    count_tables,
)
from unified_db.sqlite import Table, fold, quote_name
from unified_db.standins import StandIns, missing_collations, what_is_lacking
from unified_db.writeback import Writeback

log = logging.getLogger(__name__)

# What a byte costs against one that is copied by its page.
_ROW_BY_ROW = 8
_TRANSFERRED = 3.5
_APPENDED = 1.5
_DIGESTED = 1.3
_DIGESTED_PER_S = 1.3e9
# In the header of a file.
_WRITE_VERSION_AT, _MOST_WRITE_VERSION = 18, 2


class _NeedsItsPagesError(SourceError):
    """The rows of a backup cannot be inserted without something that only the application has."""

    def __init__(self, backup: Backup, why: str) -> None:
        super().__init__(
            f"{backup.label} cannot be inserted into another file: {why}",
            hint="Nothing was written. The largest source is carried by its pages, where nothing is "
            "computed, and so are those with its page size, unless tables are united. Give this one "
            "that page size from the application (`PRAGMA page_size`, then `VACUUM`), or drop what needs "
            "it (the message names it) and create it again in the unified file.",
        )
        self.backup = backup


def merge_backups(backups: Backups, into: Path) -> UnifiedFile:
    """Merge all *backups* into the new file *into*, which appears whole or not at all.

    The largest backup is copied by its pages, so its rows, rowids and free pages are as they
    were. The tables and indexes of another are appended by their pages where these mean the same in that
    file. Else, and where tables are united, every object is made with its stored definition, and every row
    copied by column name with its rowid. The AUTOINCREMENT counters are set to what they were. A backup
    whose rows cannot be inserted here (an index in an order that only the application knows, a row that
    breaks a NOT NULL, or of which a generated column cannot be computed) takes the place of the largest.

    Raises:
        SourceError: The same name is in two backups, their text encodings differ, or more than one
            can only be carried by its pages and these are not of one size.

    Reads and writes every page once, or twice where the largest had to give up its place.
    """
    tally = pieces.Tally("merge", round(_weight(backups) + _DIGESTED * _total(backups)))
    built = pieces.do_together([partial(build_unified, backups, into, tally)])[0]
    return settle(built, tally)


def build_unified(
    backups: Backups,
    into: Path,
    tally: pieces.Tally | None = None,
    *,
    before_sql: Callable[[Sequence[Backup]], None] = lambda _: None,
) -> UnifiedFile:
    """As :func:`merge_backups`, but what is built is not durable yet and has no digest.

    For who has other work to do with it meanwhile; :func:`settle` does the rest. *before_sql* is called
    once pages are copied, before SQLite reads any of them, with the backups whose rows will be read.
    """
    started = time.monotonic()
    tally = tally or pieces.Tally("merge", _weight(backups))
    places = {b.label: place_backup(b, backups.layout) for b in backups.items}
    require_no_collisions(find_collisions(list(places.values()), {b.label: b.kind for b in backups.items}))
    unions.require_agreement(list(places.values()), backups.layout)
    ordered = sorted(backups.items, key=lambda b: b.size_bytes, reverse=True)
    try:
        tables = _build(backups, ordered, places, into, tally, before_sql)
    except _NeedsItsPagesError as error:
        log.info("merge: %s; its pages are copied instead", error.message)
        first = error.backup
        ordered.sort(key=lambda b: b is not first)
        tables = _build(backups, ordered, places, into, tally, before_sql)
    log.info("merge: %d tables, %s bytes", count_tables(tables), f"{into.stat().st_size:,}")
    return UnifiedFile(
        path=into,
        size_bytes=into.stat().st_size,
        sha256="",
        tables=tables,
        seconds=time.monotonic() - started,
    )


def _build(
    backups: Backups,
    ordered: Sequence[Backup],
    places: Mapping[str, SourceLayout],
    into: Path,
    tally: pieces.Tally,
    before_sql: Callable[[Sequence[Backup]], None],
) -> tuple[TableFacts, ...]:
    """Make *into* from the pages of the first and the rows of the others."""
    base, *others = ordered
    _require_written_format(base)
    cost = _row_cost(base, others, backups.layout)
    with files.partial_file(into) as unfinished:
        appended = _copy_pages(ordered, places, unfinished, tally, cost)
        before_sql([other for other in others if not appended[other.label]])
        try:
            # Opened before SQLite opens it and closed after: an end in between would drop SQLite's locks.
            with (
                unfinished.open("rb") as written,
                Writeback(written.fileno(), done_bytes=base.size_bytes) as writeback,
                sqlite.closing(_open_for_bulk(unfinished)) as conn,
            ):
                pieces.make_interruptible(conn, lambda: _note(unfinished, base, tally, writeback, cost))
                compare.prepare(conn)
                with _as_of(base):
                    copy.rename_in_place(conn, [(p.original, p.unified) for p in places[base.label].placed])
                    _leave_to_homes(conn, backups.layout, places[base.label])
                for other in others:
                    with _as_of(other):
                        _add(conn, other, places[other.label], appended[other.label])
                _unite(conn, backups, list(places.values()))
                langgraph.upgrade_writes(conn)
                _set_header_numbers(conn, backups.items)
                tables = _list_tables(conn, backups.items, places)
        except sqlite3.Error as error:
            raise _unwritten(error, into) from error
        except UnicodeEncodeError as error:
            raise SourceError(
                "a definition in one of the sources is no UTF-8, so it cannot be written anew",
                hint="Nothing was written. As the largest source it would be carried by its pages; or "
                "let the application define the object again.",
            ) from error
        _make_wal(unfinished)
    return tables


def _require_written_format(base: Backup) -> None:
    """Return where SQLite would write to a copy of *base*, and not only read it.

    Raises:
        SourceError: Its header asks for a later version ("Read and write version" of the file format).
    """
    with base.path.open("rb") as stream:
        version = stream.read(_WRITE_VERSION_AT + 1)[_WRITE_VERSION_AT]
    if version > _MOST_WRITE_VERSION:
        raise SourceError(
            f"{base.label} is in a format that SQLite reads and does not write "
            f"(write version {version} in its header)",
            hint="Nothing was written. `VACUUM INTO 'NEW.db'` writes its rows to a file of today's format.",
        )


@contextlib.contextmanager
def _as_of(backup: Backup) -> Iterator[None]:
    """Name the source of *backup* in what SQLite says in the block, which it says of a file of ours."""
    try:
        yield
    except sqlite3.Error as error:
        if causes.is_refusal(error):
            # About the file that is written.
            raise
        if not causes.is_of_content(error):
            raise sqlite.translate(error, backup.source) from error
        raise SourceError(
            f"{backup.label} cannot be merged: {error}",
            hint="Nothing was written. Mend what the message names, or leave this source out.",
        ) from error


def _unwritten(error: sqlite3.Error, into: Path) -> SourceError:
    """What SQLite said, of no source in particular, while it wrote what becomes *into*."""
    if causes.is_full_disk(error) or causes.lacks_descriptors():
        return sqlite.translate(error, into)
    return SourceError(
        f"{into.name} cannot be written: {error}",
        hint="Nothing was written. The sources are as they were; look at the file system of the target.",
    )


def carried_by_pages(backups: Backups) -> tuple[Backup, ...]:
    """Those of *backups* of which :func:`build_unified` is likely to take every page as it is."""
    base = max(backups.items, key=lambda b: b.size_bytes)
    if backups.layout.unions:
        return ()
    return tuple(b for b in backups.items if b is base or page_trees.can_append(b.path, base.path))


def settle(built: UnifiedFile, tally: pieces.Tally | None = None) -> UnifiedFile:
    """*built* with its digest, and durable."""
    started = time.monotonic()
    # What building has taken tells what its bytes cost here.
    cost = tally.foretell(built.size_bytes / _DIGESTED_PER_S) / built.size_bytes if tally else 0.0

    def told(size_bytes: int) -> None:
        if tally is not None:
            tally.add(round(cost * size_bytes))

    with pieces.crew(2) as hands:
        digest = hands.start(partial(files.digest_file, built.path, told))
        hands.finish([hands.start(partial(files.fsync_file, built.path)), digest])
    seconds = built.seconds + time.monotonic() - started
    return built.model_copy(update={"sha256": digest.result(), "seconds": seconds})


def _weight(backups: Backups) -> int:
    """What building costs, in bytes that are copied by their pages."""
    base, *others = sorted(backups.items, key=lambda b: b.size_bytes, reverse=True)
    cost = _row_cost(base, others, backups.layout)
    return round(base.size_bytes + cost * sum(b.size_bytes for b in others))


def _row_cost(base: Backup, others: Sequence[Backup], layout: Layout) -> float:
    """What a byte of *others* costs: little where all tables may be appended, or transferred as records."""
    if not layout.unions and all(page_trees.can_append(other.path, base.path) for other in others):
        return _APPENDED
    for backup in others:
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
            tables = (sqlite.describe_table(conn, name) for name in sqlite.tables(conn))
            if not all(copy.can_transfer(conn, table, schema="main") for table in tables):
                return _ROW_BY_ROW
    return _TRANSFERRED


def _total(backups: Backups) -> int:
    return sum(b.size_bytes for b in backups.items)


def _note(unfinished: Path, base: Backup, tally: pieces.Tally, writeback: Writeback, cost: float) -> None:
    """Count as much of the weight as *unfinished* has of it: SQLite writes what it has no room to keep."""
    size_bytes = unfinished.stat().st_size
    writeback.reach(size_bytes)
    tally.reach(round(base.size_bytes + cost * (size_bytes - base.size_bytes)))


def _open_for_bulk(path: Path) -> sqlite3.Connection:
    conn = sqlite.create(path)
    # The partial file is thrown away after any failure, so it needs neither journal nor syncs.
    # First of all without these: leaving WAL mode would have the disk take all at once.
    for setting in (
        "synchronous=OFF",
        "journal_mode=OFF",
        "locking_mode=EXCLUSIVE",
        "foreign_keys=OFF",
        "ignore_check_constraints=ON",
        "cache_size=-32768",
    ):
        conn.execute(f"PRAGMA {setting}")
    return conn


def _leave_to_homes(conn: sqlite3.Connection, layout: Layout, base: SourceLayout) -> None:
    """Take out of main, which is a copy of *base*, the tables whose rowids and definition are another's."""
    there = {fold(name): name for name in sqlite.tables(conn)}
    for union in layout.unions:
        if union.home != base.label and fold(union.table) in there:
            # Takes along indexes, triggers, the counter, and statistics of that very name.
            conn.execute(f"DROP TABLE main.{quote_name(there[fold(union.table)])}")
            for name in sqlite.STATISTICS:
                if sqlite.has_table(conn, name):
                    conn.execute(f"DELETE FROM main.{name} WHERE lower(tbl) = lower(?)", (union.table,))


def _unite(conn: sqlite3.Connection, backups: Backups, places: Sequence[SourceLayout]) -> None:
    """Add to each united table, which holds its home's rows, those of the other sources."""
    compare.prepare(conn)
    items = {b.label: b for b in backups.items}
    paths = {label: b.path for label, b in items.items()}
    for union in backups.layout.unions:
        # The parts may have a column that the home has not got yet.
        langgraph.upgrade_writes(conn)
        for part in unions.parts_of(union, places, paths):
            if part.label != union.home:
                with _as_of(items[part.label]):
                    rows = unions.add_part(conn, union, part)
                log.info("merge: %s of %s united, %s rows were new", union.table, part.label, f"{rows:,}")
    present = {fold(o.name) for o in copy.read_objects(conn) if o.kind == "index"}
    for source in places:
        missing = [o for o in source.unified if o.kind == "index" and fold(o.name) not in present]
        with _as_of(items[source.label]):
            copy.create_the_rest(conn, missing)
        present |= {fold(o.name) for o in missing}


def _copy_pages(
    ordered: Sequence[Backup],
    places: Mapping[str, SourceLayout],
    into: Path,
    tally: pieces.Tally,
    cost: float,
) -> dict[str, tuple[SchemaRow, ...]]:
    """Make *into* of the pages of the first backup and, behind them, of those of others that can be had.

    Returns:
        For each of the others the tables and indexes whose trees are there now; none where that cannot be.
    """
    base, *others = ordered
    into.touch(mode=0o600)
    appender = Appender(base.path, into)

    def append_others() -> dict[str, tuple[SchemaRow, ...]]:
        def told(size_bytes: int) -> None:
            tally.add(round(cost * size_bytes))

        return {other.label: _append(appender, other, places[other.label], told) for other in others}

    with pieces.crew(2) as hands:
        copied = hands.start(partial(files.copy_content, base.path, into, tally.add, made=True))
        found = hands.start(append_others)
        hands.finish([copied, found])
    appender.finish()
    return found.result()


def _append(
    appender: Appender, backup: Backup, places: SourceLayout, told: Callable[[int], None]
) -> tuple[SchemaRow, ...]:
    # Where tables are united, their rows meet others.
    if any(p.union for p in places.placed):
        return ()
    try:
        own = ("sqlite_sequence", *sqlite.STATISTICS)
        rows = [row for row in page_trees.schema_rows(backup.path) if row.name not in own]
        roots = appender.append(backup.path, [row.root for row in rows], told)
    except UnknownError:
        return ()
    return tuple(replace(row, root=roots[row.root]) for row in rows)


def _add(
    conn: sqlite3.Connection, backup: Backup, places: SourceLayout, appended: Sequence[SchemaRow]
) -> None:
    _require_same_encoding(conn, backup)
    with sqlite.attached(conn, backup.path, "src"):
        if appended:
            with sqlite.transaction(conn):
                _adopt_all(conn, appended, places)
            return
        stand_ins = StandIns(conn)
        try:
            # In autocommit ATTACH is allowed; the transaction begins only now.
            with sqlite.transaction(conn):
                _insert_all(conn, stand_ins, places)
        except sqlite3.Error as error:
            why = stand_ins.needed or what_is_lacking(error)
            if why is None and not causes.is_of_content(error):
                raise
            raise _NeedsItsPagesError(backup, f"it needs {why}" if why else str(error)) from error
        finally:
            stand_ins.remove()


def _adopt_all(conn: sqlite3.Connection, appended: Sequence[SchemaRow], places: SourceLayout) -> None:
    copy.adopt_trees(conn, appended, [(p.original, p.unified) for p in places.placed])
    for row in appended:
        if row.kind == "table":
            log.info("merge: %s from %s, by its pages", places.name(row.name), places.label)
    names = {n: places.name(n) for n in sqlite.tables(conn, "src")}
    _copy_beside_rows(conn, names, places)
    copy.create_the_rest(conn, places.unified)


def _copy_beside_rows(
    conn: sqlite3.Connection, names: Mapping[str, str], places: SourceLayout, *, without: Collection[str] = ()
) -> None:
    if sqlite.has_table(conn, "sqlite_sequence", "src"):
        # Also a table without AUTOINCREMENT may have a counter there.
        copy.make_counters(conn)
    copy.copy_sequences(conn, from_schema="src", tables=names)
    copy.copy_orphan_sequences(conn, from_schema="src")
    copy.copy_statistics(conn, from_schema="src", renamed=places.renamed, without=without)


def _insert_all(conn: sqlite3.Connection, stand_ins: StandIns, places: SourceLayout) -> None:
    # A united table comes with its home; the other sources' rows are added to it later.
    elsewhere = places.united_elsewhere
    objects = [p.unified for p in places.placed if p not in elsewhere]
    without = {p.original.name for p in elsewhere if p.original.kind == "table"}
    names = {n: places.name(n) for n in sqlite.tables(conn, "src") if n not in without}
    copy.create_tables(stand_ins, objects)
    for theirs, ours in names.items():
        stand_ins.lend_collations(missing_collations(conn, theirs, "src"))
        table = sqlite.describe_table(conn, theirs, "src")
        with _about_rows(conn, table):
            rows = _insert(stand_ins, table, ours, objects)
        log.info("merge: %s from %s, %s rows", ours, places.label, f"{rows:,}")
    _copy_beside_rows(conn, names, places, without=without)
    copy.create_the_rest(stand_ins, objects)
    if stand_ins.needed:
        raise sqlite3.IntegrityError(stand_ins.needed)


@contextlib.contextmanager
def _about_rows(conn: sqlite3.Connection, table: Table) -> Iterator[None]:
    """As :func:`copy.about`, with the generated columns over which inserting the rows of *table* fails."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        named = copy.failing_columns(conn, table, "src") if causes.is_of_content(error) else []
        with copy.about(f"a row of {table.name}{copy.name_failing(named)}"):
            raise


def _insert(conn: StandIns, table: Table, ours: str, objects: Sequence[SchemaObject]) -> int:
    if copy.can_transfer(conn, table, schema="src"):
        copy.create_indexes(conn, [o for o in objects if o.table == ours])
        transferred = copy.transfer_rows(conn, table, from_schema="src", into=ours)
        if transferred is not None:
            return transferred
    rows = copy.copy_rows(conn, table, from_schema="src", into=ours)
    _require_unconverted(conn.connection, table, ours)
    return rows


def _require_unconverted(conn: sqlite3.Connection, table: Table, ours: str) -> None:
    """Return where inserting changed nothing: it converts values to the declared type, and computes anew.

    Raises:
        sqlite3.IntegrityError: The declared types or a generated column were changed under the rows.
    """
    found = compare.find_differences(conn, table, left="src", right="main", right_name=ours, limit=1)
    if found:
        columns = ", ".join(found[0].columns)
        raise sqlite3.IntegrityError(
            f"{table.name} at {found[0].place} holds what its definition would not let in ({columns})"
        )


def _require_same_encoding(conn: sqlite3.Connection, backup: Backup) -> None:
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as other:
        theirs = sqlite.pragma(other, "encoding")
    ours = sqlite.pragma(conn, "encoding")
    if theirs != ours:
        raise SourceError(
            f"{backup.label} stores text as {theirs}, the largest source as {ours}",
            hint="Nothing was written. SQLite cannot attach files of different encodings; "
            "`VACUUM INTO` after `PRAGMA encoding` in an empty database converts one of them.",
        )


def _set_header_numbers(conn: sqlite3.Connection, backups: Sequence[Backup]) -> None:
    """Set user_version and application_id: the application's own where it has one, else the only one."""
    for name in ("user_version", "application_id"):
        conn.execute(f"PRAGMA {name}={copy.choose_header_number(backups, name)}")


def _list_tables(
    conn: sqlite3.Connection, backups: Sequence[Backup], places: Mapping[str, SourceLayout]
) -> tuple[TableFacts, ...]:
    facts: list[TableFacts] = []
    counters = sqlite.sequences(conn)
    for backup in backups:
        source = places[backup.label]
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as theirs:
            for name in sqlite.tables(theirs):
                ours, united = source.name(name), source.union_of(name) is not None
                facts.append(
                    TableFacts(
                        name=ours,
                        source=backup.label,
                        # Of a united table, the rows that this source has in it.
                        rows=sqlite.count_rows(theirs, name) if united else sqlite.count_rows(conn, ours),
                        sequence=counters.get(ours),
                        original=name if name != ours else None,
                        united=united,
                    )
                )
    return tuple(facts)


def _make_wal(path: Path) -> None:
    # The file itself remembers WAL mode; closing the only connection removes the sidecars again.
    with sqlite.closing(sqlite.connect_writable(path)) as conn:
        # Its fsync would have the disk take all at once; `settle` sees to that.
        conn.execute("PRAGMA synchronous=OFF")
        conn.execute("PRAGMA journal_mode=WAL")
    leftovers = files.sidecars(path)
    if leftovers:
        raise SourceError(f"{quote_name(str(leftovers[0]))} was left behind", hint="Run again.")
