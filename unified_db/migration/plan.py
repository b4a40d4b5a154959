"""Reads the sources and tells what a run would do: tables, collisions, edits, space, open handles.

Reads only: no source, no file of the application and no sidecar is changed or created.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from unified_db import files, sqlite
from unified_db import sources as access
from unified_db.errors import ConfigError, SourceError
from unified_db.migration import (
    asking,
    copy,
    langgraph,
    process_table,
    processes,
    risks,
    stage,
    switch,
    threads,
)
from unified_db.migration.collisions import VERSION_TABLE, find_collisions, require_no_collisions
from unified_db.migration.config import MigrationConfig, SourceConfig
from unified_db.migration.discovery.reading import read_tree
from unified_db.migration.edits.names import find_names
from unified_db.migration.layout import configured, place_all, settle
from unified_db.migration.records import MigrationPlan, SourceFacts, SpaceNeed, TableFacts
from unified_db.migration.runs import RunFolder
from unified_db.migration.schema_page import schema_markdown
from unified_db.migration.unions import require_agreement
from unified_db.sqlite import fold

log = logging.getLogger(__name__)

# What copying, merging and comparing took per byte where it was measured (2 cores), with a margin;
# suites and benchmark take what the configuration allows them.
_SECONDS_PER_BYTE = 12e-9
_RUNTIME_PROBE = "import unified_db.runtime.saver"
_ABSENCE_PROBE = (
    "import sys; from importlib.util import find_spec; "
    "print(*(m for m in sys.argv[1:] if find_spec(m.partition('.')[0]) is None))"
)
_RUNS_MODULE = re.compile(r"\{python\}\s+-m\s+([\w.]+)")


def make_plan(config: MigrationConfig, run: RunFolder) -> MigrationPlan:
    """Look at everything that a run needs, and refuse what cannot be done right.

    Writes `unified-schema.md` and `switch.patch` into the run's folder.

    Raises:
        SourceError: A source is no usable database, two of them collide, the target is there
            already, or there is not enough space.
        EditError: A configured edit does not fit its file.
        ConfigError: The application's interpreter cannot import the runtime, a request of the
            benchmark cannot have its values, or the application disagrees with itself on where a
            source is, and the edits do not cover that.
    """
    sqlite.require_free_place(config.target_path)
    stage.require_stageable(config)
    _require_writable(config)
    sources = tuple(_read_source(config, s, scratch=run.path) for s in config.source)
    _require_one_encoding(sources)
    reading = read_tree(config.root, config.cwd, environment=processes.application_environment(config))
    risks.require_one_mind(config, reading)
    layout = configured(config)
    places = place_all([(s.label, s.objects) for s in sources], layout)
    collisions = find_collisions(places, {s.label: s.kind for s in sources})
    # Before collisions: a split brain's files have the same tables, and renaming them is no way out.
    risks.require_no_halves(config, reading, collisions)
    require_no_collisions(collisions)
    require_agreement(places, layout)
    space = tuple(_space_needs(config, sources, run))
    _require_space(space)
    _require_runtime(config)
    asking.read_sources(config, run)
    plan = MigrationPlan(
        run=run.name,
        created_at=datetime.now(UTC),
        target=config.target_path,
        sources=sources,
        collisions=collisions,
        edits=switch.preview_edits(config),
        space=space,
        estimated_s=_estimate(config, sources),
        versions=_versions(),
        risks=risks.find_risks(config, sources, reading),
        missing=(*risks.find_missing(config), *_find_absent(config)),
        layout=settle(layout, places),
        mentions=tuple(_mentions(config)),
        reaching=switch.credential_keys(config),
    )
    files.write_durably(run.schema, schema_markdown(plan).encode(), mode=0o600)
    switch.write_patch(config, run)
    return plan


def _mentions(config: MigrationConfig) -> Iterator[tuple[str, str]]:
    """Where the application still names what is renamed, after all edits of the switch."""
    edited = {e.file: e.after for e in switch.plan_edits(config)} if config.rename else {}
    for rename in config.rename:
        places = find_names(config, rename.object, ignore=rename.ignore, edited=edited)
        yield from ((rename.object, place) for place in places)
        # Alembic's code names its table by default, so nothing in the application does.
        is_version = fold(rename.object) == VERSION_TABLE
        if is_version and not find_names(config, rename.to, edited=edited):
            yield rename.object, f'env.py, which has to say version_table="{rename.to}" to Alembic'


def _require_writable(config: MigrationConfig) -> None:
    """Return where the switch may write in every folder that it writes in."""
    edited = [config.resolve(e.file).parent for e in config.edit]
    homes = [config.resolve(s.path).parent for s in config.source]
    for folder in dict.fromkeys((config.target_path.parent, *homes, *edited)):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        if not existing.is_dir():
            raise SourceError(f"{existing} is not a folder", hint="Nothing was changed. Name another path.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise SourceError(
                f"{existing} cannot be written to",
                hint="Nothing was changed. The switch has to put files there; mend its permissions.",
            )


def _read_source(config: MigrationConfig, source: SourceConfig, *, scratch: Path) -> SourceFacts:
    path = config.resolve(source.path)
    header = access.read_header(path)
    wal = files.sidecar(path.resolve(), "-wal")
    size, wal_bytes = path.stat().st_size, files.size_of(wal)
    users = tuple(process_table.holders([path]))
    label = config.label(path)

    def look(conn: sqlite3.Connection) -> SourceFacts:
        langgraph.require_current(conn, label)
        threads.require_columns(conn, source.threads, label)
        return SourceFacts(
            label=label,
            path=path,
            kind=source.kind,
            size_bytes=size,
            wal_bytes=wal_bytes,
            page_size=header.page_size,
            encoding=sqlite.pragma(conn, "encoding"),
            journal_mode=header.journal_mode,
            user_version=int(sqlite.pragma(conn, "user_version")),
            application_id=int(sqlite.pragma(conn, "application_id")),
            tables=_read_tables(conn, label),
            objects=copy.read_objects(conn),
            handles=users,
            threads=source.threads,
        )

    facts = access.look_at(path, look, scratch=scratch)
    rows = sum(t.rows for t in facts.tables)
    log.info("plan: %s, %d tables, %s rows", label, len(facts.tables), f"{rows:,}")
    return facts


def _require_one_encoding(sources: tuple[SourceFacts, ...]) -> None:
    """Return where all sources store text alike: late rows are carried between attached files."""
    encodings = {s.encoding for s in sources}
    if len(encodings) < 2:
        return
    named = ", ".join(f"{s.label} as {s.encoding}" for s in sources)
    raise SourceError(
        f"the sources store text in different encodings, which a run cannot switch: {named}",
        hint="Nothing was changed. `unify-db merge` re-encodes them exactly, without an application.",
    )


def _read_tables(conn: sqlite3.Connection, label: str) -> tuple[TableFacts, ...]:
    counters = sqlite.sequences(conn)
    return tuple(
        TableFacts(name=n, source=label, rows=sqlite.count_rows(conn, n), sequence=counters.get(n))
        for n in sqlite.tables(conn)
    )


def _space_needs(
    config: MigrationConfig, sources: tuple[SourceFacts, ...], run: RunFolder
) -> Iterator[SpaceNeed]:
    total = sum(s.size_bytes + s.wal_bytes for s in sources)
    # In the run's folder: backups, the unified file, a staged copy of each, the archive; while the
    # benchmark runs instead of the archive a second old tree and copies for LangGraph's operations.
    # Beside the target: the unified file, which is made ready before the application is stopped.
    # The tree is copied twice, but for what both sides share, and once more for the control.
    needs: dict[int, tuple[Path, int]] = {}
    twice, once = stage.tree_bytes(config)
    for folder, factor, tree in ((run.path, 8, 3 * twice + 2 * once), (config.target_path.parent, 1, 0)):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        device = existing.stat().st_dev
        known = needs.get(device, (existing, 0))
        needs[device] = (known[0], known[1] + int(total * factor * 1.05) + tree + (8 << 20))
    for folder, needed in needs.values():
        yield SpaceNeed(folder=folder, needed_bytes=needed, free_bytes=files.free_bytes(folder))


def _require_space(space: tuple[SpaceNeed, ...]) -> None:
    for need in space:
        if need.free_bytes < need.needed_bytes:
            raise SourceError(
                f"not enough space at {need.folder}: {need.needed_bytes:,} bytes are needed, "
                f"{need.free_bytes:,} are free",
                hint="Nothing was changed. Make room and run again.",
            )


def _probe(config: MigrationConfig, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the application's interpreter answers to *program*.

    Raises:
        ConfigError: It cannot be run.
    """
    try:
        return subprocess.run(
            [str(config.python), "-c", program, *arguments],
            cwd=config.cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=processes.application_environment(config),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"the application's interpreter {config.python} cannot be run: {error}",
            hint="Set [app] python in unify.toml to the interpreter that the application runs on.",
        ) from error


