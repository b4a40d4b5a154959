"""Proof that the unified file holds exactly what the backups hold.

First by content: every object, sequence, row and cell, both directions. Then by meaning, for
LangGraph's tables: see `meaning.py`. Findings name places, never values.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from unified_db import files, pieces, sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, copy, definitions, langgraph, meaning, unions
from unified_db.migration.langgraph import TASK_PATH_UPGRADE
from unified_db.migration.layout import Placed, SourceLayout, place_backup
from unified_db.migration.records import (
    Backup,
    Backups,
    Finding,
    GateName,
    SchemaObject,
    UnifiedFile,
    Verdict,
)

log = logging.getLogger(__name__)

MAX_PLACES = 5


def validate(
    backups: Backups, unified: UnifiedFile, *, stamps: Mapping[Path, files.Stamp] | None = None
) -> Verdict:
    """Compare the unified file with its backups, by content and by meaning.

    Args:
        backups: With their digests.
        unified: What was merged from them.
        stamps: Of backups whose digest this process has taken since: that nobody wrote to
            them is seen from these.

    Returns:
        The verdict of the validation gate; closed where a single bit differs.

    Reads every page of the backups and of the unified file about twice, on all cores.
    """
    started = time.monotonic()
    findings = [f for found in pieces.do_together(_work(backups, unified, stamps or {})) for f in found]
    # Decoding rows that are known to differ would only say the same in more words.
    if all(f.passed for f in findings):
        findings += meaning.check_meaning(backups, unified.path)
    seconds = time.monotonic() - started
    verdict = Verdict(gate=GateName.VALIDATION, findings=tuple(findings), seconds=seconds)
    log.info("%s", verdict.sentence())
    return verdict


Check = Callable[[], Sequence[Finding]]


def _work(backups: Backups, unified: UnifiedFile, stamps: Mapping[Path, files.Stamp]) -> list[Check]:
    """All that content is checked for, in pieces that need nothing of each other."""
    pairs = [(b, place_backup(b, backups.layout)) for b in backups.items]
    work: list[Check] = [partial(_check_digest, b, stamps.get(b.path)) for b in backups.items]
    work.append(partial(_alone, unified.path, lambda conn: [_check_integrity(conn)]))
    for backup, places in pairs:
        work.append(partial(_beside, unified.path, backup, partial(_check_schema, places=places)))
        work += [
            partial(_beside, unified.path, backup, partial(_check_table, places=places, name=name))
            for name in _table_names(backup)
            if places.union_of(name) is None
        ]
    work.append(partial(_alone, unified.path, partial(_check_whole, backups=backups, pairs=pairs)))
    return work


def _table_names(backup: Backup) -> list[str]:
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        return sqlite.tables(conn)


def _alone(unified: Path, check: Callable[[sqlite3.Connection], Sequence[Finding]]) -> Sequence[Finding]:
    """What *check* finds on a connection of its own, of which the unified file is main."""
    with sqlite.closing(sqlite.connect_frozen(unified)) as conn:
        compare.prepare(conn)
        return check(conn)


def _beside(
    unified: Path, backup: Backup, check: Callable[[sqlite3.Connection], Sequence[Finding]]
) -> Sequence[Finding]:
    """As :func:`_alone`, with *backup* attached as src."""

    def attach_and_check(conn: sqlite3.Connection) -> Sequence[Finding]:
        with sqlite.attached(conn, backup.path, "src"):
            return check(conn)

    return _alone(unified, attach_and_check)


def _check_schema(conn: sqlite3.Connection, *, places: SourceLayout) -> list[Finding]:
    return [*_check_objects(conn, places), _check_sequences(conn, places)]


def _check_whole(
    conn: sqlite3.Connection, *, backups: Backups, pairs: Sequence[tuple[Backup, SourceLayout]]
) -> list[Finding]:
    all_places = [places for _, places in pairs]
    violations = 0
    for backup in backups.items:
        with sqlite.attached(conn, backup.path, "src"):
            violations += sqlite.foreign_key_violations(conn, "src")
    return [
        *_check_unions(conn, backups, all_places),
        _check_nothing_else(conn, all_places),
        _check_foreign_keys(conn, before=violations, united=bool(backups.layout.unions)),
        *_check_header_numbers(conn, backups.items),
    ]


def _check_digest(backup: Backup, stamp: files.Stamp | None) -> list[Finding]:
    if not backup.path.exists():
        same = False
    elif stamp is not None:
        same = files.stamp(backup.path) == stamp
    else:
        same = files.digest_file(backup.path) == backup.sha256
    return [
        Finding(
            check="backup is as it was taken",
            where=backup.label,
            required=f"sha256 {backup.sha256[:12]}",
            measured="the same" if same else "another or no file",
            passed=same,
        )
    ]


def _check_integrity(conn: sqlite3.Connection) -> Finding:
    problems = sqlite.integrity_problems(conn)
    return Finding(
        check="integrity_check",
        where="unified file",
        required="ok",
        measured=problems[0] if problems else "ok",
        passed=not problems,
    )


def _check_objects(conn: sqlite3.Connection, places: SourceLayout) -> Iterator[Finding]:
    wanted = places.unified
    # Names without case: a united table is called as its home calls it.
    present = {o.name.lower(): o for o in copy.read_objects(conn)}
    wrong = [
        p.unified
        for p in places.placed
        if not _placed(conn, p, places.label, present.get(p.unified.name.lower()))
    ]
    yield Finding(
        check="tables, indexes, views and triggers as defined",
        where=places.label,
        required=f"{len(wanted)} objects",
        measured=_measured_objects(len(wanted), wrong),
        passed=not wrong,
    )


def _measured_objects(total: int, wrong: Sequence[SchemaObject]) -> str:
    if not wrong:
        return f"{total} objects"
    names = ", ".join(f"{o.kind} {o.name}" for o in wrong[:MAX_PLACES])
    return f"{total - len(wrong)} of {total}; lost or changed: {names}"


def _placed(conn: sqlite3.Connection, item: Placed, label: str, found: SchemaObject | None) -> bool:
    if item.union is None:
        return _object_arrived(conn, item.unified, found)
    if found is None or found.kind != item.unified.kind:
        return False
    if found.kind == "table":
        ours, theirs = langgraph.upgraded_sql(found), langgraph.upgraded_sql(item.unified)
        return definitions.agree(ours, theirs) and (ours == theirs or label != item.union.home)
    return definitions.same_words(str(found.sql), str(item.unified.sql))


def _object_arrived(conn: sqlite3.Connection, wanted: SchemaObject, found: SchemaObject | None) -> bool:
    if found is None or (found.kind, found.name, found.table) != (wanted.kind, wanted.name, wanted.table):
        return False
    return found.sql == wanted.sql or _is_upgraded_writes(conn, wanted, found)


def _is_upgraded_writes(conn: sqlite3.Connection, wanted: SchemaObject, found: SchemaObject) -> bool:
    """True where the only difference is LangGraph's own column upgrade, with its default in every row."""
    if wanted.name != "writes" or wanted.kind != "table":
        return False
    with sqlite.closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(str(wanted.sql))
        scratch.execute(TASK_PATH_UPGRADE)
        upgraded = {o.name: o.sql for o in copy.read_objects(scratch)}["writes"]
    filled = conn.execute("SELECT count(*) FROM main.writes WHERE task_path IS NOT ''").fetchone()[0]
    return bool(found.sql == upgraded and filled == 0)


