"""Merge and validate plain files, without an application: backup at one instant, merge, proof.

What stands behind `unify-db merge` and `unify-db validate`. The phases are the same as in a
whole run; only the place of the backups differs, which is `.unify-db/` beside the target.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from unified_db import files, integrity, pieces, sqlite
from unified_db import sources as access
from unified_db.errors import GateClosedError, SourceError, UsageError
from unified_db.migration import backup, meaning, merge, page_trees, runs, transcode, validate
from unified_db.migration.backup import PlainSource
from unified_db.migration.btree import UnknownError
from unified_db.migration.collisions import find_collisions, require_no_collisions
from unified_db.migration.copy import read_objects
from unified_db.migration.langgraph import holds_checkpoints, require_current
from unified_db.migration.layout import from_options, place_all, place_backup, settle
from unified_db.migration.records import (
    Backup,
    Backups,
    Finding,
    Layout,
    Record,
    SchemaObject,
    SourceKind,
    TableFacts,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.same_pages import SamePages
from unified_db.migration.unions import require_agreement
from unified_db.spelling import spelled

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

    A target that is there already and validates is left alone, so a rerun does nothing. What an
    earlier merge into it left when it was killed is cleared away.

    Args:
        sources: One or more SQLite files, in use or not.
        into: The target; appears whole or not at all.
        backups: Where the folder `TIME` with the copies is made; `.unify-db/backups` beside the
            target without it.
        renames: Objects that get another name, each as `SOURCE:OLD=NEW`.
        unions: Tables of several sources that become one, each as `TABLE` or `HOME:TABLE`.

    Raises:
        SourceError: A source cannot be used, two of them collide, or the target is there and is
            not this merge.
        UsageError: A rename or union of something that is not there; the target is a folder.
        GateClosedError: The proof failed; nothing is at *into*.
    """
    into = into.absolute()
    _require_no_folder(into, hint=f"Nothing was written. Name a file in it: --into {into / 'unified.sqlite'}")
    plain = _plain_sources(sources, into)
    _require_writable(into.parent)
    state = into.parent / ".unify-db"
    with (
        _pinned(plain) as looked,
        _unmade_on_failure(state),
        runs.hold_lock(state, [*(s.path for s in plain), into]),
    ):
        place = Workplace(into, backups or state / "backups")
        plain, layout = _look(plain, renames, unions)
        if into.exists():
            report = _require_same(plain, into, layout)
            place.clear(finished=True)
            return report
        sqlite.require_free_place(into)
        place.clear(finished=False)
        _require_space(plain, place)
        with place.opened():
            return _merge(plain, place, layout, looked)


def _merge(
    plain: Sequence[PlainSource], place: Workplace, layout: Layout, looked: dict[Path, access.Identity]
) -> MergeReport:
    with pieces.crew(len(plain)) as hands:
        digests = backup.Digests(hands)
        copied = backup.copy_sources(plain, place.unfinished, digests=digests)
        copies = copied.model_copy(update={"layout": layout})
        try:
            readable, proof = transcode.to_one_encoding(copies.items, place.unfinished)
            working = copies.model_copy(update={"items": readable})
            # Built and proven beside the target, so that what appears there is proven already.
            target = place.workshop / place.into.name
            taken, built, verdict = _build_and_prove(copies, working, target, digests)
        except Exception:
            # Where a source is damaged, that is what to tell, whatever was noticed first; below, too.
            backup.check_copies(copies)
            raise
    verdict = _with_findings(verdict, proof)
    if not verdict.passed:
        backup.check_copies(copies)
        place.keep_backups()
        raise GateClosedError(
            verdict.sentence(),
            hint=f"The sources are untouched and there is no target. The backups are in {place.kept}.",
        )
    _take_mode(built.path, taken)
    for path, wanted in looked.items():
        access.require_identity(path, wanted)
    transcode.remove_working_copies(taken.items, readable)
    files.move_durably(built.path, place.into)
    place.keep_backups()
    return _report(place, taken, built, verdict)


def _build_and_prove(
    copies: Backups, working: Backups, into: Path, digests: backup.Digests
) -> tuple[Backups, UnifiedFile, Verdict]:
    """Check *copies*, build *into* from *working* and prove it.

    What reads, what writes and what decodes go on side by side; the proof joins the decoding. Of copies that
    come into the unified file by their pages, the check of that is theirs too; where they turn out not to
    have, they get one of their own.
    """
    decoding = meaning.Decoding(working)
    by_pages = [b for b in merge.carried_by_pages(working) if b in copies.items]
    largest = max(working.items, key=lambda b: b.size_bytes)
    with pieces.crew(5) as hands:
        later = [b.path for b in by_pages]
        checked = hands.start(partial(backup.check_copies, copies, digests=digests, proven_later=later))
        looked = [hands.start(partial(_require_trees, b)) for b in by_pages if b is largest]
        decoded = hands.start(decoding.run)

        def build_and_prove() -> tuple[UnifiedFile, Verdict]:
            first = partial(_require_readable, looked, by_pages)
            built = merge.build_unified(working, into, before_sql=first)
            settled = hands.start(partial(files.fsync_file, into))
            same = validate.look_for_same_pages(working, built, whole=[b.label for b in by_pages])
            verdict = validate.validate(
                working,
                built,
                taken=checked,
                decoding=(decoding, decoded),
                same=same,
                further=[partial(_require_intact, b, same[b.label]) for b in by_pages],
            )
            pieces.result_of(settled)
            return built, verdict

        proven = hands.start(build_and_prove)
        hands.finish([checked, proven])
    return checked.result(), *proven.result()


