"""Backups whose text is stored as UTF-16 as working copies in UTF-8, written and proven by Python.

SQLite attaches no file of another encoding, and its own conversion repairs in silence what is no
valid text. So every text is read as the bytes that are stored (`CAST AS BLOB`), decoded strictly and
written as text by another connection. The backup itself stays as its source was.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from unified_db import causes, files, sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, copy
from unified_db.migration.records import Backup, Finding
from unified_db.sqlite import Table, quote_name

log = logging.getLogger(__name__)

_CODECS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}
_SETTINGS = ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "ignore_check_constraints=ON")
_PREFIX = "utf-8-"

Cell = tuple[bool, object]
Row = tuple[Cell, ...]


def to_one_encoding(items: Sequence[Backup], folder: Path) -> tuple[tuple[Backup, ...], tuple[Finding, ...]]:
    """*items* with one text encoding: as they are where they agree, else UTF-8 copies of the UTF-16 ones.

    Args:
        items: Backups, of which none is changed.
        folder: Where working copies are made.

    Returns:
        The backups to read, in the same order, and for each working copy the proof that it holds
        the same characters.

    Raises:
        SourceError: A text is no valid UTF-16, so it would not survive; its table and rowid are named.
    """
    encodings = [_encoding(item.path) for item in items]
    if len(set(encodings)) < 2:
        return tuple(items), ()
    readable: list[Backup] = []
    proof: list[Finding] = []
    for item, encoding in zip(items, encodings, strict=True):
        if encoding == "UTF-8":
            readable.append(item)
            continue
        working = transcode(item, folder / f"{_PREFIX}{item.path.name}")
        readable.append(working)
        proof.append(check_same_text(item, working))
    return tuple(readable), tuple(proof)


def remove_working_copies(items: Sequence[Backup], readable: Sequence[Backup]) -> None:
    """Remove what :func:`to_one_encoding` made of *items*."""
    kept = {item.path for item in items}
    for working in readable:
        if working.path not in kept:
            working.path.unlink()


def transcode(item: Backup, into: Path) -> Backup:
    """Write *item* to the new file *into* with its text as UTF-8: objects, rows, rowids, counters.

    Of the statistics the samples in `sqlite_stat4` are left out: they hold text in the old encoding.

    Raises:
        SourceError: A text is no valid UTF-16.
    """
    with files.partial_file(into) as partial:
        try:
            with (
                sqlite.closing(sqlite.connect_frozen(item.path)) as old,
                sqlite.closing(sqlite.create(partial)) as new,
            ):
                _require_valid_schema(old, item.label)
                _prepare(new, old)
                with sqlite.transaction(new):
                    _copy_all(old, new, item.label)
        except sqlite3.Error as error:
            if causes.is_full_disk(error):
                raise sqlite.translate(error, item.source) from error
            raise SourceError(
                f"{item.label} cannot be re-encoded as UTF-8: {error}",
                hint="Nothing was written. The sources store text in different encodings, so this one must "
                "be written anew, which SQLite refuses for what it names. Mend that, or leave it out.",
            ) from error
        partial.chmod(0o600)
        files.fsync_file(partial)
    log.info("backup: %s re-encoded as UTF-8 for the merge", item.label)
    digest = files.digest_file(into)
    changed = {"path": into, "size_bytes": into.stat().st_size, "sha256": digest}
    return item.model_copy(update=changed)


def check_same_text(item: Backup, working: Backup) -> Finding:
    """Whether *working* holds the rows of *item*, texts compared as characters, all else as bits.

    Both are read as stored bytes and decoded strictly here, so SQLite's conversion has no part in it.
    """
    rows, wrong = 0, ""
    with (
        sqlite.closing(sqlite.connect_frozen(item.path)) as old,
        sqlite.closing(sqlite.connect_frozen(working.path)) as new,
    ):
        for name in (*sqlite.tables(old), *_kept_by_sqlite(old)):
            table = sqlite.describe_table(old, name)
            rows += sqlite.count_rows(old, name)
            wrong = wrong or _first_difference(old, new, table, item.label)
        if set(copy.read_objects(old)) != set(copy.read_objects(new)):
            wrong = wrong or "the schema differs"
    return Finding(
        check="text re-encoded as UTF-8, the same characters",
        where=item.label,
        required=f"{rows:,} rows, equal",
        measured=wrong or f"{rows:,} rows, equal",
        passed=not wrong,
    )


def _encoding(path: Path) -> str:
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        return sqlite.pragma(conn, "encoding")


def _codec(conn: sqlite3.Connection) -> str:
    return _CODECS[sqlite.pragma(conn, "encoding")]


def _prepare(new: sqlite3.Connection, old: sqlite3.Connection) -> None:
    # All three count only before the first page is written.
    for name in ("page_size", "auto_vacuum"):
        new.execute(f"PRAGMA {name}={sqlite.pragma(old, name)}")
    new.execute("PRAGMA encoding='UTF-8'")
    for setting in _SETTINGS:
        new.execute(f"PRAGMA {setting}")


def _copy_all(old: sqlite3.Connection, new: sqlite3.Connection, label: str) -> None:
    objects = copy.read_objects(old)
    copy.create_tables(new, objects)
    for name in sqlite.tables(old):
        _copy_rows(old, new, sqlite.describe_table(old, name), label)
    if sqlite.has_table(new, "sqlite_sequence"):
        new.execute("DELETE FROM sqlite_sequence")
    if sqlite.has_table(old, "sqlite_stat1"):
        new.execute("ANALYZE main.sqlite_schema")
    for name in _kept_by_sqlite(old):
        _copy_rows(old, new, sqlite.describe_table(old, name), label)
    # Indexes are built, never copied: text sorts otherwise in UTF-8 than in UTF-16.
    copy.create_the_rest(new, objects)
    for name in ("user_version", "application_id"):
        new.execute(f"PRAGMA {name}={sqlite.pragma(old, name)}")


def _kept_by_sqlite(old: sqlite3.Connection) -> list[str]:
    """SQLite's own tables whose rows come along."""
    return [name for name in ("sqlite_sequence", "sqlite_stat1") if sqlite.has_table(old, name)]


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection, table: Table, label: str) -> None:
    columns = _columns(table)
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    try:
        new.executemany(
            # In main: a definition of a temporary table, written by hand, made one beside it.
            f"INSERT OR ABORT INTO main.{quote_name(table.name)} ({names}) VALUES ({marks})",
            (tuple(value for _, value in row) for row in _read(old, table, columns, label)),
        )
    except sqlite3.IntegrityError:
        # It names its table itself.
        raise
    except sqlite3.Error as error:
        if not causes.is_of_content(error):
            raise
        raise _not_inserted(old, table, label, error) from error
    _require_same_generated(old, new, table, label)


