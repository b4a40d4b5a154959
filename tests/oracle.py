"""An account of a database that owes nothing to the proof: plain reads, compared in Python."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

_LARGE = 1 << 20

Account = dict[str, list[Any]]


class _Text(bytes):
    """A text's bytes, so that it differs from a blob with the same."""

    __slots__ = ()


def account_for(path: Path, *, collations: Iterable[str] = (), functions: Iterable[str] = ()) -> Account:
    """Everything that *path* holds, by name: rows with rowids and exact values, definitions, counters.

    Text comes as its bytes and reals as their bits, so nothing can be taken for something else.
    The *collations* and *functions* are lent, so that tables which need them can be walked.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        for name in collations:
            conn.create_collation(name, lambda a, b: (a > b) - (a < b))
        for name in functions:
            conn.create_function(name, -1, lambda *_: None, deterministic=True)
        conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        schema = conn.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema").fetchall()
        account: Account = {
            f"{kind} {name}": [(table, sql)] for kind, name, table, sql, _ in schema if not _internal(name)
        }
        stored = [name for kind, name, _, _, root in schema if kind == "table" and root]
        addresses = {name: _address(conn, name) for name in stored}
        conn.text_factory = _Text
        for name, address in addresses.items():
            account[f"rows of {name}"] = _rows(conn, name, address)
        return account


def _internal(name: str) -> bool:
    return name.startswith(("sqlite_autoindex_", "sqlite_stat")) or name == "sqlite_sequence"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _address(conn: sqlite3.Connection, table: str) -> str:
    """How the rowid of *table* is reached; NULL where it has none or none that means anything."""
    columns = [n.lower() for (n,) in conn.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))]
    sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    (without,) = conn.execute(sql, (table,)).fetchone()
    free = [n for n in ("rowid", "_rowid_", "oid") if n not in columns]
    return "NULL" if without or not free or _internal(table) else free[0]


def _rows(conn: sqlite3.Connection, table: str, address: str) -> list[Any]:
    # Two reads, since a row of a result cannot have more columns than the widest table.
    rowids = conn.execute(f"SELECT {address} FROM {_quoted(table)} NOT INDEXED").fetchall()
    try:
        values = conn.execute(f"SELECT * FROM {_quoted(table)} NOT INDEXED").fetchall()
    except sqlite3.OperationalError:
        # Of what cannot be computed, what it is computed from.
        columns = conn.execute(
            "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 2", (table,)
        ).fetchall()
        names = ", ".join(_quoted(n.decode()) for (n,) in columns)
        values = conn.execute(f"SELECT {names} FROM {_quoted(table)} NOT INDEXED").fetchall()
    rows = [(rowid, tuple(_exact(v) for v in row)) for (rowid,), row in zip(rowids, values, strict=True)]
    return sorted(rows, key=repr)


def _exact(value: object) -> tuple[str, object]:
    if isinstance(value, float):
        return "real", struct.pack(">d", value)
    if isinstance(value, bytes) and len(value) > _LARGE:
        return type(value).__name__, (len(value), hashlib.sha256(value).hexdigest())
    return type(value).__name__, value


def combine(accounts: Iterable[Account]) -> Account:
    """What one file must hold that replaces all of *accounts*."""
    together: Account = {}
    for account in accounts:
        for name, entries in account.items():
            together[name] = sorted(together.get(name, []) + entries, key=repr)
    return together
