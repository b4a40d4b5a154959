"""Two copies of the application's tree to rehearse on: as it is, and as it would be after the switch.

Staged processes run on these, with databases of their own. What is run on the copies, and whether
it left the real files alone, is not known here.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values

from unified_db import files
from unified_db.errors import SourceError, UsageError
from unified_db.migration import switch
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import Backups, Record, UnifiedFile
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

Side = Literal["before", "after"]

SKIPPED_NAMES = frozenset(
    {
        ".git",
        ".hg",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".unify-db",
        "__pycache__",
        "node_modules",
    }
)
_SENSITIVE_KEY = re.compile(
    r"KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE)?|CREDENTIAL|AUTH|DSN|SMTP|MAIL|WEBHOOK|URL|URI|HOST|ENDPOINT|ADDRESS",
    re.IGNORECASE,
)
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

    Without version control, virtual environments, caches, the real databases and what
    `staging.exclude` names. Links stay links, modes are kept. An earlier stage of the run is replaced.

    Raises:
        UsageError: `staging.reviewed` is not set, or a database lies outside the application's root.
        EditError: An edit does not fit its file.
    """
    _require_reviewed(config)
    stages = _lay_out(config, run, backups, unified)
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
    """Values that dotenv files give to keys named like credentials, longest first, for masking output."""
    found: set[str] = set()
    for path in _dotenv_files(config):
        values = dotenv_values(path, interpolate=False)
        found |= {v for k, v in values.items() if v and len(v) > 5 and _SENSITIVE_KEY.search(k)}
    return tuple(sorted(found, key=len, reverse=True))


def real_databases(config: MigrationConfig) -> tuple[Path, ...]:
    """The files that staged processes must leave alone: the sources and the target."""
    return (*_sources(config), config.target_path)


def _require_reviewed(config: MigrationConfig) -> None:
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


def _lay_out(config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Stages:
    before, after = run.stage / "before", run.stage / "after"
    old = [
        StagedDatabase(
            origin=item.path,
            place=before / _relative(config, item.source, what="a source"),
            mode=_mode_of(item.source),
            journal_mode=item.journal_mode,
        )
        for item in backups.items
    ]
    new = StagedDatabase(
        origin=unified.path,
        place=after / _relative(config, config.target_path, what="the target"),
        mode=_mode_of(backups.items[0].source),
        journal_mode=None,
    )
    fences = tuple(after / d.place.relative_to(before) for d in old)
    return Stages(before=before, after=after, databases=(*old, new), fences=fences)


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
    _copy_folder(config, config.root, root)
    if side == "after":
        switch.apply_edits(config, root, "switch")
        for fence in stages.fences:
            fence.parent.mkdir(parents=True, exist_ok=True)
            fence.write_bytes(_FENCE)


def _copy_folder(config: MigrationConfig, folder: Path, copy: Path) -> None:
    copy.mkdir()
    for path in _kept_entries(config, folder):
        if path.is_symlink():
            _copy_link(config, path, copy / path.name)
        elif path.is_dir():
            _copy_folder(config, path, copy / path.name)
        elif path.is_file():
            shutil.copy2(path, copy / path.name)
    shutil.copystat(folder, copy)
    # A folder that we may not write to could not be removed again.
    copy.chmod(copy.stat().st_mode | 0o700)


def _kept_entries(config: MigrationConfig, folder: Path) -> list[Path]:
    skipped = {config.state_folder, *_real_paths(config)}
    # With the real server's pid file a staged one would take itself for running, or stop the real one.
    globs = ["*.pid", *(glob.rstrip("/") for glob in config.staging.exclude)]
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name not in SKIPPED_NAMES
        and path not in skipped
        and not (path / "pyvenv.cfg").exists()
        and not _is_excluded(path.relative_to(config.root), globs)
    ]


def _is_excluded(relative: Path, globs: list[str]) -> bool:
    names = (relative.name, relative.as_posix())
    return any(fnmatch.fnmatch(name, glob) for glob in globs for name in names)


def _copy_link(config: MigrationConfig, link: Path, copy: Path) -> None:
    """Copy a link so that one into the tree leads into the copy and one out of it still leads there."""
    text, aim = link.readlink(), link.resolve()
    if not text.is_absolute() and _stays(link, config):
        copy.symlink_to(text)
    elif aim.is_relative_to(config.root):
        copy.symlink_to(os.path.relpath(aim, link.parent))
    else:
        copy.symlink_to(aim)


def _stays(link: Path, config: MigrationConfig) -> bool:
    """True where the text of the relative *link* never climbs above the root."""
    depth = len(link.parent.relative_to(config.root).parts)
    for part in link.readlink().parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


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


def _real_paths(config: MigrationConfig) -> list[Path]:
    # The sources' own names too: where one is a link, the link is not copied either.
    named = [Path(os.path.normpath(config.root / s.path)) for s in config.source]
    bases = dict.fromkeys([*_sources(config), config.target_path, *named])
    return [path for base in bases for path in files.family(base)]


def _dotenv_files(config: MigrationConfig) -> list[Path]:
    return sorted(
        p for p in _walk_files(config, config.root) if p.name == ".env" or p.name.startswith(".env.")
    )


def _walk_files(config: MigrationConfig, folder: Path) -> Iterator[Path]:
    for path in _kept_entries(config, folder):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk_files(config, path)
        elif path.is_file():
            yield path