def _not_inserted(old: sqlite3.Connection, table: Table, label: str, error: sqlite3.Error) -> SourceError:
    failing = copy.failing_columns(old, table)
    named = copy.name_failing(failing)
    way = f"Drop {', '.join(failing)}, to be added again in the unified file" if failing else "Mend that row"
    return SourceError(
        f"{label}: a row of {table.name} cannot be re-encoded as UTF-8{named}: {error}",
        hint="Nothing was written. The sources store text in different encodings, so this one must be "
        f"written anew. {way}, convert the other sources to this one's encoding, or leave it out.",
    )


def _require_same_generated(
    old: sqlite3.Connection, new: sqlite3.Connection, table: Table, label: str
) -> None:
    generated = [c.name for c in table.columns if c.generated]
    if found := _first_difference(old, new, table, label) if generated else "":
        raise SourceError(
            f"{label}: {found} where its text is UTF-8: a generated column there ({', '.join(generated)}) is "
            "computed from how text is stored",
            hint="Nothing was written. The sources store text in different encodings, so this one must be "
            "re-encoded. Define that column without hex(), CAST(... AS BLOB) and the like, or leave this "
            "source out.",
        )


def _columns(table: Table) -> list[str]:
    """Quoted names of what a row is made of: the rowid, where it has one, and the columns to write."""
    written = [quote_name(c) for c in table.writable]
    return [table.rowid, *written] if table.rowid is not None else written


