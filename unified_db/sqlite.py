"""SQLite as this project opens it: quoting, connections, schema, integrity.

How a file that somebody else uses is read without leaving a trace is told in `sources.py`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import string
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from unified_db import causes, files, pieces
from unified_db.errors import SourceBusyError, SourceError
from unified_db.standins import StandIns, missing_collations, reload_schema, what_is_lacking
from unified_db.writeback import Writeback

# SQLite's own ceiling in most builds; of a larger file the rest is read the ordinary way.
MMAP_BYTES = 0x7FFF0000
_STEP_BYTES = 8 << 20
# Of a view or trigger that names main, in a file that is attached under another name.
_NAMES_MAIN = "cannot reference objects in database"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def quote_name(name: str) -> str:
    """*name* as an SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def fold(name: str) -> str:
    """*name* as SQLite compares names: A to Z are a to z, and no other letters are the same."""
    return name.lower() if name.isascii() else name.translate(_LOWER)


def text_as_it_is(raw: bytes) -> str:
    """A text as SQLite has it, for `Connection.text_factory`: invalid UTF-8 is to be carried, not decoded."""
    return raw.decode("utf-8", "surrogateescape")


def file_uri(path: Path, **query: str | int) -> str:
    """*path* as a `file:` URI for `sqlite3.connect(..., uri=True)`."""
    text = "&".join(f"{key}={value}" for key, value in query.items())
    return f"file:{quote(os.fsencode(path.absolute()))}" + (f"?{text}" if text else "")


def connect_read_only(path: Path, *, timeout_s: float = 5.0) -> sqlite3.Connection:
    """A read-only connection in autocommit mode that returns text as bytes where it must.

    On a WAL database the `-shm` file should exist already, else SQLite creates it.
    """
    conn = _connect(file_uri(path, mode="ro"), timeout_s=timeout_s)
    _first_look(conn, path)
    return conn


def connect_frozen(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody writes: no locks, no sidecars, no WAL is looked at.

    Only for our own finished copies (sqlite.org/uri.html, `immutable`).
    """
    conn = _connect(file_uri(path, mode="ro", immutable=1), timeout_s=0)
    map_pages(conn)
    _first_look(conn, path)
    return conn


def map_pages(conn: sqlite3.Connection, schema: str = "main") -> None:
    """Have *conn* read the file of *schema* through the page cache's own memory, not through copies of it.

    Twice as fast. A file that is shortened meanwhile ends the process, so this is for files of our
    own, and for sources whose pages a snapshot holds in place.
    """
    conn.execute(f"PRAGMA {quote_name(schema)}.mmap_size={MMAP_BYTES}")


def connect_writable(path: Path, *, timeout_s: float = 5.0) -> sqlite3.Connection:
    """A read-write connection to a file that exists, in autocommit mode."""
    conn = _connect(file_uri(path, mode="rw"), timeout_s=timeout_s)
    _first_look(conn, path)
    return conn


def create(path: Path) -> sqlite3.Connection:
    """A read-write connection that creates *path* if it is not there."""
    return _connect(file_uri(path, mode="rwc"), timeout_s=5.0)


def _connect(uri: str, *, timeout_s: float) -> sqlite3.Connection:
    try:
        # One thread at a time uses a connection, but not always the one that opened it.
        conn = sqlite3.connect(
            uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
    except sqlite3.OperationalError as error:
        if causes.lacks_descriptors():
            raise causes.out_of_descriptors(uri) from error
        raise SourceError(f"{uri} cannot be opened: {error}", hint="Nothing was written.") from error
    conn.text_factory = text_as_it_is
    pieces.make_interruptible(conn)
    return conn


def _first_look(conn: sqlite3.Connection, path: Path) -> None:
    try:
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        # Before its files are closed: that there can be no more of them is a reason.
        told = translate(error, path)
        conn.close()
        raise told from error
    except UnicodeDecodeError as error:
        # Python's, of the message in which SQLite quotes what is wrong with the schema.
        conn.close()
        raise translate(sqlite3.DatabaseError("malformed database schema"), path) from error


def translate(error: sqlite3.Error, path: Path) -> SourceError:
    """SQLite's error about *path* as one of ours."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return SourceBusyError(
            f"{path} is locked by another process",
            hint="Nothing was written. Run again when its writer has finished.",
        )
    if causes.is_full_disk(error):
        return SourceError(f"the disk is full: {text}", hint="Nothing was switched. Make room and run again.")
    if causes.lacks_descriptors():
        return causes.out_of_descriptors(f"{path}, or a file beside it,")
    return SourceError(
        f"{path} cannot be read as a database: {text}",
        hint="Nothing was written. `sqlite3 FILE '.recover'` may save what is left of a damaged file.",
    )


