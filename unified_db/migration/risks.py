"""What may go wrong with an application on one file, in plain words; and what `unify.toml` does not say yet.

Judges what was read of the application's sources and databases; reads nothing but its tree. What
makes a plan impossible is refused elsewhere, but for a split brain, which is known here alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from unified_db import sources as access
from unified_db.errors import ConfigError
from unified_db.migration import processes, stage, switch, tree_risks, wording
from unified_db.migration.config import MigrationConfig
from unified_db.migration.discovery.finds import Disagreement, EngineUse, PathSetting, SaverUse, TreeReading
from unified_db.migration.discovery.reading import read_tree
from unified_db.migration.edits.survey import find_installed
from unified_db.migration.records import Collision, Risk, SourceFacts

_LARGE_TREE_BYTES = 1_000_000_000
_STALE_S = 30 * 86400
_LANGGRAPH = "langgraph."
# What a sync engine is made with. A plain `sqlite3.connect` is mostly a script's, which has no event loop.
_SYNC_CALLS = ("create_engine", "engine_from_config", "SQLAlchemy")
# Engines that are made here are on no event loop either.
_ASIDE = re.compile(r"(?:^|/)(?:tests?|scripts)/|(?:^|/)(?:env|conftest|test_\w+)\.py$")


def find_risks(
    config: MigrationConfig, sources: Sequence[SourceFacts], reading: TreeReading
) -> tuple[Risk, ...]:
    """What may go wrong with this application; what nothing takes care of comes first.

    Args:
        config: The configuration, whose edits can be made.
        sources: The databases as the plan read them.
        reading: What the application's code and settings say.

    Raises:
        EditError: An edit cannot be made.
    """
    edited = switch.edited_contents(config)
    found = [
        *_of_savers(config, reading),
        *_of_sources(sources),
        *_of_paths(config, reading),
        *tree_risks.find_tree_risks(config, [s.label for s in sources], edited),
        *_of_reading(reading),
        *_of_installed(config),
        *_of_size(config),
    ]
    return tuple(sorted(found, key=lambda risk: risk.handled))


# ---- savers and engines --------------------------------------------------------------------------


def _of_savers(config: MigrationConfig, reading: TreeReading) -> Iterator[Risk]:
    stock = [s for s in reading.savers if s.name.startswith(_LANGGRAPH)]
    kept = [s for s in stock if not _is_swapped(config, s)]
    yield from lock_up(reading, kept)
    if kept:
        names = wording.join_words(sorted({s.name.rpartition(".")[2] for s in kept}))
        yield Risk(
            name="stock-saver",
            sentence=f"{names} of LangGraph stays in use, since no edit exchanges its import. It commits on "
            "every call, and so commits a half-finished transaction of whoever shares its connection.",
            where=_places(kept),
            remedy="Add an [[edit]] of kind python-import for each: "
            + "; ".join(f"{s.name} becomes {_ours(s.name)}" for s in _by_name(kept))
            + ".",
        )


def lock_up(reading: TreeReading, kept: Collection[SaverUse]) -> Iterator[Risk]:
    """The mix that gets worse by merging alone; nothing where the application does not have it.

    Args:
        reading: What the application's code says.
        kept: Its savers that no edit exchanges for ours.
    """
    beside = [
        e
        for e in reading.engines
        if not e.is_async and e.call.endswith(_SYNC_CALLS) and not _ASIDE.search(e.place.file)
    ]
    savers = [s for s in reading.savers if s.is_async and s.name.startswith(_LANGGRAPH)]
    if not savers or not beside:
        return
    left = [s for s in savers if s in kept]
    yield Risk(
        name="sync-beside-async",
        sentence="This application writes through sync SQLAlchemy beside LangGraph's async saver. "
        "On one file with the stock saver it would lock up: the saver holds the write lock across a trip "
        "through the event loop, and a sync write that waits for it stops that loop.",
        where=_places([*(left or savers), *beside]),
        remedy="Add the edit that exchanges the saver's import, below."
        if left
        else "The edits exchange the saver for the unified one, which takes the lock for one trip of its "
        "own thread. Still, hold no write transaction open while a graph runs.",
        handled=not left,
    )


def _is_swapped(config: MigrationConfig, saver: SaverUse) -> bool:
    """True where an edit exchanges the import of *saver*, by its kind or by its text."""
    short = saver.name.rpartition(".")[2]
    for edit in config.edit:
        if edit.when != "switch" or edit.file.as_posix() not in {saver.imported.file, saver.place.file}:
            continue
        if edit.kind == "python-import" and (edit.old or "").rpartition(".")[2] == short:
            return True
        if edit.kind == "text" and short in (edit.old or "") and "unified_db" in (edit.new or ""):
            return True
    return False


def _ours(name: str) -> str:
    return f"unified_db.Unified{name.rpartition('.')[2]}"


def _by_name(savers: Sequence[SaverUse]) -> list[SaverUse]:
    return list({s.name: s for s in savers}.values())


def _places(uses: Sequence[SaverUse | EngineUse]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(u.place) for u in uses))


# ---- databases -----------------------------------------------------------------------------------


def _of_sources(sources: Sequence[SourceFacts]) -> Iterator[Risk]:
    for source in sources:
        yield from _of_source(source)
    for handle in dict.fromkeys(h for s in sources for h in s.handles):
        labels = [s.label for s in sources if handle in s.handles]
        yield Risk(
            name="open-file",
            sentence=f"Process {handle} has {wording.join_words(labels)} open.",
            where=tuple(labels),
            remedy="The dry run does not mind. At the cut-over it must be gone once [app] stop has run; "
            "what is left is named, and the cut-over is taken back.",
        )


def _of_source(source: SourceFacts) -> Iterator[Risk]:
    if source.journal_mode != "wal":
        seconds = max(0.1, source.size_bytes * 4e-9)
        yield Risk(
            name="rollback-journal",
            sentence=f"Writers of {source.label} wait about {seconds:.1f} s while it is backed up: "
            "it uses a rollback journal, where a reader holds writers off.",
            where=(source.label,),
            remedy="The unified file is in WAL mode, where they do not wait for each other; a rollback "
            "puts the old mode back.",
        )
    newest_ns = max(mtime_ns for _, _, _, mtime_ns, _ in access.fingerprint(source.path))
    if time.time_ns() - newest_ns > _STALE_S * 10**9:
        yield Risk(
            name="old-file",
            sentence=f"{source.label} was last written more than 30 days ago. Is it still the one in use?",
            where=(source.label,),
            remedy="Look where the application's settings lead (`unify-db init` shows it).",
        )


# ---- where the paths are said --------------------------------------------------------------------


def _of_paths(config: MigrationConfig, reading: TreeReading) -> Iterator[Risk]:
    configured = {config.resolve(s.path) for s in config.source}
    relative = [
        s
        for s in reading.settings
        if s.wins and s.relative_to == "cwd" and (s.resolved is None or _file_of(config, s) in configured)
    ]
    if not relative:
        return
    here = config.label(config.cwd) if config.cwd != config.root else "its root"
    yield Risk(
        name="relative-path",
        sentence=f"The application's paths are relative to the folder that it is started in, here {here} "
        "([app] cwd). Started elsewhere, it makes a new, empty database there without a word.",
        where=tuple(dict.fromkeys(str(s.place) for s in relative)),
        remedy="Start everything that uses the file in that folder, or let the edits set an absolute path.",
    )


def _file_of(config: MigrationConfig, setting: PathSetting) -> Path | None:
    if setting.resolved is None:
        return None
    return (config.root / setting.resolved).resolve()  # an absolute one stays as it is


def require_one_mind(config: MigrationConfig, reading: TreeReading) -> None:
    """Return unless places of the application disagree on which file a source is, and will after the edits.

    Raises:
        ConfigError: Names the places, what each of them reads, and which still need an edit.
    """
    configured = {config.resolve(s.path) for s in config.source}
    concerned = [
        d for d in reading.disagreements if any(_file_of(config, s) in configured for s in d.settings)
    ]
    if not concerned:
        return
    edited = switch.edited_contents(config)
    after = _read_edited(config, edited)
    for split in concerned:
        left = [s for s in split.settings if not _is_changed(config, s, edited)]
        if left or after.disagreements:
            raise _split_brain(split, left or split.settings)


def require_no_halves(config: MigrationConfig, reading: TreeReading, collisions: Sequence[Collision]) -> None:
    """Return unless sources that collide are the files of a split brain, even where edits cover its places.

    Raises:
        ConfigError: Names the places and what each of them reads.
    """
    for split in reading.disagreements:
        named = {config.label(f) for f in (_file_of(config, s) for s in split.settings) if f is not None}
        if any(len(named & {label for label, _ in c.definitions}) > 1 for c in collisions):
            raise ConfigError(
                f"the application does not agree with itself on where its database is: {split.sentence}",
                hint="Nothing was changed. Both files have the same tables, and which holds what counts "
                "is for you to say: let all places name that one, and leave the other out of unify.toml.",
            )


def _read_edited(config: MigrationConfig, edited: dict[Path, bytes]) -> TreeReading:
    """What the application's code and settings would say after the edits."""
    overlay = {
        file.relative_to(config.root).as_posix(): content.decode("utf-8-sig", "replace")
        for file, content in edited.items()
        if file.is_relative_to(config.root)
    }
    return read_tree(
        config.root, config.cwd, environment=processes.application_environment(config), overlay=overlay
    )