def _require_readable(
    looked: Sequence[Future[None]], by_pages: Sequence[Backup], read: Sequence[Backup]
) -> None:
    """Return once the largest was *looked* at, which SQLite can read to an end, and where *read* are intact.

    What was to come *by_pages* and has its rows read instead, makes no sense somewhere.

    Raises:
        SourceError: One is damaged.
    """
    for look in looked:
        pieces.result_of(look)
    for copy in read:
        if copy in by_pages:
            backup.require_intact_copy(copy)


def _require_trees(copy: Backup) -> None:
    """Return where what SQLite does with *copy* comes to an end; of a damaged file it may not.

    Raises:
        SourceError: It is damaged.
    """
    try:
        page_trees.require_trees(copy.path)
    except UnknownError:
        backup.require_intact_copy(copy)


def _require_intact(copy: Backup, same: SamePages) -> tuple[Finding, ...]:
    """Nothing where *copy* is intact, beside what is found of the unified file.

    Raises:
        SourceError: It is not.
    """
    if same.find().whole:
        with sqlite.closing(sqlite.connect_frozen(copy.path)) as conn:
            if not integrity.problems_of_its_own(conn):
                return ()
    backup.require_intact_copy(copy)
    return ()


@contextlib.contextmanager
def _pinned(plain: Sequence[PlainSource]) -> Iterator[dict[Path, access.Identity]]:
    with contextlib.ExitStack() as stack:
        yield {s.path: stack.enter_context(access.pinned(s.path)) for s in plain}


class Workplace:
    """Where a merge works before anything of it counts: folders that only the holder of its lock uses.

    Args:
        into: The target. The unified file is made in a hidden folder beside it, on its file system.
        root: Where the folder with the backups goes, named by the time once the target is there.
    """

    def __init__(self, into: Path, root: Path) -> None:
        self.into = into
        self.root = root
        self._key = hashlib.sha256(os.fsencode(into)).hexdigest()[:16]
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self.workshop = into.parent / f".unify-db-work-{self._key}"
        self.unfinished = root / f"{moment}{self._mark}"
        self.kept = root / moment

    @property
    def _mark(self) -> str:
        return f".unfinished-{self._key}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Both folders, for their owner alone; gone at the end with all that was not kept."""
        with backup.made_folder(self.root):
            self.unfinished.mkdir(mode=0o700)
            try:
                self.workshop.mkdir(mode=0o700)
                yield
            finally:
                # There was no target before, so one that is there now is ours, and whole.
                self.clear(finished=self.into.exists())

    def keep_backups(self) -> None:
        """Let the backups stand under their own name."""
        files.move_durably(self.unfinished, self.kept)

    def clear(self, *, finished: bool) -> None:
        """Remove what a merge into the same target left; its backups are kept where it had *finished*."""
        shutil.rmtree(self.workshop, ignore_errors=True)
        for left in self.root.iterdir() if self.root.is_dir() else ():
            if not left.name.endswith(self._mark):
                continue
            if finished:
                files.move_durably(left, left.with_name(left.name.removesuffix(self._mark)))
            else:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _unmade_on_failure(state: Path) -> Iterator[None]:
    """Remove *state* after a failure where it was not there before and nothing is kept in it."""
    was_there = state.exists()
    try:
        yield
    except BaseException as error:
        if not was_there:
            _remove_empty(state)
        if isinstance(error, OSError):
            raise access.refuse_os_error(error) from error
        raise


def _remove_empty(state: Path) -> None:
    with contextlib.suppress(OSError):
        for folder in ("locks", "runs", "backups"):
            if (state / folder).exists():
                (state / folder).rmdir()
        (state / ".gitignore").unlink(missing_ok=True)
        state.rmdir()


def validate_sources(
    sources: Sequence[Path], against: Path, *, renames: Sequence[str] = (), unions: Sequence[str] = ()
) -> MergeReport:
    """Compare *against* with *sources* exactly; the verdict is in the report, open or closed.

    Copies of all files are made in a temporary folder, so that they may be in use. Renames and
    unions are those that the merge was given.
    """
    _require_no_folder(against, hint="Nothing was compared. Name the unified file itself with --against.")
    plain, layout = _look(_plain_sources(sources, against), renames, unions)
    return _validate(plain, against, layout)


