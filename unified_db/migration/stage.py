"""Two copies of the application's tree to rehearse on: as it is, and as it would be after the switch.

Staged processes run on these, with databases of their own. What is run on the copies, and whether
it left the real files alone, is not known here.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Literal

from unified_db import files
from unified_db.errors import SourceError, UsageError
from unified_db.migration import switch
from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits import reach
from unified_db.migration.records import Backups, Record, UnifiedFile
from unified_db.migration.runs import RunFolder
from unified_db.migration.tree import Tree

log = logging.getLogger(__name__)

Side = Literal["before", "after"]

_FENCE = b"This is not a database: the rehearsal runs on the unified file, which lies elsewhere.\n"


class StagedDatabase(Record):
    """One database of a staged tree.

    Attributes:
        origin: The backup or the unified file that it is a fresh copy of.
        place: Where it lies in the staged tree.
        mode: Permission bits, as the real file has them.
        journal_mode: What the real file is in; None leaves the copy as it comes.
    """

    origin: Path
    place: Path
    mode: int
    journal_mode: str | None


class Stages(Record):
    """The two staged trees.

    Attributes:
        before: Root of the tree as it is, with the old files.
        after: Root of the tree as it would be, with the unified file.
        databases: Those of both trees.
        fences: Old places in the after tree that hold no database any more.
    """

    before: Path
    after: Path
    databases: tuple[StagedDatabase, ...]
    fences: tuple[Path, ...]

    def root(self, side: Side) -> Path:
        """The tree of *side*."""
        return self.before if side == "before" else self.after


def stage_trees(config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Stages:
    """Copy the application's tree twice: as it is, and switched to the unified file.

    An earlier stage of the run is replaced. What is copied, and how, tells :class:`Tree`.

    Raises:
        UsageError: `staging.reviewed` is not set, or a database lies outside the application's root.
        EditError: An edit does not fit its file.
    """
    require_reviewed(config)
    stages = _lay_out(config, run, backups, unified)
    shutil.rmtree(run.stage, ignore_errors=True)
    for side in ("before", "after"):
        _build_side(config, stages, "before" if side == "before" else "after")
    reset_databases(stages)
    log.info("stage: the application's tree copied twice, with the old files and with the unified file")
    return stages


def rebuild_before(config: MigrationConfig, stages: Stages) -> None:
    """Make the before side anew, without what staged processes left there."""
    _build_side(config, stages, "before")
    reset_databases(stages, side="before")


def reset_databases(stages: Stages, *, side: Side | None = None) -> None:
    """Put fresh copies of the databases into the staged trees, or into that of *side* alone."""
    for database in stages.databases:
        if side is None or database.place.is_relative_to(stages.root(side)):
            _place_database(database)


def staged_cwd(config: MigrationConfig, root: Path) -> Path:
    """Where the application's commands run in the staged tree at *root*."""
    return root / _relative(config, config.cwd, what="app.cwd")


def sensitive_values(config: MigrationConfig) -> tuple[str, ...]:
    """Values of the application's settings and environment that output must not show, longest first."""
    return tuple(sorted(reach.secret_values(config), key=len, reverse=True))


def real_databases(config: MigrationConfig) -> tuple[Path, ...]:
    """The files that staged processes must leave alone: the sources and the target."""
    return (*_sources(config), config.target_path)


def require_reviewed(config: MigrationConfig) -> None:
    """Return where a person has looked at what a staged copy of the application would reach.

    Raises:
        UsageError: `staging.reviewed` is not set; the hint lists the names of what looks like credentials
            and addresses.
    """
    if config.staging.reviewed:
        return
    keys = switch.credential_keys(config)
    named = f" Keys that look like credentials or addresses: {', '.join(keys)}." if keys else ""
    raise UsageError(
        "the environment of staged processes was not reviewed",
        hint="Nothing was started. A staged copy of the application has its real settings: it could "
        f"send mail or call a paid model.{named} Overlay what must not be real in [staging.env], then set "
        "reviewed = true in [staging].",
    )