def _split_brain(split: Disagreement, left: Sequence[PathSetting]) -> ConfigError:
    places = wording.join_words(f"{s.place}{f' ({s.key})' if s.key else ''}" for s in left)
    return ConfigError(
        f"the application does not agree with itself on where its database is: {split.sentence}",
        hint="Nothing was changed. After the move a part of it would go on in another file. Let all of these "
        f"places name one file, or cover them all by an [[edit]]; none covers {places}.",
    )


def _is_changed(config: MigrationConfig, setting: PathSetting, edited: dict[Path, bytes]) -> bool:
    """True where the edits take the value of *setting* away from its place."""
    file = (config.root / setting.place.file).resolve()
    after = edited.get(file)
    if after is None or not setting.raw:
        return False
    raw = setting.raw.encode()
    return after.count(raw) < file.read_bytes().count(raw)


# ---- what could not be looked at -----------------------------------------------------------------


def _of_reading(reading: TreeReading) -> Iterator[Risk]:
    if reading.unread:
        yield Risk(
            name="not-read",
            sentence=f"{wording.count(len(reading.unread), 'file')} of the application could not be read as "
            "what they are, so what they say of its databases is not known: "
            f"{'; '.join(wording.shorten(u, 100) for u in reading.unread[:3])}.",
            remedy="Look through them for the old paths yourself.",
        )


