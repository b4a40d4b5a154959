"""Copies schema objects and rows between attached databases, by name and with rowids."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from unified_db import causes, sqlite
from unified_db.errors import SourceError
from unified_db.migration.page_trees import SchemaRow
from unified_db.migration.records import Backup, ObjectKind, SchemaObject
from unified_db.sqlite import STATISTICS, Table, fold, quote_name
from unified_db.standins import StandIns

_NO_UTF_8 = "No statement can name it. Give it another name from the program that made it."
_BY_HAND = (
    "It was changed by hand (PRAGMA writable_schema): on a copy of the file, set the type to table, index, "
    "view or trigger, and write the names of SQLite's own tables small."
)
_KINDS = get_args(ObjectKind)
_OF_SQLITE = ("sqlite_sequence", *STATISTICS)


def read_objects(conn: sqlite3.Connection, schema: str = "main") -> tuple[SchemaObject, ...]:
    """All tables, indexes, triggers and views of *schema* in creation order, SQLite's own left out.

    Raises:
        SourceError: An entry that SQLite would not have written in this way, though it reads it.
    """
    rows = conn.execute(
        f"SELECT type, name, tbl_name, sql FROM {quote_name(schema)}.sqlite_schema "
        f"WHERE {sqlite.not_of_sqlite()} ORDER BY rowid"
    ).fetchall()
    for kind, name, *_ in rows:
        by_hand = kind not in _KINDS or not isinstance(name, str)
        if by_hand or (name != fold(name) and fold(name) in _OF_SQLITE):
            said = f"its schema has an entry of type {kind} and name {name}, which SQLite does not write"
            raise _of(conn, schema, said, _BY_HAND)
        if raw(name) != name:
            raise _of(conn, schema, f"the name of a {kind}, {raw(name)!r}, is no UTF-8", _NO_UTF_8)
    return tuple(SchemaObject(kind=k, name=n, table=t, sql=s) for k, n, t, s in rows)


def _of(conn: sqlite3.Connection, schema: str, said: str, hint: str) -> SourceError:
    (path,) = conn.execute("SELECT file FROM pragma_database_list WHERE name = ?", (schema,)).fetchone()
    return SourceError(f"{Path(path).name}: {said}", hint=f"Nothing was written. {hint}")


def is_virtual(item: SchemaObject) -> bool:
    """True for a virtual table, which has no rows of its own."""
    return item.kind == "table" and (item.sql or "").lstrip().upper().startswith("CREATE VIRTUAL")


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Have an error over content in the block, which may say "malformed JSON" alone, begin with *what*.

    Raises:
        sqlite3.IntegrityError: In place of such an error; one over a constraint names its table itself.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        if not causes.is_of_content(error):
            raise
        raise sqlite3.IntegrityError(f"{what}: {error}") from error


def failing_columns(conn: sqlite3.Connection | StandIns, table: Table, schema: str = "main") -> list[str]:
    """The generated columns of *table* that cannot be computed here of all of its rows."""
    failing = []
    for column in (c.name for c in table.columns if c.generated):
        try:
            place = f"{quote_name(schema)}.{quote_name(table.name)}"
            conn.execute(f"SELECT count({quote_name(column)}) FROM {place}").fetchone()
        except sqlite3.Error as error:
            if not causes.is_of_content(error):
                raise
            failing.append(column)
    return failing


def name_failing(columns: Sequence[str]) -> str:
    """How a sentence about a row goes on where generated *columns* fail over it; empty without any."""
    return f", generated column {', '.join(columns)}" if columns else ""


def create_tables(conn: sqlite3.Connection | StandIns, objects: Iterable[SchemaObject]) -> None:
    """Create the ordinary tables among *objects* in main, with their definitions as they were."""
    # Also lets a table that another tool named sqlite_something be made.
    with sqlite.writable_schema(conn):
        for item in objects:
            if item.kind == "table" and item.sql and not is_virtual(item):
                with about(f"table {item.name}"):
                    conn.execute(item.sql)


def create_the_rest(conn: sqlite3.Connection | StandIns, objects: Iterable[SchemaObject]) -> None:
    """Create indexes, then virtual tables, views and triggers, once the rows are there.

    Virtual tables, views and triggers are written into the schema as text: their definitions need
    modules, functions or tables that may not be at hand here, and creating a virtual table the
    ordinary way would make its shadow tables again.
    """
    objects = tuple(objects)
    create_indexes(conn, objects)
    restore_definitions(conn, [o for o in objects if _has_pages(o)])
    write_schema_rows(conn, [o for o in objects if o.sql and not _has_pages(o)])


def _has_pages(item: SchemaObject) -> bool:
    return item.kind in ("table", "index") and not is_virtual(item)


def restore_definitions(conn: sqlite3.Connection | StandIns, objects: Iterable[SchemaObject]) -> None:
    """Give *objects* of main the text they had, where running it stored another, and their table's name.

    SQLite writes `CREATE TABLE` and names in its own spelling; `writable_schema` may have left another.
    """
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    present = {(kind, name): (table, sql) for kind, name, table, sql in rows}
    changed = [o for o in objects if o.sql and present.get((o.kind, o.name)) != (o.table, o.sql)]
    if not changed:
        return
    with sqlite.writable_schema(conn):
        for item in changed:
            conn.execute(
                "UPDATE sqlite_schema SET tbl_name = CAST(? AS TEXT), sql = CAST(? AS TEXT) "
                "WHERE type = ? AND name = ?",
                (raw(item.table), raw(item.sql), item.kind, item.name),
            )


def create_indexes(conn: sqlite3.Connection | StandIns, objects: Iterable[SchemaObject]) -> None:
    """Create the indexes among *objects* in main that are not there yet."""
    for item in objects:
        if item.kind == "index" and item.sql and not _has_index(conn, item.name):
            with about(f"index {item.name}"):
                conn.execute(item.sql)


def _has_index(conn: sqlite3.Connection | StandIns, name: str) -> bool:
    sql = "SELECT 1 FROM main.sqlite_schema WHERE type = 'index' AND lower(name) = lower(?)"
    return conn.execute(sql, (name,)).fetchone() is not None


def write_schema_rows(
    conn: sqlite3.Connection | StandIns, objects: Sequence[SchemaObject], *, schema: str = "main"
) -> None:
    """Write virtual tables, views or triggers into the schema of *schema* without running their SQL."""
    if not objects:
        return
    with sqlite.writable_schema(conn):
        for item in objects:
            conn.execute(
                f"INSERT INTO {quote_name(schema)}.sqlite_schema (type, name, tbl_name, rootpage, sql) "
                "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), 0, CAST(? AS TEXT))",
                (item.kind, raw(item.name), raw(item.table), raw(item.sql)),
            )


def adopt_trees(
    conn: sqlite3.Connection,
    rows: Iterable[SchemaRow],
    pairs: Iterable[tuple[SchemaObject, SchemaObject]],
) -> None:
    """Write tables and indexes into the schema of main whose trees are in its file already.

    Args:
        conn: Nobody else may use its database.
        rows: As their own file has them, but for the roots.
        pairs: Each object as it was there, and as it shall be.
    """
    placed: dict[tuple[str, str], SchemaObject] = {(old.kind, old.name): new for old, new in pairs}
    renamed = {fold(name): new.name for (_, name), new in placed.items() if name != new.name}
    with sqlite.writable_schema(conn):
        for row in rows:
            new = placed.get((row.kind, row.name))
            name = new.name if new else _index_name(row.table, row.name, renamed)
            table = new.table if new else _renamed(row.table, renamed)
            conn.execute(
                "INSERT INTO main.sqlite_schema (type, name, tbl_name, rootpage, sql) "
                "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT))",
                (row.kind, raw(name), raw(table), row.root, raw(new.sql if new else None)),
            )


def raw(text: str | None) -> str | bytes | None:
    """*text* as SQLite is given it: as its bytes, to be cast, where these are no UTF-8."""
    if text is None or not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    return text.encode("utf-8", "surrogateescape")


def copy_rows(
    conn: sqlite3.Connection | StandIns, table: Table, *, from_schema: str, into: str | None = None
) -> int:
    """Copy all rows of *table* from *from_schema* into the empty table of that name, or *into*, in main.

    Columns go by name, never by position, and the rowid goes along. Returns the number of rows.

    Raises:
        SourceError: The table has 2,000 columns and no room for the rowid beside them.
    """
    columns = list(table.writable)
    late = None
    if table.rowid is not None and table.rowid_column is None:
        if len(columns) >= _MAX_COLUMNS:
            late = _optional_column(conn, table, from_schema)
            columns.remove(late)
        columns.insert(0, table.rowid)
    names = ", ".join(quote_name(c) for c in columns)
    order = ", ".join(quote_name(k) for k in table.key)
    source = f"{quote_name(from_schema)}.{quote_name(table.name)}"
    target = quote_name(into or table.name)
    cursor = conn.execute(
        f"INSERT OR ABORT INTO main.{target} ({names}) SELECT {names} FROM {source} ORDER BY {order}"
    )
    if late is not None:
        last, rowid = quote_name(late), quote_name(str(table.rowid))
        same = f"s.{rowid} = {target}.{rowid}"
        conn.execute(f"UPDATE main.{target} SET {last} = (SELECT {last} FROM {source} s WHERE {same})")
    return cursor.rowcount


def can_transfer(conn: sqlite3.Connection | StandIns, table: Table, *, schema: str) -> bool:
    """True where `SELECT *` names exactly what *table* stores, and a transfer keeps its rowids.

    It numbers the rows anew of a table that has neither an INTEGER PRIMARY KEY nor an index.
    """
    if any(c.generated for c in table.columns):
        return False
    if table.without_rowid or table.rowid_column is not None:
        return True
    sql = "SELECT 1 FROM pragma_index_list(?, ?)"
    return conn.execute(sql, (table.name, schema)).fetchone() is not None


def transfer_rows(conn: StandIns, table: Table, *, from_schema: str, into: str) -> int | None:
    """Copy *table* with its indexes into the empty table *into* in main as records, unread and unsorted.

    What SQLite does for `SELECT *` between definitions that it finds equal, indexes included
    (`xferOptimization` in its insert.c); takes half the time of copying by name and indexing after.

    Args:
        conn: With both schemas.
        table: One that :func:`can_transfer` allows.
        from_schema: Where it is.
        into: A table of the same definition, whose indexes are there already.

    Returns:
        The number of rows; None, with nothing copied, where SQLite would go the ordinary way.
    """
    target, source = f"main.{quote_name(into)}", f"{quote_name(from_schema)}.{quote_name(table.name)}"
    sql = f"INSERT INTO {target} SELECT * FROM {source}"
    if not can_transfer(conn, sqlite.describe_table(conn.connection, into), schema="main"):
        return None
    if _columns(conn, "main", into) != _columns(conn, from_schema, table.name):
        return None
    # Nothing but a transfer reads whole records, and it does so only into an empty table.
    steps = {row[1] for row in conn.execute(f"EXPLAIN {sql}")}
    if not steps & {"RowCell", "RowData"} or conn.execute(f"SELECT 1 FROM {target} LIMIT 1").fetchone():
        return None
    return conn.execute(sql).rowcount


def _columns(conn: sqlite3.Connection | StandIns, schema: str, table: str) -> list[tuple[Any, ...]]:
    return conn.execute("SELECT * FROM pragma_table_xinfo(?, ?)", (table, schema)).fetchall()


# SQLite's limit as Python's sqlite3 is usually built; a result may not have one column more either.
_MAX_COLUMNS = 2000


def _optional_column(conn: sqlite3.Connection | StandIns, table: Table, schema: str) -> str:
    """A column that may be left NULL while the others are inserted."""
    rows = conn.execute(
        'SELECT name FROM pragma_table_xinfo(?, ?) WHERE hidden = 0 AND NOT "notnull"', (table.name, schema)
    )
    found = rows.fetchone()
    if found is None:
        raise SourceError(
            f"{table.name} has {len(table.writable):,} columns, all NOT NULL, and no INTEGER PRIMARY KEY",
            hint="Nothing was written. SQLite cannot carry that many columns with the rowid; "
            "let one of the columns be NULL.",
        )
    return str(found[0])


def copy_sequences(
    conn: sqlite3.Connection, *, from_schema: str, tables: Mapping[str, str], to_schema: str = "main"
) -> None:
    """Give tables in *to_schema* exactly the AUTOINCREMENT counters that they have in *from_schema*.

    Args:
        conn: With both schemas.
        from_schema: Where the counters are right.
        tables: The tables' names in *to_schema* by their names in *from_schema*.
        to_schema: Where they are set.
    """
    if not sqlite.has_table(conn, "sqlite_sequence", to_schema):
        return
    there = sqlite.has_table(conn, "sqlite_sequence", from_schema)
    counters = f"{quote_name(to_schema)}.sqlite_sequence"
    for ours in tables.values():
        conn.execute(f"DELETE FROM {counters} WHERE name = ?", (ours,))
    for theirs, ours in tables.items() if there else ():
        conn.execute(
            f"INSERT INTO {counters} (name, seq) SELECT ?, seq "
            f"FROM {quote_name(from_schema)}.sqlite_sequence WHERE name = ? ORDER BY rowid",
            (ours, theirs),
        )


def make_counters(conn: sqlite3.Connection) -> None:
    """Have main have `sqlite_sequence`."""
    if not sqlite.has_table(conn, "sqlite_sequence"):
        # The only way to make SQLite's own table; it stays when the last table that needs it goes.
        taken = {fold(name) for (name,) in conn.execute("SELECT name FROM main.sqlite_schema")}
        free = next(n for n in map("unify_db_counter{}".format, itertools.count()) if n not in taken)
        conn.execute(f"CREATE TABLE main.{free} (id INTEGER PRIMARY KEY AUTOINCREMENT)")
        conn.execute(f"DROP TABLE main.{free}")


def copy_orphan_sequences(conn: sqlite3.Connection, *, from_schema: str) -> None:
    """Copy the counters in *from_schema* of tables that no longer exist, unless main has such a table.

    SQLite never reads them; under the name of a table that does exist, it would.
    """
    if not sqlite.has_table(conn, "sqlite_sequence", from_schema):
        return
    schema = quote_name(from_schema)
    make_counters(conn)
    known = " UNION ".join(
        f"SELECT name FROM {s}.sqlite_schema WHERE type = 'table'" for s in (schema, "main")
    )
    conn.execute(
        f"INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM {schema}.sqlite_sequence "
        f"WHERE name IS NULL OR name NOT IN ({known}) ORDER BY rowid"
    )


def read_counters(conn: sqlite3.Connection, schema: str = "main") -> Counter[tuple[Any, ...]]:
    """The rows (name, type, value) of `sqlite_sequence`, duplicates counted."""
    if not sqlite.has_table(conn, "sqlite_sequence", schema):
        return Counter()
    rows = conn.execute(f"SELECT name, typeof(seq), seq FROM {quote_name(schema)}.sqlite_sequence")
    return Counter(tuple(row) for row in rows)


def choose_counters(
    sources: Sequence[tuple[Counter[tuple[Any, ...]], Iterable[str]]],
) -> Counter[tuple[Any, ...]]:
    """The counters that the unified file must have.

    The rule: a table keeps its own; that of a table which no longer exists is kept too, unless
    the unified file has a table of that name.

    Args:
        sources: Pairs of a source's counters and the names of its tables.
    """
    owned = [set(tables) for _, tables in sources]
    chosen: Counter[tuple[Any, ...]] = Counter()
    for place, (counters, _) in enumerate(sources):
        others = set().union(*(o for i, o in enumerate(owned) if i != place))
        chosen.update(
            {row: n for row, n in counters.items() if row[0] in owned[place] or row[0] not in others}
        )
    return chosen


def copy_statistics(
    conn: sqlite3.Connection, *, from_schema: str, renamed: Mapping[str, str], without: Collection[str] = ()
) -> None:
    """Copy the rows that ANALYZE left in *from_schema*, so that query plans stay as they were.

    Args:
        conn: With both schemas; the rows go to main.
        from_schema: Where they are.
        renamed: New names of tables and indexes by the old ones.
        without: Tables of *from_schema* whose rows are left out, whatever case ANALYZE found them in.
    """
    for name in STATISTICS:
        if not sqlite.has_table(conn, name, from_schema):
            continue
        schema = quote_name(from_schema)
        if not sqlite.has_table(conn, name):
            (sql,) = conn.execute(
                f"SELECT sql FROM {schema}.sqlite_schema WHERE name = ?", (name,)
            ).fetchone()
            # SQLite makes only those that it was built to use, and this only while ANALYZE runs.
            with sqlite.writable_schema(conn):
                conn.execute(sql)
        left_out = {fold(table) for table in without}
        rows = conn.execute(f"SELECT * FROM {schema}.{name}").fetchall()
        _add_statistics(conn, name, [r for r in rows if fold(str(r[0])) not in left_out], renamed)


def _add_statistics(
    conn: sqlite3.Connection, name: str, rows: Sequence[tuple[Any, ...]], renamed: Mapping[str, str]
) -> None:
    for row in rename_statistics(rows, renamed):
        marks = ", ".join("?" * len(row))
        conn.execute(f"INSERT INTO main.{name} VALUES ({marks})", row)


def rename_statistics(rows: Iterable[tuple[Any, ...]], renamed: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Rows of a `sqlite_stat` table under the new names of their tables and indexes."""
    # Which may be there in another case: ANALYZE writes the names that tables have at the time.
    spelt = {fold(old): new for old, new in renamed.items()}
    return [(_renamed(t, spelt), _index_name(t, i, spelt), *rest) for t, i, *rest in rows]


