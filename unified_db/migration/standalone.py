"""Merge and validate plain files, without an application: backup at one instant, merge, proof.

What stands behind `unify-db merge` and `unify-db validate`. The phases are the same as in a
whole run; only the place of the backups differs, which is `.unify-db/` beside the target.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from unified_db import files, sqlite
from unified_db.errors import GateClosedError, SourceError, UsageError
from unified_db.migration import backup, merge, runs, validate
from unified_db.migration.backup import PlainSource
from unified_db.migration.collisions import find_collisions, require_no_collisions
from unified_db.migration.copy import read_objects
from unified_db.migration.langgraph import holds_checkpoints
from unified_db.migration.layout import from_options, place_all, place_backup
from unified_db.migration.records import (
    Backup,
    Backups,
    Layout,
    Record,
    SourceKind,
    TableFacts,
    UnifiedFile,
    Verdict,
)

log = logging.getLogger(__name__)


class MergeReport(Record):
    """What `merge` and `validate` did.

    Attributes:
        seconds: Duration of each phase.
        backups: The folder with the copies; None where they were not kept.
        changed: False where the target was there and validated already.
    """

    target: Path
    tables: tuple[TableFacts, ...]
    size_bytes: int
    seconds: dict[str, float]
    verdicts: tuple[Verdict, ...]
    backups: Path | None = None
    changed: bool = True


def merge_sources(
    sources: Sequence[Path],
    into: Path,
    *,
    backups: Path | None = None,
    renames: Sequence[str] = (),
    unions: Sequence[str] = (),
) -> MergeReport:
    """Merge *sources* into the new file *into*, proven equal to them at one instant.

    A target that is there already and validates is left alone, so a rerun does nothing.

    Args:
        sources: One or more SQLite files, in use or not.
        into: The target; appears whole or not at all.
        backups: Folder for the copies; `.unify-db/backups/TIME` beside the target without it.
        renames: Objects that get another name, each as `SOURCE:OLD=NEW`.
        unions: Tables of several sources that become one, each as `TABLE` or `HOME:TABLE`.

    Raises:
        SourceError: A source cannot be used, two of them collide, or the target is there and is
            not this merge.
        UsageError: A rename or union of something that is not there.
        GateClosedError: The proof failed; nothing is at *into*.
    """
    into = into.absolute()
    plain = _plain_sources(sources, into)
    with runs.hold_lock(into.parent / ".unify-db", [*(s.path for s in plain), into]):
        layout = _read_layout(plain, renames, unions)
        if into.exists():
            return _require_same(plain, into, layout)
        sqlite.require_free_place(into)
        _require_space(plain, into, backups)
        folder = backups or _new_backup_folder(into)
        folder.mkdir(parents=True, exist_ok=True)
        taken = backup.take_backups(plain, folder).model_copy(update={"layout": layout})
        # Built and proven beside the target, so that what appears there is proven already.
        with tempfile.TemporaryDirectory(prefix=".unify-db-", dir=into.parent) as workshop:
            built = merge.merge_backups(taken, Path(workshop) / into.name)
            verdict = validate.validate(taken, built)
            _require_open(verdict)
            built.path.chmod(plain[0].path.stat().st_mode & 0o777)
            files.move_durably(built.path, into)
        return _report(into, taken, built, verdict, folder=folder)


def validate_sources(
    sources: Sequence[Path], against: Path, *, renames: Sequence[str] = (), unions: Sequence[str] = ()
) -> MergeReport:
    """Compare *against* with *sources* exactly; the verdict is in the report, open or closed.

    Copies of all files are made in a temporary folder, so that they may be in use. Renames and
    unions are those that the merge was given.
    """
    plain = _plain_sources(sources, against)
    return _validate(plain, against, _read_layout(plain, renames, unions))


def _read_layout(plain: Sequence[PlainSource], renames: Sequence[str], unions: Sequence[str]) -> Layout:
    """The layout that the options ask for; refused before anything is copied where it cannot be had."""
    schemas = []
    for source in plain:
        with sqlite.reading(source.path) as conn:
            schemas.append((source.label, read_objects(conn)))
    layout = from_options(renames, unions, schemas)
    places = place_all(schemas, layout)
    require_no_collisions(find_collisions(places, {s.label: s.kind for s in plain}))
    return layout


def _validate(plain: Sequence[PlainSource], against: Path, layout: Layout) -> MergeReport:
    with tempfile.TemporaryDirectory(prefix="unify-db-") as folder:
        (Path(folder) / "target").mkdir()
        taken = backup.take_backups(plain, Path(folder)).model_copy(update={"layout": layout})
        target = backup.take_backups([PlainSource(against, against.name)], Path(folder) / "target").items[0]
        tables = tuple(t for item in taken.items for t in _tables_of(item, layout))
        unified = UnifiedFile(
            path=target.path, size_bytes=target.size_bytes, sha256=target.sha256, tables=tables, seconds=0.0
        )
        verdict = validate.validate(taken, unified)
    return MergeReport(
        target=against,
        tables=tables,
        size_bytes=unified.size_bytes,
        seconds={"backup": taken.seconds, "validate": verdict.seconds},
        verdicts=(verdict,),
        changed=False,
    )


def _plain_sources(sources: Sequence[Path], target: Path) -> list[PlainSource]:
    if not sources:
        raise UsageError("no source was named", hint="Name one or more SQLite files.")
    plain: list[PlainSource] = []
    for path in sources:
        if sqlite.same_file(path, target):
            raise SourceError(
                f"{path} is the target itself", hint="Nothing was written. Name another file with --into."
            )
        if any(sqlite.same_file(path, known.path) for known in plain):
            raise UsageError(f"{path} was named twice", hint="Name every source once.")
        plain.append(PlainSource(path.resolve(), str(path), _kind_of(path)))
    return plain


def _kind_of(path: Path) -> SourceKind:
    with sqlite.reading(path) as conn:
        return "checkpoints" if holds_checkpoints(conn) else "application"


def _require_same(plain: Sequence[PlainSource], into: Path, layout: Layout) -> MergeReport:
    report = _validate(plain, into, layout)
    if not report.verdicts[0].passed:
        raise SourceError(
            f"{into} is there already and does not hold what the sources hold: "
            + report.verdicts[0].sentence(),
            hint="Nothing was changed. Move it away, or name another target.",
        )
    log.info("%s holds exactly what the sources hold; nothing to do", into)
    return report


def _require_space(plain: Sequence[PlainSource], into: Path, backups: Path | None) -> None:
    total = sum(p.stat().st_size for s in plain for p in (s.path, *files.sidecars(s.path)))
    for folder, needed in space_needed(total, target=into.parent, backups=backups or into.parent).items():
        free = files.free_bytes(folder)
        if free < needed:
            raise SourceError(
                f"not enough space at {folder}: {needed:,} bytes are needed, {free:,} are free",
                hint="Nothing was written. Make room, or use another file system with --backups.",
            )


def space_needed(total_bytes: int, *, target: Path, backups: Path) -> dict[Path, int]:
    """Bytes that sources of *total_bytes* need, by the folder where: a copy each, and a margin."""
    one = int(total_bytes * 1.05) + (4 << 20)
    needs = {target: one}
    needs[backups] = needs.get(backups, 0) + one
    return needs


def _new_backup_folder(into: Path) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    folder = into.parent / ".unify-db" / "backups" / moment
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _require_open(verdict: Verdict) -> None:
    if not verdict.passed:
        raise GateClosedError(
            verdict.sentence(), hint="The sources are untouched and there is no target. The backups are kept."
        )


def _report(into: Path, taken: Backups, built: UnifiedFile, verdict: Verdict, *, folder: Path) -> MergeReport:
    seconds = {"backup": taken.seconds, "merge": built.seconds, "validate": verdict.seconds}
    return MergeReport(
        target=into,
        tables=built.tables,
        size_bytes=into.stat().st_size,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        verdicts=(verdict,),
        backups=folder,
    )


def _tables_of(item: Backup, layout: Layout) -> list[TableFacts]:
    places = place_backup(item, layout)
    with sqlite.closing(sqlite.connect_frozen(item.path)) as conn:
        counters = sqlite.sequences(conn)
        return [
            TableFacts(
                name=places.name(n),
                source=item.label,
                rows=sqlite.count_rows(conn, n),
                sequence=counters.get(n),
                original=n if places.name(n) != n else None,
                united=places.union_of(n) is not None,
            )
            for n in sqlite.tables(conn)
        ]
