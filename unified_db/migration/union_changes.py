"""Late writes into a united table, and what was written to it carried back into its sources.

The rules are those of `unions.py`. States are compared, so carrying twice is carrying once, and a
row that two sources have stays in the united table until both have lost it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from unified_db import files, sqlite
from unified_db.errors import SourceError
from unified_db.migration import changes, compare, langgraph, unions
from unified_db.migration.changes import Carried
from unified_db.migration.records import Union
from unified_db.migration.unions import KEYS, ROWS, Part
from unified_db.sqlite import Table, fold, quote_name

_CHANGED = "unify_changed"
_KEPT = "The rows are still where they were; nothing was deleted."


def carry_late(conn: sqlite3.Connection, union: Union, parts: Sequence[Part]) -> Carried:
    """Bring the united table in main up to what its *parts* hold now, and prove it.

    Must be called in autocommit, on a connection that `compare.prepare` prepared. Triggers do not
    fire. New rows get rowids of their own, those of the home too.

    Raises:
        SourceError: Two parts have different rows under one key, so that none of them may win.
    """
    table = unions.by_key(conn, union.table)
    ours = f"main.{quote_name(union.table)}"
    deleted = unions.list_strangers(conn, table, ours, parts)
    inserted = updated = 0
    try:
        with sqlite.transaction(conn), changes.without_triggers(conn, "main"):
            conn.execute(
                f"DELETE FROM {ours} AS f WHERE EXISTS "
                f"(SELECT 1 FROM temp.{KEYS} WHERE {unions.is_listed(table, 'f')})"
            )
        for part in parts:
            own = sqlite.sequences(conn).get(union.table)
            with unions.reading_part(conn, part, table.writable):
                _list_changed(conn, table, union.table)
                with sqlite.transaction(conn), changes.without_triggers(conn, "main"):
                    updated += _replace_changed(conn, table, union.table)
                    inserted += unions.insert_new(conn, table, ours)
                unions.raise_counter(conn, union, part, own)
    except sqlite3.IntegrityError as error:
        raise SourceError(f"late rows of {union.table} cannot be united: {error}", hint=_KEPT) from error
    require_united(conn, union, parts)
    return Carried(union.table, inserted=inserted, updated=updated, deleted=deleted)


def carry_back(union: Union, parts: Sequence[Part], unified: Path) -> list[Carried]:
    """Bring the old files of a united table up to what it holds now, and prove it; what was carried.

    A row that is changed or gone is so in every old file that has it; a new one goes to the home.

    Args:
        union: The table.
        parts: Every old file that has a part in it, all of them unused.
        unified: The unified file, unused.

    Raises:
        SourceError: A row cannot be carried; it is still in the unified file.
    """
    carried: list[Carried] = []
    for part in parts:
        others = [p for p in parts if p is not part]
        with sqlite.closing(sqlite.connect_writable(part.path)) as conn:
            compare.prepare(conn)
            with sqlite.attached(conn, unified, "unified", frozen=False):
                done = _carry_into(conn, union, part, others)
        files.fsync_file(part.path)
        carried += [done] if done.total else []
    with sqlite.closing(sqlite.connect_read_only(unified)) as conn:
        compare.prepare(conn)
        require_united(conn, union, parts)
    return carried


def require_united(conn: sqlite3.Connection, union: Union, parts: Sequence[Part]) -> None:
    """Return where the united table in main holds every row of its *parts* exactly, and no other.

    Raises:
        SourceError: Names the first difference.
    """
    proof = unions.prove(conn, union, parts, limit=1, rowids=False)
    for label, wrong in proof.wrong.items():
        if wrong:
            raise SourceError(
                f"{union.table} is united, but does not hold what {label} has there: {wrong[0]}; "
                "where two sources have a row under one key, it must be the same row",
                hint=_KEPT,
            )
    if proof.strangers:
        raise SourceError(
            f"{union.table} is united and has {proof.strangers:,} rows that no source has", hint=_KEPT
        )


def _list_changed(conn: sqlite3.Connection, table: Table, name: str) -> None:
    """Fill `temp.unify_changed` with the keys whose rows differ in main's *name*, and their rowids there."""
    keys = ", ".join(f"f.{quote_name(k)} AS k{n}" for n, k in enumerate(table.key))
    here = sqlite.describe_table(conn, name)
    rowid = f"t.{here.rowid}" if here.rowid else "NULL"
    conn.execute(f"DROP TABLE IF EXISTS temp.{_CHANGED}")
    conn.execute(
        f"CREATE TEMP TABLE {_CHANGED} AS SELECT {rowid} AS r, {keys} FROM temp.{ROWS} f "
        f"JOIN main.{quote_name(name)} t ON {compare.keys_equal(table, 'f', 't')} "
        f"WHERE NOT ({compare.rows_equal(table.writable, 'f', 't')})"
    )