def _look(
    plain: Sequence[PlainSource], renames: Sequence[str], unions: Sequence[str]
) -> tuple[list[PlainSource], Layout]:
    """What each source holds, and the layout that the options ask for.

    Refused before anything is copied where a source is too old, or the layout cannot be had.
    """
    looked: list[PlainSource] = []
    schemas = []
    for source in plain:
        kind, objects = access.look_at(source.path, partial(_look_at_schema, label=source.label))
        schemas.append((source.label, objects))
        looked.append(PlainSource(source.path, source.label, kind))
    layout = from_options(renames, unions, schemas)
    places = place_all(schemas, layout)
    require_no_collisions(find_collisions(places, {s.label: s.kind for s in looked}))
    require_agreement(places, layout)
    return looked, settle(layout, places)


def _look_at_schema(conn: sqlite3.Connection, *, label: str) -> tuple[SourceKind, tuple[SchemaObject, ...]]:
    require_current(conn, label)
    return "checkpoints" if holds_checkpoints(conn) else "application", read_objects(conn)


def _validate(plain: Sequence[PlainSource], against: Path, layout: Layout) -> MergeReport:
    every = [*plain, PlainSource(against.resolve(), _label(against))]
    access.require_space({Path(tempfile.gettempdir()): _one_copy(every) + _working_copies(every)})
    with tempfile.TemporaryDirectory(prefix="unify-db-") as folder:
        (Path(folder) / "target").mkdir()
        taken = backup.take_backups(plain, Path(folder)).model_copy(update={"layout": layout})
        there = backup.take_backups(every[-1:], Path(folder) / "target")
        copies, proof = transcode.to_one_encoding((*taken.items, *there.items), Path(folder))
        working, target = taken.model_copy(update={"items": copies[:-1]}), copies[-1]
        tables = tuple(t for item in working.items for t in _tables_of(item, layout))
        unified = UnifiedFile(
            path=target.path, size_bytes=target.size_bytes, sha256=target.sha256, tables=tables, seconds=0.0
        )
        verdict = _with_findings(validate.validate(working, unified), proof)
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
        _require_other_file(path.resolve(), target.resolve())
        access.read_header(path)
        if any(access.same_file(path, known.path) for known in plain):
            raise UsageError(f"{path} was named twice", hint="Name every source once.")
        plain.append(PlainSource(path.resolve(), _label(path)))
    return plain


def _require_no_folder(target: Path, *, hint: str) -> None:
    if target.is_dir():
        raise UsageError(f"the target {target.absolute()} is a folder", hint=hint)


def _require_other_file(path: Path, target: Path) -> None:
    hint = "Nothing was written. Name another file with --into."
    if path == target or access.same_file(path, target):
        raise SourceError(f"{path} is the target itself", hint=hint)
    for suffix in files.SIDECAR_SUFFIXES:
        if files.sidecar(path, suffix) == target or files.sidecar(target, suffix) == path:
            raise SourceError(f"{path} and {target} would be sidecar files of each other", hint=hint)


def _label(path: Path) -> str:
    """The path as it was given, in characters that every output can show."""
    return spelled(str(path))


def _with_findings(verdict: Verdict, proof: Sequence[Finding]) -> Verdict:
    return verdict.model_copy(update={"findings": (*proof, *verdict.findings)})


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


def _require_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder", hint="Nothing was written. Make it, or name another target."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SourceError(
            f"{folder} cannot be written to: permission denied",
            hint="Nothing was written. Mend its permissions, or name another target with --into.",
        )


def _require_space(plain: Sequence[PlainSource], place: Workplace) -> None:
    one = _one_copy(plain)
    access.require_space({place.into.parent: one, place.root: one + _working_copies(plain)})


def _one_copy(plain: Sequence[PlainSource]) -> int:
    """Bytes of one copy of all *plain*, with a margin."""
    return int(access.total_bytes([s.path for s in plain]) * 1.05) + (4 << 20)


def _working_copies(plain: Sequence[PlainSource]) -> int:
    """Bytes of the copies whose text is written in another encoding; a character may grow by half."""
    encodings = {s.path: access.read_header(s.path).encoding for s in plain}
    if len(set(encodings.values())) < 2:
        return 0
    return int(access.total_bytes([p for p, e in encodings.items() if e != "UTF-8"]) * 1.5)


def _take_mode(path: Path, taken: Backups) -> None:
    """Give the unified file mode and owner of the application's own database."""
    home = next((b for b in taken.items if b.kind == "application"), taken.items[0])
    files.take_mode_and_owner(path, home.source, special_bits=False)
    files.fsync_file(path)


def _report(place: Workplace, taken: Backups, built: UnifiedFile, verdict: Verdict) -> MergeReport:
    seconds = {"backup": taken.seconds, "merge": built.seconds, "validate": verdict.seconds}
    return MergeReport(
        target=place.into,
        tables=built.tables,
        size_bytes=place.into.stat().st_size,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        verdicts=(verdict,),
        backups=place.kept,
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
