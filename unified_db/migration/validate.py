"""Proof that the unified file holds exactly what the backups hold.

First by content: every object, sequence, row and cell, both directions; tables that lie in the same pages
in both files by these. Then by meaning, for LangGraph's tables: see `meaning.py`. Findings name places, never
values.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from unified_db import files, pieces, sqlite
from unified_db.errors import SourceError
from unified_db.migration import compare, meaning, schema_checks, unions
from unified_db.migration.layout import SourceLayout, place_backup
from unified_db.migration.records import (
    Backup,
    Backups,
    Finding,
    GateName,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.same_pages import SamePages
from unified_db.migration.schema_checks import MAX_PLACES, SourceState

log = logging.getLogger(__name__)

Check = Callable[[], Sequence[Finding]]

# How much longer a checkpoint's bytes take to be decoded than to be found in the unified file.
_DECODED_PER_CHECKED = 10
# So many for the tables of a backup, each of which reads the whole schema of both files.
_CONNECTIONS = 8


def validate(
    backups: Backups,
    unified: UnifiedFile,
    *,
    taken: Future[Backups] | None = None,
    decoding: tuple[meaning.Decoding, Future[meaning.Decoded]] | None = None,
    same: Mapping[str, SamePages] | None = None,
    further: Sequence[Check] = (),
) -> Verdict:
    """Compare the unified file with its backups, by content and by meaning.

    Args:
        backups: With their digests, or *taken*.
        unified: What was merged from them.
        taken: What the backups will be once this process has their digests; that nobody writes to them
            meanwhile is seen from their stamps.
        decoding: That of the backups, where it has begun already.
        same: What :func:`look_for_same_pages` returned, where the caller has a use for it too.
        further: What else is to be checked beside it.

    Returns:
        The verdict of the validation gate; closed where a single bit differs.

    Reads every page of the backups and of the unified file about twice, on all cores.
    """
    started = time.monotonic()
    same = same or look_for_same_pages(backups, unified)
    # What waits for a digest comes last.
    checks = [*_work(backups, unified, same), *further, *_check_digests(backups, taken)]
    running, begun = decoding or (meaning.Decoding(backups), None)
    # Where there is something to decode, that takes longest: how far it is, the proof mostly is.
    each = max(running.size_bytes // (_DECODED_PER_CHECKED * len(checks)), 1)
    tally = pieces.Tally("validate", running.size_bytes + each * len(checks))
    checks = [partial(_counted, check, tally, each) for check in checks]
    told = running.tell(tally)

    def check_meaning() -> Sequence[Finding]:
        decoded = pieces.result_of(begun) if begun else running.run()
        return meaning.check_meaning(backups, unified.path, decoded, told.read)

    # Decoding is Python's own work, and `integrity_check` cannot be divided. What takes longest fills a core
    # from beginning to end, so it begins first, and all else has what that leaves of the cores.
    longest = 0 if running.size_bytes else 1
    work = [check_meaning, *checks[:longest], *(pieces.behind(check) for check in checks[longest:])]
    meant, *found = pieces.do_together(work, threads=pieces.cores() + 1)
    findings = [f for part in found for f in part]
    # Decoding rows that are known to differ would only say the same in more words.
    if all(f.passed for f in findings):
        findings += meant
    seconds = time.monotonic() - started
    verdict = Verdict(gate=GateName.VALIDATION, findings=tuple(findings), seconds=seconds)
    log.info("%s", verdict.sentence())
    return verdict


def _counted(check: Check, tally: pieces.Tally, size_bytes: int) -> Sequence[Finding]:
    found = check()
    tally.add(size_bytes)
    return found


def _work(backups: Backups, unified: UnifiedFile, same: Mapping[str, SamePages]) -> list[Check]:
    """All that content is checked for, in pieces that need nothing of each other; the longest one first."""
    pairs = [(b, place_backup(b, backups.layout)) for b in backups.items]
    work: list[Check] = [partial(_alone, unified.path, partial(_check_integrity, backups=backups))]
    work += [
        partial(_beside, unified.path, backup, partial(_check_objects, places=places))
        for backup, places in pairs
    ]
    work += plan_comparison(backups, unified, same)
    work.append(partial(_alone, unified.path, partial(_check_whole, backups=backups, pairs=pairs)))
    return work


def look_for_same_pages(
    backups: Backups, unified: UnifiedFile, *, whole: Collection[str] = ()
) -> dict[str, SamePages]:
    """For each backup, by its label, how to find out which of its tables are in the same pages.

    Args:
        backups: What was merged.
        unified: The outcome.
        whole: Labels of those of which it is asked whether all of their pages are the same.
    """
    found = {}
    for backup in backups.items:
        places = place_backup(backup, backups.layout)
        kept = [n for n in _table_names(backup) if places.union_of(n) is None and places.name(n) == n]
        asked = backup.label in whole
        found[backup.label] = SamePages(backup.path, unified.path, kept, whole=asked)
    return found


def plan_comparison(backups: Backups, unified: UnifiedFile, same: Mapping[str, SamePages]) -> list[Check]:
    """The exact comparison alone, of every table that is not united, in some pieces for each backup.

    Where the pages of a table are the same, that counts only beside `integrity_check`.
    """
    work: list[Check] = []
    for backup in backups.items:
        places, pages = place_backup(backup, backups.layout), same[backup.label]
        names = [name for name in _table_names(backup) if places.union_of(name) is None]
        size = -(-len(names) // _CONNECTIONS) or 1
        for begin in range(0, len(names), size):
            check = partial(_check_tables, places=places, names=names[begin : begin + size], same=pages)
            work.append(partial(_beside, unified.path, backup, check))
    # What several pieces would wait for together goes before them.
    return [partial(_look_at_pages, pages) for pages in same.values()] + work


def _look_at_pages(same: SamePages) -> Sequence[Finding]:
    """Find out which tables are the same; that one is not is no finding yet."""
    same.find()
    return ()


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


def _check_objects(conn: sqlite3.Connection, *, places: SourceLayout) -> list[Finding]:
    return [schema_checks.check_objects(conn, places)]


def _check_integrity(conn: sqlite3.Connection, *, backups: Backups) -> list[Finding]:
    return list(schema_checks.check_integrity(conn, backups.items))


def _check_whole(
    conn: sqlite3.Connection, *, backups: Backups, pairs: Sequence[tuple[Backup, SourceLayout]]
) -> list[Finding]:
    states: list[SourceState] = []
    broken = sqlite.foreign_key_violations(conn)
    for backup, places in pairs:
        with sqlite.attached(conn, backup.path, "src"):
            states.append(schema_checks.read_state(conn, places, broken=broken))
    return [
        *_check_unions(conn, backups, [places for _, places in pairs]),
        schema_checks.check_nothing_else(conn, states),
        schema_checks.check_counters(conn, states),
        *schema_checks.check_statistics(conn, states),
        schema_checks.check_foreign_keys(broken, states),
        *schema_checks.check_header_numbers(conn, backups.items),
    ]


def _check_digests(backups: Backups, taken: Future[Backups] | None) -> list[Check]:
    if taken is None:
        return [partial(_check_digest, b) for b in backups.items]
    return [partial(_check_stamp, b, files.stamp(b.path), taken) for b in backups.items]


def _check_digest(backup: Backup) -> list[Finding]:
    same = backup.path.exists() and files.digest_file(backup.path) == backup.sha256
    return [_as_taken(backup, same=same)]


def _check_stamp(backup: Backup, stamp: files.Stamp, taken: Future[Backups]) -> list[Finding]:
    found = {item.path: item for item in pieces.result_of(taken).items}
    same = backup.path.exists() and files.stamp(backup.path) == stamp
    return [_as_taken(found.get(backup.path, backup), same=same)]


def _as_taken(backup: Backup, *, same: bool) -> Finding:
    return Finding(
        check="backup is as it was taken",
        where=backup.label,
        required=f"sha256 {backup.sha256[:12]}",
        measured="the same" if same else "another or no file",
        passed=same,
    )


def _check_tables(
    conn: sqlite3.Connection, *, places: SourceLayout, names: Sequence[str], same: SamePages
) -> list[Finding]:
    return [_check_table(conn, places, name, same) for name in names]


def _check_table(conn: sqlite3.Connection, places: SourceLayout, name: str, same: SamePages) -> Finding:
    # Rows that cannot be addressed are refused, whatever would prove them.
    rows, table = sqlite.count_rows(conn, name, "src"), sqlite.describe_table(conn, name, "src")
    is_same = name in same.find().tables
    if is_same:
        wrong = []
    elif sqlite.has_table(conn, places.name(name)):
        wrong = _compare(conn, table, places.name(name))
    else:
        wrong = ["the table is not there"]
    how = "in the same pages" if is_same else "compared"
    log.info("validation: %s from %s, %s rows %s", name, places.label, f"{rows:,}", how)
    return Finding(
        check="every row and cell",
        where=f"{places.label}: {_both_names(name, places.name(name))}",
        required=f"{rows:,} rows, equal",
        measured=f"{rows:,} rows, equal" if not wrong else "; ".join(wrong),
        passed=not wrong,
    )


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