def empty_wal(conn: sqlite3.Connection, path: Path) -> None:
    """Bring what is in the WAL of *path*, which *conn* has open alone, into the file itself.

    The end of the last connection does so too, but says nothing where a full disk kept it from that: what
    then reads the file without its WAL, or moves it, loses rows. Nothing to do in other journal modes.

    Raises:
        SourceError: The disk is full, or somebody else has the file open.
    """
    try:
        busy, left, _ = conn.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    if busy or left > 0:
        raise SourceBusyError(f"{path} is in use, so its WAL stays", hint="Nothing was written. Run again.")


@contextlib.contextmanager
def _closing(conn: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield conn
    finally:
        conn.close()


closing = _closing


@contextlib.contextmanager
def attached(conn: sqlite3.Connection, path: Path, name: str, *, frozen: bool = True) -> Iterator[None]:
    """Attach *path* to *conn* under *name* for the block; frozen as in :func:`connect_frozen`.

    Read-only in any case: BEGIN IMMEDIATE locks every attached database that can be written.
    """
    query: dict[str, str | int] = {"mode": "ro", "immutable": 1} if frozen else {"mode": "ro"}
    attach, uri = f"ATTACH ? AS {quote_name(name)}", file_uri(path, **query)
    (was,) = conn.execute("PRAGMA writable_schema").fetchone()
    try:
        conn.execute(attach, (uri,))
    except sqlite3.DatabaseError as error:
        if _NAMES_MAIN not in str(error):
            raise
        # Right in a file of its own. With this, a view or trigger that cannot be read is left out.
        conn.execute("PRAGMA writable_schema=ON")
        conn.execute(attach, (uri,))
    if frozen:
        map_pages(conn, name)
    try:
        yield
    finally:
        conn.execute(f"DETACH {quote_name(name)}")
        conn.execute(f"PRAGMA writable_schema={was}")


@contextlib.contextmanager
def writable_schema(conn: sqlite3.Connection | StandIns) -> Iterator[None]:
    """Let rows of the schema be written in the block; SQLite reads them again afterwards."""
    (was,) = conn.execute("PRAGMA writable_schema").fetchone()
    conn.execute("PRAGMA writable_schema=ON")
    yield
    conn.execute(f"PRAGMA writable_schema={was}")
    reload_schema(conn)


@contextlib.contextmanager
def transaction(conn: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """One transaction on an autocommit connection: committed at the end, rolled back on an exception."""
    conn.execute(f"BEGIN {kind}")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def begin_snapshot(conn: sqlite3.Connection) -> None:
    """Begin a transaction that sees what there is now; SQLite alone waits for the first reading."""
    conn.execute("BEGIN")
    conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def copy_database(source: sqlite3.Connection, into: Path, told: Callable[[int], None] | None = None) -> None:
    """Copy what *source* sees to the new file *into*, which the caller makes durable.

    The copy shows one snapshot, which is held from the first step to the last. That is also why the
    steps never start over: SQLite does so only where the source was written since the step before,
    and a held snapshot stays what it was (sqlite.org/backup.html).

    Args:
        source: Any connection; one that is in a transaction stays in it.
        into: Must not exist.
        told: Is given the number of bytes after every step.
    """
    begun = not source.in_transaction
    if begun:
        source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    map_pages(source)
    page_bytes, done = int(pragma(source, "page_size")), 0

    def step(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        size_bytes = (total - remaining - done) * page_bytes
        writeback.add(size_bytes)
        if told is not None:
            told(size_bytes)
        done = total - remaining
        pieces.look()

    # Opened before SQLite opens it and closed after: an end in between would drop SQLite's locks.
    with (
        into.open("xb") as written,
        Writeback(written.fileno()) as writeback,
        _closing(sqlite3.connect(into, isolation_level=None)) as target,
    ):
        # Thrown away after any failure, so it needs neither journal nor syncs.
        target.execute("PRAGMA synchronous=OFF")
        source.backup(target, pages=max(1, _STEP_BYTES // page_bytes), progress=step)
    if begun:
        source.execute("ROLLBACK")


def foreign_key_violations(
    conn: sqlite3.Connection, schema: str = "main", only: Collection[str] | None = None
) -> dict[str, int]:
    """How many rows of each table of *schema*, or of those of *only*, lack their parent, where any do.

    A foreign key whose parent cannot be looked up at all (no such column, none that is unique, or
    in the order of a collation that only the application has) counts as one.
    """
    asked = tables(conn, schema) if only is None else only
    counts = {name: _violations_of(conn, name, schema) for name in asked}
    return {name: count for name, count in counts.items() if count}


def _violations_of(conn: sqlite3.Connection, table: str, schema: str) -> int:
    try:
        rows = conn.execute("SELECT count(*) FROM pragma_foreign_key_check(?, ?)", (table, schema))
        return int(rows.fetchone()[0])
    except sqlite3.OperationalError as error:
        if "foreign key mismatch" not in str(error) and not what_is_lacking(error):
            raise
        return 1


def parents(conn: sqlite3.Connection, table: str, schema: str = "main") -> set[str]:
    """The tables that foreign keys of *table* name, there or not."""
    rows = conn.execute('SELECT "table" FROM pragma_foreign_key_list(?, ?)', (table, schema))
    return {name for (name,) in rows}


def pragma(conn: sqlite3.Connection, name: str, schema: str = "main") -> str:
    """The value of `PRAGMA schema.name` as text."""
    return str(conn.execute(f"PRAGMA {quote_name(schema)}.{name}").fetchone()[0])


@dataclass(frozen=True)
class Column:
    """One column of a table as `table_xinfo` gives it.

    Attributes:
        pk: Place in the primary key, from 1; 0 for none.
        generated: True for a generated column, which cannot be written.
        virtual: True for a generated column that is not stored but computed whenever it is read.
        collation: In which the key compares it, where it is a part of one; empty for the rowid.
    """

    name: str
    type: str
    pk: int
    generated: bool
    virtual: bool = False
    collation: str = ""


@dataclass(frozen=True)
class Table:
    """What is needed to address each row of a table exactly once.

    Attributes:
        columns: All columns in the order of their definition.
        without_rowid: True where the primary key is the only address of a row.
        rowid: A name that reaches the rowid (rowid, _rowid_ or oid); None for WITHOUT ROWID.
        rowid_column: The INTEGER PRIMARY KEY column, which is the rowid itself; None without one.
    """

    name: str
    columns: tuple[Column, ...]
    without_rowid: bool
    rowid: str | None
    rowid_column: str | None

    @property
    def writable(self) -> tuple[str, ...]:
        """The names of all columns that can be written."""
        return tuple(c.name for c in self.columns if not c.generated)

    @property
    def stored(self) -> tuple[str, ...]:
        """The names of all columns that lie in the file, generated ones too where they are stored."""
        return tuple(c.name for c in self.columns if not c.virtual)

    def collate(self, column: str) -> str:
        """SQL behind *column* that has it compared as the key does, and not as the column would be alone."""
        collation = next((c.collation for c in self.columns if c.name == column), "")
        return f" COLLATE {quote_name(collation)}" if collation else ""

    @property
    def key(self) -> tuple[str, ...]:
        """The names that address a row: the rowid, or the primary key."""
        if self.rowid is not None:
            return (self.rowid,)
        return tuple(c.name for c in sorted(self.columns, key=lambda c: c.pk) if c.pk)


def root_pages(conn: sqlite3.Connection, schema: str = "main") -> dict[str, int]:
    """The page at which the tree of each table of *schema* begins, SQLite's own tables included."""
    sql = (
        f"SELECT name, rootpage FROM {quote_name(schema)}.sqlite_schema WHERE type = 'table' AND rootpage > 0"
    )
    return {"sqlite_schema": 1, **dict(conn.execute(sql))}


def describe_table(conn: sqlite3.Connection, name: str, schema: str = "main") -> Table:
    """Columns and addressing of table *name* in *schema*.

    Raises:
        SourceError: All three names of the rowid are columns, so rows cannot be addressed.
    """
    key = key_without_rowid(conn, name, schema)
    collations = {} if key is None else key[1]
    rows = conn.execute("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, ?)", (name, schema))
    columns = tuple(
        Column(n, t, pk, generated=hidden in (2, 3), virtual=hidden == 2, collation=collations.get(n, ""))
        for n, t, pk, hidden in rows
    )
    if key is not None:
        return Table(name, columns, without_rowid=True, rowid=None, rowid_column=None)
    alias = _rowid_column(conn, name, schema, columns)
    taken = {fold(c.name) for c in columns}
    free = [n for n in ("rowid", "_rowid_", "oid") if n not in taken]
    rowid = free[0] if free else alias
    if rowid is None:
        raise SourceError(
            f"the rows of {name} cannot be addressed: rowid, _rowid_ and oid are all columns",
            hint="Nothing was written. Rename one of these columns.",
        )
    return Table(name, columns, without_rowid=False, rowid=rowid, rowid_column=alias)


def key_without_rowid(
    conn: sqlite3.Connection, name: str, schema: str = "main"
) -> tuple[str, dict[str, str]] | None:
    """The index of the primary key of table *name* and its collations by column; None where it has a rowid.

    Not from `table_list`, for which SQLite works out every view each time.
    """
    # Without a rowid the key's own index ends in no rowid, which is column -1.
    found = conn.execute(
        "SELECT l.name, x.cid, x.name, x.coll, x.key "
        "FROM pragma_index_list(?1, ?2) l, pragma_index_xinfo(l.name, ?2) x WHERE l.origin = 'pk'",
        (name, schema),
    ).fetchall()
    if not found or any(cid == -1 for _, cid, *_ in found):
        return None
    return found[0][0], collations_of((column, coll) for _, _, column, coll, in_key in found if in_key)


def collations_of(key: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The collations of a unique *key* by column: BINARY, which tells most apart, for one it has twice."""
    collations: dict[str, str] = {}
    for column, collation in key:
        collations[column] = "BINARY" if column in collations else collation
    return collations


def _rowid_column(conn: sqlite3.Connection, name: str, schema: str, columns: Sequence[Column]) -> str | None:
    keys = [c for c in columns if c.pk]
    if len(keys) != 1 or keys[0].type.upper() != "INTEGER":
        return None
    # INTEGER PRIMARY KEY DESC is no alias of the rowid; it has an index of its own instead.
    origins = conn.execute("SELECT origin FROM pragma_index_list(?, ?)", (name, schema))
    return None if any(origin == "pk" for (origin,) in origins) else keys[0].name


def tables(conn: sqlite3.Connection, schema: str = "main") -> list[str]:
    """The names of all tables of *schema* that hold rows, in creation order.

    SQLite's own tables and virtual tables are left out; shadow tables, where a virtual
    table keeps its rows, are in.
    """
    return [
        name
        for (name,) in conn.execute(
            f"SELECT name FROM {quote_name(schema)}.sqlite_schema WHERE type = 'table' "
            f"AND rootpage > 0 AND {not_of_sqlite()} ORDER BY rowid"
        )
    ]


STATISTICS = ("sqlite_stat1", "sqlite_stat2", "sqlite_stat3", "sqlite_stat4")


def not_of_sqlite() -> str:
    """SQL that is true for the entries of a schema that are not SQLite's own.

    By name, since `writable_schema` lets anybody make a table whose name begins with sqlite_.
    """
    own = ", ".join(f"'{n}'" for n in ("sqlite_sequence", *STATISTICS))
    made = "type = 'index' AND sql IS NULL AND name LIKE 'sqlite^_autoindex^_%' ESCAPE '^'"
    return f"name NOT IN ({own}) AND NOT ({made})"


def count_rows(conn: sqlite3.Connection, table: str, schema: str = "main") -> int:
    """The number of rows of *table*."""
    sql = f"SELECT count(*) FROM {quote_name(schema)}.{quote_name(table)}"
    stand_ins = StandIns(conn)
    try:
        # SQLite counts the smallest index, whatever its order.
        stand_ins.lend_collations(missing_collations(conn, table, schema))
        return int(stand_ins.execute(sql).fetchone()[0])
    finally:
        stand_ins.remove()


def sequences(conn: sqlite3.Connection, schema: str = "main") -> dict[str, int]:
    """The AUTOINCREMENT counters of *schema* by table name, each as the number that SQLite takes it for."""
    if not has_table(conn, "sqlite_sequence", schema):
        return {}
    number = "CAST(coalesce(seq, 0) AS INTEGER)"
    return dict(conn.execute(f"SELECT name, {number} FROM {quote_name(schema)}.sqlite_sequence"))


def has_table(conn: sqlite3.Connection, name: str, schema: str = "main") -> bool:
    """True where *schema* has a table of that name."""
    sql = f"SELECT 1 FROM {quote_name(schema)}.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)"
    return conn.execute(sql, (name,)).fetchone() is not None


def wait_for_lock(conn: sqlite3.Connection, path: Path, *, timeout_s: float) -> None:
    """Take the write lock of *path* on *conn* (`BEGIN IMMEDIATE`).

    Raises:
        SourceBusyError: A writer held it for *timeout_s*. Transient.
    """
    conn.execute(f"PRAGMA busy_timeout={int(timeout_s * 1000)}")
    started = time.monotonic()
    try:
        conn.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "busy" not in str(error):
            raise translate(error, path) from error
        raise SourceBusyError(
            f"{path} was locked by a writer for {time.monotonic() - started:.1f} s",
            hint="Nothing was written. Run again when its writer has finished.",
        ) from error


def require_free_place(target: Path) -> None:
    """Return where neither *target* nor a sidecar of its name is there.

    A WAL or journal that an earlier database of that name left would be taken for the new one's:
    SQLite would play it back over the new pages.

    Raises:
        SourceError: Names what is in the way.
    """
    for path in (target, *files.sidecars(target)):
        if path.exists() or path.is_symlink():
            raise SourceError(
                f"{path} is there already",
                hint="Nothing was changed. Move it away, or name another path for the unified file.",
            )