def _check_table(conn: sqlite3.Connection, *, places: SourceLayout, name: str) -> list[Finding]:
    rows = sqlite.count_rows(conn, name, "src")
    if sqlite.has_table(conn, places.name(name)):
        table = sqlite.describe_table(conn, name, "src")
        wrong = _compare(conn, table, places.name(name))
    else:
        wrong = ["the table is not there"]
    log.info("validation: %s from %s, %s rows compared", name, places.label, f"{rows:,}")
    return [
        Finding(
            check="every row and cell",
            where=f"{places.label}: {_both_names(name, places.name(name))}",
            required=f"{rows:,} rows, equal",
            measured=f"{rows:,} rows, equal" if not wrong else "; ".join(wrong),
            passed=not wrong,
        )
    ]


def _both_names(theirs: str, ours: str) -> str:
    return theirs if theirs == ours else f"{theirs}, now {ours}"


def _compare(conn: sqlite3.Connection, table: sqlite.Table, ours: str) -> list[str]:
    try:
        found = compare.find_differences(
            conn, table, left="src", right="main", right_name=ours, limit=MAX_PLACES
        )
    except sqlite3.DatabaseError as error:
        return [f"cannot be compared: {error}"]
    return [f"{d.kind} {d.place}" + (f" ({', '.join(d.columns)})" if d.columns else "") for d in found]