def _of_installed(config: MigrationConfig) -> Iterator[Risk]:
    found = find_installed(config.root)
    if found:
        yield Risk(
            name="installed-packages",
            sentence=f"{wording.count(sum(found.values()), 'installed package')} in the application's tree: "
            "not looked at, since that is no code of the application.",
            where=tuple(sorted(folder.relative_to(config.root).as_posix() for folder in found)),
            remedy="Staged copies have them. Look through them yourself where you have changed one.",
            handled=True,
        )


def _of_size(config: MigrationConfig) -> Iterator[Risk]:
    twice, _ = stage.tree_bytes(config)
    if twice > _LARGE_TREE_BYTES:
        yield Risk(
            name="large-tree",
            sentence=f"The application's tree has {twice / 1e9:.1f} GB, which is copied twice.",
            remedy="Name what it does not need in [staging] exclude, and what it only reads in [staging] "
            "shared.",
        )


# ---- what is missing -----------------------------------------------------------------------------


def find_missing(config: MigrationConfig) -> tuple[str, ...]:
    """What `unify.toml` does not say yet, and what that leads to: a sentence each."""
    return tuple(_missing(config))


def _missing(config: MigrationConfig) -> Iterator[str]:
    if not config.staging.reviewed:
        yield (
            "[staging] reviewed is not true, so a run ends before its long work: a staged copy has the "
            "application's real settings, and somebody has to have looked at what it would reach."
        )
    if not config.suite:
        yield "No [[suite]] is configured, so the suites gate stays closed: nothing checked is not a pass."
    if not config.benchmark.request:
        yield "No [[benchmark.request]] is configured, so the benchmark gate stays closed."
    elif not any(r.changes for r in config.benchmark.request):
        yield "No [[benchmark.request]] has changes = true, so writing under load is not measured."
    if config.app.start and not config.continuity:
        yield "No [[continuity]] is configured, so no conversation begun before is asked to go on."
    if not config.app.stop:
        yield "[app] stop is empty: you stop the application yourself before the cut-over."
    imports = any("unified_db" in (e.new or "") for e in config.edit)
    if imports and not any(e.kind == "requirement" for e in config.edit):
        yield (
            "No [[edit]] is of kind requirement, so the application's next installation would not have "
            "the runtime that it imports from then on."
        )