def _require_runtime(config: MigrationConfig) -> None:
    probe = _probe(config, _RUNTIME_PROBE)
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        # pip keeps what it built from a folder whose name looks like that of a release, as `unify-db` does.
        command = f"{config.python} -m pip install --no-cache-dir '{switch.install_requirement()}'"
        raise ConfigError(
            f"the application's interpreter {config.python} cannot import unified_db: {last}",
            hint=f"Install it there: {command}",
        )


def _find_absent(config: MigrationConfig) -> Iterator[str]:
    """Modules that a command runs and the application's interpreter has not got: a sentence each."""
    commands = {"[app] start": config.app.start, "[app] stop": config.app.stop}
    commands |= {f"[[suite]] {suite.name}": suite.command for suite in config.suite}
    modules = {
        where: found[1] for where, command in commands.items() if (found := _RUNS_MODULE.search(command))
    }
    if not modules:
        return
    probe = _probe(config, _ABSENCE_PROBE, *sorted(set(modules.values())))
    absent = set(probe.stdout.split())
    for where, module in modules.items():
        if module in absent:
            yield (
                f"{where} runs `python -m {module}`, which {config.python} has not got: "
                f"{config.python} -m pip install {module}"
            )


def _estimate(config: MigrationConfig, sources: tuple[SourceFacts, ...]) -> float:
    total = sum(s.size_bytes + s.wal_bytes for s in sources)
    return 5 + total * _SECONDS_PER_BYTE + config.benchmark.budget_s + config.cutover.soak_s


def _versions() -> dict[str, str]:
    names = ("unify-db", "langgraph-checkpoint-sqlite", "langgraph-checkpoint", "sqlalchemy", "aiosqlite")
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