def _check_sequences(conn: sqlite3.Connection, places: SourceLayout) -> Finding:
    before, after = sqlite.sequences(conn, "src"), sqlite.sequences(conn)
    alone = {n: value for n, value in before.items() if places.union_of(n) is None}
    wrong = sorted(n for n, value in alone.items() if after.get(places.name(n)) != value)
    return Finding(
        check="AUTOINCREMENT counters",
        where=places.label,
        required=f"{len(alone)} equal",
        measured=f"{len(alone)} equal" if not wrong else "differ: " + ", ".join(wrong[:MAX_PLACES]),
        passed=not wrong,
    )


def _check_nothing_else(conn: sqlite3.Connection, all_places: Sequence[SourceLayout]) -> Finding:
    known = {(o.kind, o.name.lower()) for places in all_places for o in places.unified}
    extra = [o for o in copy.read_objects(conn) if (o.kind, o.name.lower()) not in known]
    return Finding(
        check="nothing that no source has",
        where="unified file",
        required="0 objects",
        measured=f"{len(extra)} objects" + "".join(f", {o.kind} {o.name}" for o in extra[:MAX_PLACES]),
        passed=not extra,
    )


def _check_unions(
    conn: sqlite3.Connection, backups: Backups, all_places: Sequence[SourceLayout]
) -> Iterator[Finding]:
    """For each united table: every row of every source is there, and no row that no source has."""
    paths = {b.label: b.path for b in backups.items}
    for union in backups.layout.unions:
        if not sqlite.has_table(conn, union.table):
            yield _united("every row and cell", union.table, "the table", "the table is not there")
            continue
        try:
            proof = unions.prove(conn, union, unions.parts_of(union, all_places, paths), limit=MAX_PLACES)
        except (sqlite3.DatabaseError, SourceError) as error:
            yield _united("every row and cell", union.table, "comparable", f"cannot be compared: {error}")
            continue
        for label, wrong in proof.wrong.items():
            rows = f"{proof.counts[label]:,} rows, equal"
            place = f"{label}: {union.table}, united"
            yield _united("every row and cell", place, rows, "; ".join(wrong) or rows)
        rows = f"{proof.rows:,} rows from {len(proof.wrong)} sources, of no other"
        strangers = f"{proof.strangers:,} of {proof.rows:,} rows are of none of them"
        yield _united("no row that no source has", union.table, rows, strangers if proof.strangers else rows)
        found, wanted = proof.counter
        yield _united("AUTOINCREMENT counter, the highest", union.table, str(wanted), str(found))


def _united(check: str, where: str, required: str, measured: str) -> Finding:
    return Finding(
        check=check, where=where, required=required, measured=measured, passed=required == measured
    )


def _check_foreign_keys(conn: sqlite3.Connection, *, before: int, united: bool) -> Finding:
    """As many broken as before; in united tables a row may have found its parent in another source."""
    after = sqlite.foreign_key_violations(conn)
    return Finding(
        check="foreign keys broken as before, none more",
        where="unified file",
        required=f"at most {before} rows" if united else f"{before} rows",
        measured=f"{after} rows",
        passed=after <= before if united else after == before,
    )


def _check_header_numbers(conn: sqlite3.Connection, backups: Sequence[Backup]) -> Iterator[Finding]:
    for name in ("user_version", "application_id"):
        wanted, found = str(copy.choose_header_number(backups, name)), sqlite.pragma(conn, name)
        yield Finding(
            check=name, where="unified file", required=wanted, measured=found, passed=found == wanted
        )