def require_stageable(config: MigrationConfig) -> None:
    """Return where every database and the commands' folder have a place in a copy of the tree.

    Raises:
        UsageError: One lies outside of the application's root, and no link in the tree leads there.
    """
    _places(config)
    _relative(config, config.cwd, what="app.cwd")


def tree_bytes(config: MigrationConfig) -> tuple[int, int]:
    """Bytes of the files that are copied for each side, and of those that both sides share."""
    tree = Tree(config, _places(config))
    sizes = [(tree.is_shared(path), path.lstat().st_size) for path in tree.files()]
    return sum(size for shared, size in sizes if not shared), sum(size for shared, size in sizes if shared)


def shared_files(stages: Stages) -> dict[Path, tuple[int, int]]:
    """The files that both staged trees have as one, with size and time of the last write."""
    found: dict[Path, tuple[int, int]] = {}
    for folder, _, names in os.walk(stages.after):
        for path in (Path(folder, name) for name in names):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                found[path.relative_to(stages.after)] = status.st_size, status.st_mtime_ns
    return found


def _lay_out(config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Stages:
    before, after, places = run.stage / "before", run.stage / "after", _places(config)
    old = [
        StagedDatabase(
            origin=item.path,
            place=before / (places.get(item.source) or _relative(config, item.source, what="a source")),
            mode=_mode_of(item.source),
            journal_mode=item.journal_mode,
        )
        for item in backups.items
    ]
    new = StagedDatabase(
        origin=unified.path,
        place=after / places[config.target_path],
        mode=_mode_of(backups.items[0].source),
        journal_mode=None,
    )
    fences = tuple(after / d.place.relative_to(before) for d in old)
    return Stages(before=before, after=after, databases=(*old, new), fences=fences)


def _places(config: MigrationConfig) -> dict[Path, Path]:
    """Each real database to its place below the root: as it is named there, else as it lies there."""
    named = [(config.resolve(s.path), s.path, "a source") for s in config.source]
    found: dict[Path, Path] = {}
    for real, name, what in (*named, (config.target_path, config.target.path, "the target")):
        place = Path(os.path.normpath(config.root / name))
        # A link in the tree that leads out of it becomes a folder of the copy, so its name counts.
        inside = place.is_relative_to(config.root) and not real.is_relative_to(config.root)
        found[real] = place.relative_to(config.root) if inside else _relative(config, real, what=what)
    return found


def _relative(config: MigrationConfig, path: Path, *, what: str) -> Path:
    if not path.is_relative_to(config.root):
        raise UsageError(
            f"{what} lies outside the application's root: {path}",
            hint="Nothing was changed. Only what lies below app.root can be rehearsed on a copy; "
            "set app.root in unify.toml to a folder that holds both.",
        )
    return path.relative_to(config.root)


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777 if path.exists() else 0o644


def _build_side(config: MigrationConfig, stages: Stages, side: Side) -> None:
    root = stages.root(side)
    if root.exists():
        shutil.rmtree(root)
    root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    twin = stages.after if side == "before" else stages.before
    Tree(config, _places(config)).copy(root, twin=twin)
    if side == "after":
        switch.apply_edits(config, root, "switch")
        for fence in stages.fences:
            fence.parent.mkdir(parents=True, exist_ok=True)
            fence.write_bytes(_FENCE)


def _place_database(database: StagedDatabase) -> None:
    for leftover in (database.place, *files.sidecars(database.place)):
        leftover.unlink(missing_ok=True)
    database.place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database.origin, database.place)
    database.place.chmod(database.mode | 0o600)
    if database.journal_mode is None:
        return
    with closing(sqlite3.connect(database.place)) as connection:
        mode = connection.execute(f"PRAGMA journal_mode={database.journal_mode}").fetchone()[0]
    if mode.lower() != database.journal_mode.lower():
        raise SourceError(
            f"the staged copy of {database.place.name} stays in journal mode {mode}, "
            f"expected {database.journal_mode}",
            hint="Nothing was switched. The file system of the run's folder may not support it.",
        )


def _sources(config: MigrationConfig) -> list[Path]:
    return [config.resolve(s.path) for s in config.source]
