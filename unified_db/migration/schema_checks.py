"""Findings about everything in a file that is not a row: objects, counters, statistics, header numbers.

Of each, all that the sources have must be there as it was, and nothing else. Names of tables are
named; the samples in `sqlite_stat4` are values, so they never are.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_db import integrity, sqlite
from unified_db.migration import copy, definitions, langgraph
from unified_db.migration.langgraph import TASK_PATH_UPGRADE
from unified_db.migration.layout import Placed, SourceLayout
from unified_db.migration.records import Backup, Finding, SchemaObject
from unified_db.sqlite import STATISTICS, fold, quote_name

MAX_PLACES = 5

Rows = Counter[tuple[Any, ...]]


@dataclass(frozen=True)
class SourceState:
    """What one source has beside its rows, under the names of the unified file.

    Attributes:
        counters: The rows of `sqlite_sequence`, those of united tables left out, as of the statistics.
        statistics: The rows of each `sqlite_stat` table.
        united: Tables that other sources have a part in; in small letters, as in the two that follow.
        violations: Broken foreign keys by table. None is looked for where that follows from the rows: where
            none is broken in the unified file, and none may refer to another source.
        open_ended: Tables whose rows may refer to a row that another source has.
    """

    places: SourceLayout
    tables: frozenset[str]
    counters: Rows
    statistics: Mapping[str, Rows]
    united: frozenset[str]
    violations: Mapping[str, int]
    open_ended: frozenset[str]


def read_state(
    conn: sqlite3.Connection, places: SourceLayout, *, broken: Collection[str], schema: str = "src"
) -> SourceState:
    """The state of the source that is attached to *conn* as *schema*.

    Args:
        conn: With the source.
        places: Where its objects are in the unified file.
        broken: The tables of that which have broken foreign keys.
        schema: The name of the source there.
    """
    names = {name: places.name(name) for name in sqlite.tables(conn, schema)}
    united = {name for name in names if places.union_of(name) is not None}
    closed = {fold(p.original.name) for p in places.placed if p.original.kind == "table"}
    closed -= {fold(name) for name in united}
    open_ended = {
        fold(names[name])
        for name in names
        if name in united or any(fold(p) not in closed for p in sqlite.parents(conn, name, schema))
    }
    in_question = open_ended | {fold(name) for name in broken}
    asked = [name for name in names if fold(names[name]) in in_question]
    violations = sqlite.foreign_key_violations(conn, schema, only=asked)
    counters = copy.read_counters(conn, schema)
    folded = frozenset(fold(name) for name in united)
    return SourceState(
        places=places,
        tables=frozenset(names.values()),
        counters=Counter(
            {
                (names.get(n, n), *rest): c
                for (n, *rest), c in counters.items()
                if n not in united and not copy.is_left_behind(n, names)
            }
        ),
        statistics={
            stat: _typed(
                copy.rename_statistics(
                    [r for r in _rows_of(conn, stat, schema) if fold(str(r[0])) not in folded], places.renamed
                )
            )
            for stat in STATISTICS
        },
        united=frozenset(fold(names[n]) for n in united),
        violations={fold(names[n]): c for n, c in violations.items()},
        open_ended=frozenset(open_ended),
    )


def _rows_of(conn: sqlite3.Connection, table: str, schema: str = "main") -> list[tuple[Any, ...]]:
    if not sqlite.has_table(conn, table, schema):
        return []
    return conn.execute(f"SELECT * FROM {quote_name(schema)}.{table}").fetchall()


def _typed(rows: Iterable[tuple[Any, ...]]) -> Rows:
    # 1 and 1.0 are one key of a Counter.
    return Counter(tuple((type(v).__name__, v) for v in row) for row in rows)


def check_integrity(conn: sqlite3.Connection, backups: Sequence[Backup]) -> Iterator[Finding]:
    """Every page, record and index; and rows that break a constraint, as many as before."""
    found = integrity.check_integrity(conn)
    note = f"ok; of {', '.join(found.unchecked)} only the structure" if found.unchecked else "ok"
    yield Finding(
        check="integrity_check",
        where="unified file",
        required="ok",
        measured=found.damage[0] if found.damage else note,
        passed=not found.damage,
    )
    if not found.broken:
        return
    before = 0
    for backup in backups:
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as source:
            before += len(integrity.check_integrity(source).broken)
    yield Finding(
        check="constraints broken as before, none more",
        where="unified file",
        required=f"{before:,} rows",
        measured=f"{len(found.broken):,} rows",
        passed=len(found.broken) == before,
    )


def check_objects(conn: sqlite3.Connection, places: SourceLayout) -> Finding:
    """Every object of the source with its definition, to the letter."""
    total = len(places.placed)
    # Names without case: a united table is called as its home calls it. With the kind, since a
    # trigger may have the name of a table.
    present = {(o.kind, fold(o.name)): o for o in copy.read_objects(conn)}
    wrong = [
        p.unified
        for p in places.placed
        if not _placed(conn, p, places.label, present.get((p.unified.kind, fold(p.unified.name))))
    ]
    names = ", ".join(f"{o.kind} {o.name}" for o in wrong[:MAX_PLACES])
    return Finding(
        check="tables, indexes, views and triggers as defined",
        where=places.label,
        required=f"{total} objects",
        measured=f"{total - len(wrong)} of {total}; lost or changed: {names}"
        if wrong
        else f"{total} objects",
        passed=not wrong,
    )


def _placed(conn: sqlite3.Connection, item: Placed, label: str, found: SchemaObject | None) -> bool:
    if item.union is None:
        return _arrived(conn, item.unified, found)
    if found is None:
        return False
    if found.kind == "table":
        ours, theirs = langgraph.upgraded_sql(found), langgraph.upgraded_sql(item.unified)
        return definitions.agree(ours, theirs) and (ours == theirs or label != item.union.home)
    return definitions.same_words(str(found.sql), str(item.unified.sql))


def _arrived(conn: sqlite3.Connection, wanted: SchemaObject, found: SchemaObject | None) -> bool:
    if found is None or (found.name, found.table) != (wanted.name, wanted.table):
        return False
    return found.sql == wanted.sql or _is_upgraded_writes(conn, wanted, found)


def _is_upgraded_writes(conn: sqlite3.Connection, wanted: SchemaObject, found: SchemaObject) -> bool:
    """True where the only difference is LangGraph's own column upgrade, with its default in every row."""
    if wanted.name != "writes" or wanted.kind != "table":
        return False
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(str(wanted.sql))
        try:
            scratch.execute(TASK_PATH_UPGRADE)
        except sqlite3.OperationalError:
            return False
        upgraded = {o.name: o.sql for o in copy.read_objects(scratch)}["writes"]
    if found.sql != upgraded:
        return False
    return not conn.execute("SELECT 1 FROM main.writes WHERE task_path IS NOT '' LIMIT 1").fetchone()


