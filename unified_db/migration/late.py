"""Carries what was written to the sources since their backup into the ready copy, and proves it.

Once while the application still serves, and again without it for the sources that somebody wrote
meanwhile: `lookout.py` knows which, and mostly which of their rows. States are compared, so nothing is
guessed from times, sizes or counters of the files. What goes wrong beside the application is left for
the second time, when nobody writes in between.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unified_db import causes, files, pieces, sqlite
from unified_db.errors import CutoverRefusedError, SourceError
from unified_db.migration import changes, compare, copy, layout, union_changes, unions
from unified_db.migration.compare import WHOLE, Span
from unified_db.migration.journal import Journal
from unified_db.migration.lookout import Lookout, Lookouts
from unified_db.migration.recheck import UNTOUCHED, definitions
from unified_db.migration.records import Backup, Backups, MigrationPlan
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

# So many rows written while a source was compared are worth comparing it once more.
_MANY_ROWS = 100
_ROUNDS = 3


@dataclass(frozen=True)
class ReadyCopy:
    """The copy of the unified file that is to be put in place, and what it was made from."""

    path: Path
    plan: MigrationPlan
    backups: Backups


def carry_beside(ready: ReadyCopy, lookouts: Lookouts, run: RunFolder, journal: Journal) -> int:
    """Bring *ready* up to what the sources hold while the application serves; how many rows.

    From here on the lookouts tell what is written late. A writer of a source in WAL mode never
    waits; one of another source waits while it is copied.

    Raises:
        CutoverRefusedError: The schema of a source was changed since the plan.
    """
    total = 0
    for _ in range(_ROUNDS):
        carried = 0
        for item in ready.backups.items:
            lookout = lookouts.of(item.source)
            if lookout.is_late():
                carried += _carry_one_beside(ready, item, lookout, run, journal)
        carried += _carry_unions_beside(ready, lookouts)
        total += carried
        if carried < _MANY_ROWS:
            break
    files.fsync_file(ready.path)
    log.info("cut-over: %d rows written since the backup were carried while the application serves", total)
    return total


def _carry_one_beside(
    ready: ReadyCopy, item: Backup, lookout: Lookout, run: RunFolder, journal: Journal
) -> int:
    # Noted before it is read: what is written in between counts as late, too.
    lookout.note()
    try:
        with _image(lookout, run, journal) as (image, frozen), _beside(ready, image, frozen=frozen) as conn:
            _require_same_schema(conn, ready, item.label)
            # One transaction is one snapshot of the source; the comparison must see the same.
            with sqlite.transaction(conn):
                names = _names(conn, ready, item)
                carried = changes.carry_all(conn, names, frm="src")
                touched = {c.table for c in carried}
                names = {theirs: ours for theirs, ours in names.items() if ours in touched}
                changes.require_equal(conn, names, left="src", right="main")
            return sum(c.total for c in carried)
    except (SourceError, sqlite3.Error) as error:
        if causes.is_full_disk(error):
            # It would be as full after the stop.
            raise
        log.warning("cut-over: %s is compared once the application is stopped: %s", item.label, error)
        lookout.forget()
        return 0


def _carry_unions_beside(ready: ReadyCopy, lookouts: Lookouts) -> int:
    if not ready.backups.layout.unions:
        return 0
    try:
        if all(o.is_wal() for o in lookouts.each):
            return _carry_unions(ready)
        log.info("cut-over: united tables are compared once the application is stopped, no writer waits now")
    except (SourceError, sqlite3.Error) as error:
        if causes.is_full_disk(error):
            raise
        # A part that is written while others are read makes them differ; nobody does so after the stop.
        log.warning("cut-over: united tables are compared once the application is stopped: %s", error)
    for lookout in lookouts.each:
        lookout.forget()
    return 0


def carry_late(ready: ReadyCopy, lookouts: Lookouts) -> int:
    """Bring *ready* up to what the locked sources hold now; how many rows were carried.

    A source that nobody wrote since it was compared is not looked at again. United tables need all
    their parts, so they are carried where any source was written.

    Raises:
        SourceError: What was carried does not prove equal.
        CutoverRefusedError: The schema of a source was changed since the plan.
    """
    began = time.monotonic()
    written = [item for item in ready.backups.items if lookouts.of(item.source).is_late()]
    if not written:
        log.info("cut-over: nobody wrote since the sources were compared")
        return 0
    total = sum(_carry_one(ready, item, lookouts.of(item.source)) for item in written)
    total += _carry_unions(ready) if ready.backups.layout.unions else 0
    files.fsync_file(ready.path)
    log.info(
        "cut-over: %d rows written late in %s were carried over and compared in %.0f ms",
        total,
        " and ".join(item.label for item in written),
        (time.monotonic() - began) * 1000,
    )
    return total


def _carry_one(ready: ReadyCopy, item: Backup, lookout: Lookout) -> int:
    with _beside(ready, item.source, frozen=False) as conn:
        _require_same_schema(conn, ready, item.label)
        names = _names(conn, ready, item)
        written = lookout.changed_rows(sqlite.root_pages(conn, "src"))
        if written is None:
            spans = {name: changes.split(conn, name, "src") for name in names}
        else:
            spans = {name: found for name, found in written.items() if name in names}
    differing = _differing(ready, item, names, spans)
    with _beside(ready, item.source, frozen=False) as conn:
        # We hold the lock of the source, so nobody makes it shorter.
        sqlite.map_pages(conn, "src")
        sqlite.map_pages(conn)
        with sqlite.transaction(conn):
            carried = changes.carry_all(conn, names, frm="src", differing=differing)
    # The other spans were the same under this lock, and no row of theirs was named; that none was taken
    # away beside (a table may say ON CONFLICT REPLACE) is seen from the counts.
    left = _differing(ready, item, names, differing, counted=True)
    if left:
        raise SourceError(
            f"{next(iter(left))} of {item.label} differs after its rows were carried",
            hint="The rows are still where they were; nothing was deleted.",
        )
    return sum(c.total for c in carried)


def _differing(
    ready: ReadyCopy,
    item: Backup,
    names: Mapping[str, str],
    spans: Mapping[str, Sequence[Span]],
    *,
    counted: bool = False,
) -> dict[str, list[Span]]:
    """The *spans* of tables that are not the same in a locked source and the ready copy, on all cores.

    With *counted* also a table that was not compared whole and has another number of rows.
    """
    found: dict[str, list[Span]] = {}
    with contextlib.ExitStack() as stack:
        free: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for _ in range(pieces.cores()):
            free.put(stack.enter_context(_reading(ready, item)))

        def look(name: str, span: Span, differs: Callable[..., bool]) -> None:
            conn = free.get()
            try:
                if differs(conn, name, names[name], left="src", right="main"):
                    found.setdefault(name, []).append(span)
            finally:
                free.put(conn)

        work = [partial(look, n, s, partial(changes.differs, span=s)) for n in spans for s in spans[n]]
        if counted:
            parted = [n for n, few in spans.items() if few != [WHOLE]]
            work += [partial(look, n, WHOLE, changes.has_other_count) for n in parted]
        pieces.do_together(work)
    return found


@contextlib.contextmanager
def _reading(ready: ReadyCopy, item: Backup) -> Iterator[sqlite3.Connection]:
    """As :func:`_beside`, for files that stay as they are: one is ours, we hold the other's lock."""
    with sqlite.closing(sqlite.connect_frozen(ready.path)) as conn:
        compare.prepare(conn)
        # Never frozen: the end of such a connection would drop the lock that we hold.
        with sqlite.attached(conn, item.source, "src", frozen=False):
            sqlite.map_pages(conn, "src")
            yield conn