def _renamed(name: Any, renamed: Mapping[str, str]) -> Any:
    """What *name* became by *renamed*, where old names stand small; what is no text is no name, and stays."""
    return renamed.get(fold(name), name) if isinstance(name, str) else name


def _index_name(table: Any, index: Any, renamed: Mapping[str, str]) -> Any:
    """As `_renamed` for an index; SQLite names those it makes itself after their table."""
    new, made = _renamed(table, renamed), f"sqlite_autoindex_{table}_"
    if new != table and isinstance(index, str) and fold(index).startswith(fold(made)):
        return f"sqlite_autoindex_{new}_{index[len(made) :]}"
    return _renamed(index, renamed)


def rename_in_place(conn: sqlite3.Connection, pairs: Iterable[tuple[SchemaObject, SchemaObject]]) -> None:
    """Give objects of main their new names and definitions, with what SQLite keeps under their names.

    Args:
        conn: Nobody else may use its database.
        pairs: Each object as it is, and as it shall be.
    """
    pairs = tuple(pairs)
    changed = [(old, new) for old, new in pairs if old != new]
    if not changed:
        return
    # A name that stays may stand in another case in the statistics, and stays that way there.
    renamed = {fold(old.name): new.name for old, new in changed if old.name != new.name}
    with sqlite.writable_schema(conn):
        made = [row[0] for row in conn.execute("SELECT rowid FROM main.sqlite_schema WHERE sql IS NULL")]
        for rowid in made:
            _rename_made_index(conn, rowid, renamed)
        # By rowid, since one object may take the name that another gives up.
        places = {
            (k, n): rowid for rowid, k, n in conn.execute("SELECT rowid, type, name FROM main.sqlite_schema")
        }
        conn.executemany(
            "UPDATE main.sqlite_schema SET name = ?, tbl_name = ?, sql = CAST(? AS TEXT) WHERE rowid = ?",
            [(new.name, new.table, raw(new.sql), places[old.kind, old.name]) for old, new in changed],
        )
    _rename_counters(conn, {old.name: new.name for old, new in pairs if old.kind == "table"})
    for name in STATISTICS:
        if sqlite.has_table(conn, name):
            rows = conn.execute(f"SELECT * FROM main.{name}").fetchall()
            conn.execute(f"DELETE FROM main.{name}")
            _add_statistics(conn, name, rows, renamed)


