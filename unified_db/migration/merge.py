"""Builds the unified file from the backups: the largest by its pages, the others row by row.

Nothing here reads a source; backups are files of ours that nobody else writes.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unified_db import files, sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, copy, langgraph, unions
from unified_db.migration.collisions import find_collisions, require_no_collisions
from unified_db.migration.layout import SourceLayout, place_backup
from unified_db.migration.records import Backup, Backups, Layout, TableFacts, UnifiedFile
from unified_db.sqlite import quote_name

log = logging.getLogger(__name__)


def merge_backups(backups: Backups, into: Path) -> UnifiedFile:
    """Merge all *backups* into the new file *into*, which appears whole or not at all.

    The largest backup is copied by its pages, so its rows, rowids and free pages are as they
    were; of the others every object is made with its stored definition, every row copied by
    column name with its rowid, and the AUTOINCREMENT counters set to what they were.

    Raises:
        SourceError: The same name is in two backups, or their text encodings differ.

    Reads and writes every page once.
    """
    started = time.monotonic()
    places = {b.label: place_backup(b, backups.layout) for b in backups.items}
    require_no_collisions(find_collisions(list(places.values()), {b.label: b.kind for b in backups.items}))
    unions.require_agreement(list(places.values()), backups.layout)
    base, *others = sorted(backups.items, key=lambda b: b.size_bytes, reverse=True)
    with files.partial_file(into) as partial:
        shutil.copyfile(base.path, partial)
        partial.chmod(0o600)
        try:
            with sqlite.closing(_open_for_bulk(partial)) as conn:
                copy.rename_in_place(conn, [(p.original, p.unified) for p in places[base.label].placed])
                _leave_to_homes(conn, backups.layout, places[base.label])
                for other in others:
                    _add(conn, other, places[other.label])
                _unite(conn, backups, list(places.values()))
                langgraph.upgrade_writes(conn)
                _set_header_numbers(conn, backups.items)
                tables = _list_tables(conn, backups.items, places)
        except sqlite3.Error as error:
            raise sqlite.translate(error, into) from error
        _make_wal(partial)
        files.fsync_file(partial)
    log.info("merge: %d tables, %s bytes", len(tables), f"{into.stat().st_size:,}")
    return UnifiedFile(
        path=into,
        size_bytes=into.stat().st_size,
        sha256=files.digest_file(into),
        tables=tables,
        seconds=time.monotonic() - started,
    )


def _open_for_bulk(path: Path) -> sqlite3.Connection:
    conn = sqlite.create(path)
    # The partial file is thrown away after any failure, so it needs neither journal nor syncs.
    for setting in (
        "journal_mode=OFF",
        "synchronous=OFF",
        "locking_mode=EXCLUSIVE",
        "foreign_keys=OFF",
        "ignore_check_constraints=ON",
        "cache_size=-65536",
    ):
        conn.execute(f"PRAGMA {setting}")
    return conn


def _leave_to_homes(conn: sqlite3.Connection, layout: Layout, base: SourceLayout) -> None:
    """Take out of main, which is a copy of *base*, the tables whose rowids and definition are another's."""
    there = {name.lower(): name for name in sqlite.tables(conn)}
    for union in layout.unions:
        if union.home != base.label and union.table.lower() in there:
            # Takes along indexes, triggers, the counter and the statistics.
            conn.execute(f"DROP TABLE main.{quote_name(there[union.table.lower()])}")


def _unite(conn: sqlite3.Connection, backups: Backups, places: Sequence[SourceLayout]) -> None:
    """Add to each united table, which holds its home's rows, those of the other sources."""
    compare.prepare(conn)
    paths = {b.label: b.path for b in backups.items}
    for union in backups.layout.unions:
        # The parts may have a column that the home has not got yet.
        langgraph.upgrade_writes(conn)
        for part in unions.parts_of(union, places, paths):
            if part.label != union.home:
                rows = unions.add_part(conn, union, part)
                log.info("merge: %s of %s united, %s rows were new", union.table, part.label, f"{rows:,}")
    present = {o.name.lower() for o in copy.read_objects(conn)}
    for source in places:
        missing = [o for o in source.unified if o.kind == "index" and o.name.lower() not in present]
        copy.create_the_rest(conn, missing)
        present |= {o.name.lower() for o in missing}


def _add(conn: sqlite3.Connection, backup: Backup, places: SourceLayout) -> None:
    _require_same_encoding(conn, backup)
    with sqlite.attached(conn, backup.path, "src"):
        # A united table comes with its home; the other sources' rows are added to it later.
        elsewhere = places.united_elsewhere
        objects = [p.unified for p in places.placed if p not in elsewhere]
        without = {p.original.name for p in elsewhere if p.original.kind == "table"}
        names = {n: places.name(n) for n in sqlite.tables(conn, "src") if n not in without}
        # In autocommit ATTACH is allowed; the transaction begins only now.
        with sqlite.transaction(conn):
            copy.create_tables(conn, objects)
            for theirs, ours in names.items():
                table = sqlite.describe_table(conn, theirs, "src")
                rows = copy.copy_rows(conn, table, from_schema="src", into=ours)
                log.info("merge: %s from %s, %s rows", ours, backup.label, f"{rows:,}")
            copy.copy_sequences(conn, from_schema="src", tables=names)
            copy.copy_statistics(conn, from_schema="src", renamed=places.renamed, without=without)
            copy.create_the_rest(conn, objects)


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
        conn.execute("PRAGMA journal_mode=WAL")
    leftovers = files.sidecars(path)
    if leftovers:
        raise SourceError(f"{quote_name(str(leftovers[0]))} was left behind", hint="Run again.")