def check_nothing_else(conn: sqlite3.Connection, states: Sequence[SourceState]) -> Finding:
    """No object in the unified file that no source has."""
    known = Counter((o.kind, fold(o.name)) for state in states for o in state.places.unified)
    found = Counter((o.kind, fold(o.name)) for o in copy.read_objects(conn))
    extra = list((found - known).elements())
    return Finding(
        check="nothing that no source has",
        where="unified file",
        required="0 objects",
        measured=f"{len(extra)} objects" + "".join(f", {kind} {name}" for kind, name in extra[:MAX_PLACES]),
        passed=not extra,
    )


def check_counters(conn: sqlite3.Connection, states: Sequence[SourceState]) -> Finding:
    """The AUTOINCREMENT counters, by the rule of :func:`copy.choose_counters`."""
    wanted = copy.choose_counters([(s.counters, s.tables) for s in states])
    found = copy.read_counters(conn)
    alone = Counter({row: n for row, n in found.items() if fold(str(row[0])) not in _united(states)})
    return _same_rows("AUTOINCREMENT counters", wanted, alone, lambda row: str(row[0]))


def _united(states: Sequence[SourceState]) -> frozenset[str]:
    return frozenset[str]().union(*(s.united for s in states))


def check_statistics(conn: sqlite3.Connection, states: Sequence[SourceState]) -> Iterator[Finding]:
    """The rows that ANALYZE left, which query plans rest on; no finding where there are none at all."""
    for stat in STATISTICS:
        wanted: Rows = Counter()
        for state in states:
            wanted.update(state.statistics[stat])
        found = _typed(r for r in _rows_of(conn, stat) if fold(str(r[0])) not in _united(states))
        if wanted or found:
            yield _same_rows(stat, wanted, found, _name_statistic)


def _name_statistic(row: tuple[Any, ...]) -> str:
    table, index = row[0][1], row[1][1]
    return str(table) if index is None else f"{table}.{index}"


def _same_rows(check: str, wanted: Rows, found: Rows, name: Any) -> Finding:
    wrong = sorted({name(row) for row in ((wanted - found) + (found - wanted))})
    return Finding(
        check=check,
        where="unified file",
        required=f"{wanted.total()} equal",
        measured=f"{found.total()} equal" if not wrong else "differ: " + ", ".join(wrong[:MAX_PLACES]),
        passed=not wrong,
    )


def check_foreign_keys(broken: Mapping[str, int], states: Sequence[SourceState]) -> Finding:
    """Foreign keys that were broken before still are, and none else.

    A row that refers to a table which came with another source, or one of a united table, may
    have found its parent now: there the number may have gone down.

    Args:
        broken: How many there are of each table of the unified file.
        states: Of all sources.
    """
    before: Counter[str] = Counter()
    for state in states:
        before.update(state.violations)
    may_shrink = frozenset[str]().union(*(s.open_ended for s in states))
    after = Counter({fold(name): n for name, n in broken.items()})
    wrong = [
        name
        for name in sorted(before.keys() | after.keys())
        if after[name] > before[name] or (after[name] < before[name] and name not in may_shrink)
    ]
    places = "; ".join(f"{n}: {after[n]} instead of {before[n]}" for n in wrong[:MAX_PLACES])
    healed = sum((before - after).values())
    note = f", {healed} found their parents in another source" if healed else ""
    return Finding(
        check="foreign keys broken as before, none more",
        where="unified file",
        required=f"{before.total()} rows",
        measured=places or f"{after.total()} rows{note}",
        passed=not wrong,
    )


def check_header_numbers(conn: sqlite3.Connection, backups: Sequence[Backup]) -> Iterator[Finding]:
    """The encoding, and both numbers by the rule of :func:`copy.choose_header_number`."""
    encodings: set[str] = set()
    for backup in backups:
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as source:
            encodings.add(sqlite.pragma(source, "encoding"))
    found = sqlite.pragma(conn, "encoding")
    yield Finding(
        check="text encoding",
        where="unified file",
        required=" or ".join(sorted(encodings)),
        measured=found,
        passed=found in encodings,
    )
    for name in ("user_version", "application_id"):
        wanted, found = str(copy.choose_header_number(backups, name)), sqlite.pragma(conn, name)
        yield Finding(
            check=name, where="unified file", required=wanted, measured=found, passed=found == wanted
        )