@contextlib.contextmanager
def _beside(ready: ReadyCopy, source: Path, *, frozen: bool) -> Iterator[sqlite3.Connection]:
    """A connection to the ready copy with *source* attached as src; all of it is in the file afterwards."""
    with sqlite.closing(sqlite.connect_writable(ready.path)) as conn:
        compare.prepare(conn)
        with sqlite.attached(conn, source, "src", frozen=frozen):
            yield conn
        # Moved and read without its WAL from here on.
        sqlite.empty_wal(conn, ready.path)


@contextlib.contextmanager
def _image(lookout: Lookout, run: RunFolder, journal: Journal) -> Iterator[tuple[Path, bool]]:
    """Where to read a source that is in use, and whether that is a copy that nobody writes."""
    if lookout.is_wal():
        yield lookout.path, False
        return
    # Without a WAL writers wait for as long as somebody reads: copying takes less than comparing.
    image = run.path / f"late-{lookout.path.name}"
    with journal.act("late-image", path=str(image)):
        _remove(image)
        with sqlite.closing(sqlite.connect_read_only(lookout.path)) as conn:
            sqlite.copy_database(conn, image)
    try:
        yield image, True
    finally:
        _remove(image)


def _remove(image: Path) -> None:
    for left in (*files.sidecars(image), image):
        left.unlink(missing_ok=True)


def _names(conn: sqlite3.Connection, ready: ReadyCopy, item: Backup) -> dict[str, str]:
    """What each table of the attached source that is not united is called in the ready copy."""
    places = layout.place_attached(conn, item.label, ready.backups.layout)
    alone = [n for n in sqlite.tables(conn, "src") if places.union_of(n) is None]
    return {name: places.name(name) for name in alone}


def _carry_unions(ready: ReadyCopy) -> int:
    total = 0
    paths = {b.label: b.source for b in ready.backups.items}
    with sqlite.closing(sqlite.connect_writable(ready.path)) as conn:
        compare.prepare(conn)
        places: list[layout.SourceLayout] = []
        for item in ready.backups.items:
            with sqlite.attached(conn, item.source, "src", frozen=False):
                places.append(layout.place_attached(conn, item.label, ready.backups.layout))
        for union in ready.backups.layout.unions:
            parts = unions.parts_of(union, places, paths, frozen=False)
            total += union_changes.carry_late(conn, union, parts).total
        sqlite.empty_wal(conn, ready.path)
    return total


def _require_same_schema(conn: sqlite3.Connection, ready: ReadyCopy, label: str) -> None:
    planned = next(s.objects for s in ready.plan.sources if s.label == label)
    found = copy.read_objects(conn, "src")
    if definitions(found) != definitions(planned):
        raise CutoverRefusedError(f"the schema of {label} was changed since the plan", hint=UNTOUCHED)