def _all_columns(conn: sqlite3.Connection, table: Table) -> list[str]:
    """As `_columns`, and behind them the generated ones, but for those that nobody can read here."""
    # One is computed by a function that only the application has, or fails over a row.
    failing = copy.failing_columns(conn, table)
    generated = [c.name for c in table.columns if c.generated and c.name not in failing]
    return [*_columns(table), *map(quote_name, generated)]


def _read(
    conn: sqlite3.Connection,
    table: Table,
    columns: Sequence[str],
    label: str,
    *,
    where: str = "",
    key: Sequence[object] = (),
) -> Iterator[Row]:
    """*columns* of *table* as decoded cells, in the order of the rowid, or of the key where it has none."""
    codec = _codec(conn)
    cells = ", ".join(
        f"typeof({c}) = 'text', CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END"
        for c in columns
    )
    order = ", ".join(map(quote_name, table.key)) if table.rowid is None else table.rowid
    rows = conn.execute(f"SELECT {cells} FROM {quote_name(table.name)} {where} ORDER BY {order}", key)
    for number, row in enumerate(rows, 1):
        pairs = zip(row[::2], row[1::2], strict=True)
        try:
            yield tuple((bool(text), value.decode(codec) if text else value) for text, value in pairs)
        except UnicodeDecodeError as error:
            raise _not_text(label, table, row[1] if table.rowid is not None else number, error) from error


def _not_text(label: str, table: Table, number: object, error: UnicodeDecodeError) -> SourceError:
    """About the row with rowid *number*; without rowids, the one at that place in its key's order."""
    place = f"rowid {number}" if table.rowid is not None else f"row {number} in the order of its key"
    return SourceError(
        f"{label}: a text in {table.name} at {place} is no valid {error.encoding.upper()} "
        f"({error.reason}), so it would not survive in UTF-8",
        hint="Nothing was written. The sources store text in different encodings, so this one must be "
        "re-encoded. Mend that value (CAST(x AS BLOB) shows its bytes), or leave this source out.",
    )


def _require_valid_schema(conn: sqlite3.Connection, label: str) -> None:
    rows = conn.execute(
        "SELECT rowid, CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema"
    )
    for rowid, *texts in rows:
        try:
            for text in texts:
                (text or b"").decode(_codec(conn))
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{label}: the definition at rowid {rowid} of sqlite_schema is no valid "
                f"{error.encoding.upper()}, so it would not survive in UTF-8",
                hint="Nothing was written. Define that object again, or leave this source out.",
            ) from error


def _first_difference(old: sqlite3.Connection, new: sqlite3.Connection, table: Table, label: str) -> str:
    """Where *table* differs first, as a sentence; empty where it does not."""
    name, columns = table.name, _all_columns(old, table)
    if table.rowid is None:
        return _first_keyed_difference(old, new, table, columns, label)
    for before, after in zip_longest(_read(old, table, columns, label), _read(new, table, columns, label)):
        if before is None or after is None or not _same(before, after):
            there = before if before is not None else after
            return f"{name} differs at rowid {there[0][1]}"
    return ""


def _first_keyed_difference(
    old: sqlite3.Connection, new: sqlite3.Connection, table: Table, columns: Sequence[str], label: str
) -> str:
    """As above for a table without rowids, whose rows may stand in another order."""
    if sqlite.count_rows(old, table.name) != sqlite.count_rows(new, table.name):
        return f"{table.name} has another number of rows"
    places = [table.writable.index(k) for k in table.key]
    where = "WHERE " + compare.balanced([f"{quote_name(k)} = ?{table.collate(k)}" for k in table.key], "AND")
    for number, row in enumerate(_read(old, table, columns, label), 1):
        key = [row[p][1] for p in places]
        found = list(_read(new, table, columns, label, where=where, key=key))
        if len(found) != 1 or not _same(row, found[0]):
            return f"{table.name} differs at its row {number}"
    return ""


def _same(one: Row, other: Row) -> bool:
    return len(one) == len(other) and all(_bits(a) == _bits(b) for a, b in zip(one, other, strict=True))


def _bits(cell: Cell) -> tuple[object, ...]:
    text, value = cell
    # 0.0 == -0.0 and 1 == 1.0 in Python too.
    return text, type(value), struct.pack(">d", value) if isinstance(value, float) else value