def _rename_counters(conn: sqlite3.Connection, tables: Mapping[str, str]) -> None:
    """Give the AUTOINCREMENT counters of *tables*, old names and new, the new names."""
    if not sqlite.has_table(conn, "sqlite_sequence"):
        return
    for rowid, name in conn.execute("SELECT rowid, name FROM main.sqlite_sequence").fetchall():
        if is_left_behind(name, tables):
            conn.execute("DELETE FROM main.sqlite_sequence WHERE rowid = ?", (rowid,))
        elif tables.get(name, name) != name:
            conn.execute("UPDATE main.sqlite_sequence SET name = ? WHERE rowid = ?", (tables[name], rowid))


def is_left_behind(name: Any, tables: Mapping[str, str]) -> bool:
    """True for the counter of a table that is gone where one of *tables*, old names and new, takes its name.

    It would be that table's counter from then on.
    """
    return name not in tables and name in tables.values()


def _rename_made_index(conn: sqlite3.Connection, rowid: int, renamed: Mapping[str, str]) -> None:
    sql = "SELECT name, tbl_name FROM main.sqlite_schema WHERE rowid = ?"
    name, table = conn.execute(sql, (rowid,)).fetchone()
    if fold(table) in renamed:
        conn.execute(
            "UPDATE main.sqlite_schema SET name = ?, tbl_name = ? WHERE rowid = ?",
            (_index_name(table, name, renamed), _renamed(table, renamed), rowid),
        )


def choose_header_number(backups: Sequence[Backup], name: str) -> int:
    """Which source's *name* the unified file carries.

    The rule where sources disagree: an application's source goes before all others, and among
    equals the first that is not zero wins, in the order of the configuration.
    """
    values: list[int] = []
    for backup in sorted(backups, key=lambda b: b.kind != "application"):
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
            values.append(int(sqlite.pragma(conn, name)))
    return next((v for v in values if v), 0)