def _replace_changed(conn: sqlite3.Connection, table: Table, name: str) -> int:
    """Give the rows of main's *name* that are listed as changed their new content, in their places."""
    ours = f"main.{quote_name(name)}"
    terms = [f"f.{quote_name(k)} = c.k{n}{table.collate(k)}" for n, k in enumerate(table.key)]
    same = compare.balanced(terms, "AND")
    # All deletes come first, so that two rows may have swapped a unique value.
    conn.execute(f"DELETE FROM {ours} AS f WHERE EXISTS (SELECT 1 FROM temp.{_CHANGED} c WHERE {same})")
    into = [quote_name(c) for c in table.writable]
    chosen = [f"f.{c}" for c in into]
    here = sqlite.describe_table(conn, name)
    if here.rowid is not None and here.rowid_column is None:
        into.insert(0, here.rowid)
        chosen.insert(0, "c.r")
    return conn.execute(
        f"INSERT OR ABORT INTO {ours} ({', '.join(into)}) SELECT {', '.join(chosen)} "
        f"FROM temp.{_CHANGED} c JOIN temp.{ROWS} f ON {same}"
    ).rowcount


def _carry_into(conn: sqlite3.Connection, union: Union, part: Part, others: Sequence[Part]) -> Carried:
    """Bring main, the old file of *part*, up to the united table, which is attached as `unified`."""
    whole = unions.by_key(conn, union.table, "unified")
    is_home = part.label == union.home
    _list_new(conn, whole, union, part, others)
    new = sqlite.count_rows(conn, KEYS, "temp") if is_home else 0
    if _needs_task_path(conn, whole, union, part, is_home=is_home):
        langgraph.upgrade_writes(conn)
    table = _in_columns_of(conn, whole, part.table)
    ours = f"main.{quote_name(part.table)}"
    with unions.viewing(conn, union.table, "unified", table.writable):
        _list_changed(conn, table, part.table)
        with sqlite.transaction(conn), changes.without_triggers(conn, "main"):
            gone = conn.execute(
                f"DELETE FROM {ours} AS t WHERE NOT EXISTS "
                f"(SELECT 1 FROM temp.{ROWS} f WHERE {compare.keys_equal(table, 'f', 't')})"
            ).rowcount
            changed = _replace_changed(conn, table, part.table)
            if new:
                names = ", ".join(quote_name(c) for c in table.writable)
                order = ", ".join(quote_name(k) for k in table.key)
                conn.execute(
                    f"INSERT OR ABORT INTO {ours} ({names}) SELECT {names} FROM temp.{ROWS} f WHERE EXISTS "
                    f"(SELECT 1 FROM temp.{KEYS} WHERE {unions.is_listed(table, 'f')}) ORDER BY {order}"
                )
    if is_home:
        _advance_counter(conn, union, part, others)
    return Carried(part.table, inserted=new, updated=changed, deleted=gone)


def _list_new(
    conn: sqlite3.Connection, whole: Table, union: Union, part: Part, others: Sequence[Part]
) -> None:
    """Fill `temp.unify_keys` with the keys of the united table that no old file has."""
    unions.list_strangers(conn, whole, f"unified.{quote_name(union.table)}", others)
    with unions.viewing(conn, part.table, "main", whole.writable):
        unions.drop_listed(conn, whole)


def _needs_task_path(
    conn: sqlite3.Connection, whole: Table, union: Union, part: Part, *, is_home: bool
) -> bool:
    """True where a row that this old file has, or gets, holds a task path for which it has no column."""
    here = {c.name for c in sqlite.describe_table(conn, part.table).columns}
    if "task_path" in here or "task_path" not in whole.writable or not langgraph.holds_checkpoints(conn):
        return False
    same = compare.keys_equal(whole, "t", "f")
    wanted = f"EXISTS (SELECT 1 FROM main.{quote_name(part.table)} t WHERE {same})"
    if is_home:
        wanted += f" OR EXISTS (SELECT 1 FROM temp.{KEYS} WHERE {unions.is_listed(whole, 'f')})"
    sql = (
        f"SELECT 1 FROM unified.{quote_name(union.table)} f WHERE task_path IS NOT '' AND ({wanted}) LIMIT 1"
    )
    return conn.execute(sql).fetchone() is not None


def _in_columns_of(conn: sqlite3.Connection, whole: Table, name: str) -> Table:
    here = {fold(c) for c in sqlite.describe_table(conn, name).writable}
    columns = tuple(c for c in whole.columns if fold(c.name) in here)
    return Table(whole.name, columns, whole.without_rowid, whole.rowid, whole.rowid_column)


def _advance_counter(conn: sqlite3.Connection, union: Union, part: Part, others: Sequence[Part]) -> None:
    """Give the home the united table's AUTOINCREMENT counter where that has advanced since the switch."""
    counters = [sqlite.sequences(conn).get(part.table)]
    for other in others:
        with sqlite.attached(conn, other.path, "part", frozen=other.frozen):
            counters.append(sqlite.sequences(conn, "part").get(other.table))
    now = sqlite.sequences(conn, "unified").get(union.table)
    if now is not None and now > max((c for c in counters if c is not None), default=-1):
        unions.set_counter(conn, part.table, now)
