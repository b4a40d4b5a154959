"""What `PRAGMA integrity_check` finds, sorted: damage, broken constraints, and what it cannot check.

Only the first of the three makes a file unusable. A row that breaks a NOT NULL or a CHECK (at which
SQLite does not look on a connection that only reads) is content like any other, and an index in the
order of a collation that only the application has is no damage; taken at face value, the pragma calls all
three an error. Nor is a value over which a function fails, such as one that only a newer SQLite takes for
JSON: there the pragma ends. Where a view or a virtual table comes first among what SQLite has in memory,
the pragma leaves the list of free pages out; it is asked for that too.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from unified_db import causes, sqlite
from unified_db.sqlite import quote_name
from unified_db.standins import StandIns, what_is_lacking

_MANY = 1_000_000
_BROKEN_CONSTRAINT = re.compile(
    r"^(NULL value in |CHECK constraint failed in |non-\w+ value in |(TEXT|NUMERIC) value in )"
)
_KEY_ORDER = re.compile(r"^row not in PRIMARY KEY order for ")


@dataclass(frozen=True)
class Integrity:
    """What was found in one file.

    Attributes:
        damage: Pages, records or indexes that contradict each other.
        broken: Rows that break a constraint of their table, one entry each.
        unchecked: Tables of which only the structure could be checked, with what is lacking.
    """

    damage: tuple[str, ...]
    broken: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def check_integrity(conn: sqlite3.Connection) -> Integrity:
    """Check every page, record and index of main, as far as this process can."""
    try:
        found = _lines(conn, "integrity_check", 100)
        if any(_BROKEN_CONSTRAINT.match(line) for line in found):
            # The limit counts broken constraints too, which must not hide the damage behind them.
            found = _lines(conn, "integrity_check", _MANY)
        free = _of_free_pages(conn)
    except sqlite3.DatabaseError as error:
        return _check_with_stand_ins(conn) if _why_unchecked(error) else Integrity((str(error),))
    return _sorted_out(found + [line for line in free if line not in found])


def _why_unchecked(error: sqlite3.Error) -> str | None:
    """What is lacking here, or what a function said of a value; None where *error* is about the file."""
    return what_is_lacking(error) or (str(error) if causes.is_of_content(error) else None)


def problems_of_its_own(conn: sqlite3.Connection) -> list[str]:
    """The damage in what main has beside anybody's tables: schema, free pages, SQLite's own tables."""
    there = [n for n in ("sqlite_sequence", *sqlite.STATISTICS) if sqlite.has_table(conn, n)]
    try:
        found = [line for name in there for line in _lines(conn, "integrity_check", name)]
        return found + _of_free_pages(conn)
    except sqlite3.DatabaseError as error:
        return [str(error)]


def integrity_problems(conn: sqlite3.Connection) -> list[str]:
    """The damage in main, empty where there is none."""
    return list(check_integrity(conn).damage)


def _lines(conn: sqlite3.Connection | StandIns, check: str, argument: str | int) -> list[str]:
    rows = conn.execute(f"PRAGMA main.{check}({argument})")
    found = [line for (row,) in rows for line in str(row).splitlines()]
    # What is wrong with the structure comes as one row, under a heading that says where.
    return [line for line in found if line != "ok" and not line.startswith("*** in database")]


def _of_free_pages(conn: sqlite3.Connection | StandIns) -> list[str]:
    """What is wrong in the list of free pages, which SQLite checks along with its table of the schema."""
    return _lines(conn, "integrity_check", "sqlite_schema")


def _sorted_out(found: list[str], unchecked: tuple[str, ...] = ()) -> Integrity:
    broken = tuple(line for line in found if _BROKEN_CONSTRAINT.match(line))
    damage = tuple(line for line in found if not _BROKEN_CONSTRAINT.match(line))
    return Integrity(damage, broken, unchecked)


def _structure(conn: StandIns, unchecked: Iterable[str]) -> list[str]:
    """What is wrong in pages and records; where rows cannot be gone through, the first of it in pages.

    Args:
        conn: With checks of constraints off.
        unchecked: The tables of which nothing else tells.
    """
    found = _lines_if_computed(conn, _MANY)
    if found is not None:
        return found
    # The pages come before all rows. But with the error that ends these, Python's sqlite3 loses the row that
    # it has read before, unless the first finding ends the pragma.
    found = _lines_if_computed(conn, 1) or []
    for name in unchecked:
        found += [line for line in _lines_if_computed(conn, quote_name(name)) or [] if line not in found]
    return found


def _lines_if_computed(conn: StandIns, argument: str | int) -> list[str] | None:
    """What `quick_check` says; None where a function fails over a value before it ends."""
    try:
        return _lines(conn, "quick_check", argument)
    except sqlite3.DatabaseError as error:
        if causes.is_of_content(error):
            return None
        raise


def _check_with_stand_ins(conn: sqlite3.Connection) -> Integrity:
    """The structure of everything, and the whole of every table that lacks nothing and can be computed."""
    found: list[str] = []
    unchecked: dict[str, str] = {}
    stand_ins = StandIns(conn)
    try:
        for name in sqlite.tables(conn):
            try:
                found += _lines(conn, "integrity_check", quote_name(name))
            except sqlite3.DatabaseError as error:
                why = _why_unchecked(error)
                if why is None:
                    raise
                unchecked[name] = why
        conn.execute("PRAGMA ignore_check_constraints=ON")
        # quick_check evaluates no index; the order of keys is all that a stand-in can get wrong.
        structure = _structure(stand_ins, unchecked) + _of_free_pages(stand_ins)
        found += [line for line in structure if line not in found and not _KEY_ORDER.match(line)]
    except sqlite3.DatabaseError as error:
        return Integrity((str(error),))
    finally:
        stand_ins.remove()
        conn.execute("PRAGMA ignore_check_constraints=OFF")
    return _sorted_out(found, tuple(f"{name} ({why})" for name, why in unchecked.items()))
