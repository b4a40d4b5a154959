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
from unified_db.migration import copy, langgraph
from unified_db.migration.collisions import find_collisions, require_no_collisions
from unified_db.migration.layout import SourceLayout, place_backup
from unified_db.migration.records import Backup, Backups, TableFacts, UnifiedFile
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
    base, *others = sorted(backups.items, key=lambda b: b.size_bytes, reverse=True)
    with files.partial_file(into) as partial:
        shutil.copyfile(base.path, partial)
        partial.chmod(0o600)
        try:
            with sqlite.closing(_open_for_bulk(partial)) as conn:
                copy.rename_in_place(conn, [(p.original, p.unified) for p in places[base.label].placed])
                for other in others:
                    _add(conn, other, places[other.label])
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


def _add(conn: sqlite3.Connection, backup: Backup, places: SourceLayout) -> None:
    _require_same_encoding(conn, backup)
    with sqlite.attached(conn, backup.path, "src"):
        names = {name: places.name(name) for name in sqlite.tables(conn, "src")}
        # In autocommit ATTACH is allowed; the transaction begins only now.
        with sqlite.transaction(conn):
            copy.create_tables(conn, places.unified)
            for theirs, ours in names.items():
                table = sqlite.describe_table(conn, theirs, "src")
                rows = copy.copy_rows(conn, table, from_schema="src", into=ours)
                log.info("merge: %s from %s, %s rows", ours, backup.label, f"{rows:,}")
            copy.copy_sequences(conn, from_schema="src", tables=names)
            copy.copy_statistics(conn, from_schema="src", renamed=places.renamed)
            copy.create_the_rest(conn, places.unified)


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
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as source:
            names = {name: places[backup.label].name(name) for name in sqlite.tables(source)}
        facts += [
            TableFacts(
                name=ours,
                source=backup.label,
                rows=sqlite.count_rows(conn, ours),
                sequence=counters.get(ours),
                original=theirs if theirs != ours else None,
            )
            for theirs, ours in names.items()
        ]
    return tuple(facts)


def _make_wal(path: Path) -> None:
    # The file itself remembers WAL mode; closing the only connection removes the sidecars again.
    with sqlite.closing(sqlite.connect_writable(path)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
    leftovers = files.sidecars(path)
    if leftovers:
        raise SourceError(f"{quote_name(str(leftovers[0]))} was left behind", hint="Run again.")
