"""Looks at an application's tree as a whole: what moves, where its paths are set, and what nobody can tell.

Reads only: nothing of the application is run, imported or changed. What is found is put together here;
how it is read is in `discovery`, one module for each thing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unified_db.errors import MissingSourceError, UsageError
from unified_db.migration import wording
from unified_db.migration.config import MigrationConfig, parse_config
from unified_db.migration.discovery import sources_in_use
from unified_db.migration.discovery.bodies import propose_write
from unified_db.migration.discovery.databases import find_databases
from unified_db.migration.discovery.finds import (
    DatabaseFind,
    ServerFind,
    TreeReading,
)
from unified_db.migration.discovery.outcome import Discovery
from unified_db.migration.discovery.proposals import propose_edits
from unified_db.migration.discovery.questions import find_questions
from unified_db.migration.discovery.reading import read_texts
from unified_db.migration.discovery.renames import propose_renames
from unified_db.migration.discovery.requests import find_requests
from unified_db.migration.discovery.routes import WebApplication, find_applications
from unified_db.migration.discovery.servers import find_server
from unified_db.migration.discovery.sources_in_use import SourceChoice
from unified_db.migration.discovery.suites import find_suites
from unified_db.migration.discovery.syntax import Sources
from unified_db.migration.discovery.thread_columns import find_thread_columns
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.edits.reach import credential_keys
from unified_db.migration.edits.survey import find_installed

UNIFIED_NAME = "unified_app.sqlite"


@dataclass(frozen=True)
class _Look:
    """What is read before anything is decided."""

    files: Sources
    tree: Tree
    application: WebApplication | None
    server: ServerFind | None
    reading: TreeReading


def discover(root: Path, *, file: Path | None = None, target: Path | None = None) -> Discovery:
    """Look at the tree at *root*; what `unify.toml` at *file* should say of it, and what is open.

    Args:
        root: The application's folder.
        file: Where the configuration will be; `unify.toml` in *root* without it. Need not exist.
        target: Where the unified file will be, relative to *root*, where that is decided already.

    Raises:
        MissingSourceError: *root* is no folder.
        UsageError: No SQLite file that looks in use is there, or one file holds everything already.
    """
    root = root.resolve()
    if not root.is_dir():
        raise MissingSourceError(
            f"{root} is no folder", hint="Nothing was written. Name the folder of your application."
        )
    look = _look(root)
    found = find_databases(root)
    databases = sources_in_use.with_configured(found, look.reading, root)
    chosen = sources_in_use.choose(databases, look.reading, root)
    _require_sources(root, databases, chosen)
    chosen = tuple(_with_threads(root, chosen))
    moved = [s for s in chosen if s.sure]
    place = target or _propose_target(root, moved)
    config = _configured(root, moved, place, file=file or root / "unify.toml")
    cwd = look.reading.cwd
    threads = [column for s in moved for column in s.threads]
    discovery = Discovery(
        root=root,
        databases=databases,
        reading=look.reading,
        sources=chosen,
        target=place,
        cwd=cwd,
        python=_find_python(root, cwd),
        server=look.server,
        suites=find_suites(look.files, cwd=cwd),
        requests=find_requests(
            look.files,
            look.application,
            ready=look.server.ready if look.server else "",
            threads=threads,
        )
        if look.server
        else (),
        write=propose_write(look.application, look.files),
        edits=propose_edits(root, look.reading, place, [s.path for s in moved], tree=look.tree),
        renames=()
        if look.reading.disagreements
        else tuple(propose_renames(databases, moved, look.tree, config)),
        reaching=credential_keys(config),
        left_out=tuple(_left_out(root)),
    )
    return discovery.model_copy(update={"questions": find_questions(discovery)})


def _look(root: Path) -> _Look:
    files = Sources(root)
    applications = find_applications(files)
    server = find_server(files, applications)
    tree = Tree(root)
    reading = read_texts(tree, Path(server.cwd) if server and server.sure else None)
    if server is not None and reading.cwd != server.cwd:
        server = find_server(files, applications, cwd=reading.cwd)
    return _Look(files, tree, _served(applications, server), server, reading)


def _served(applications: Sequence[WebApplication], server: ServerFind | None) -> WebApplication | None:
    """The application of *server*: the one that its command names, else the one with most routes."""
    if server is None:
        return None
    named = [a for a in applications if a.module.file.stem in server.start]
    return max(named or applications, key=lambda a: len(a.routes), default=None)


def _require_sources(
    root: Path, databases: tuple[DatabaseFind, ...], chosen: tuple[SourceChoice, ...]
) -> None:
    if not any(d.size_bytes or d.problem for d in databases):
        raise UsageError(
            f"no SQLite file is in {root}",
            hint="Nothing was written. Start the application once, so that it makes its databases, or name "
            "the folder that holds it: `unify-db init DIR`.",
        )
    moved = [s for s in chosen if s.sure]
    if not moved:
        reasons = "; ".join(f"{d.path}: {d.decoy or d.problem or 'nothing names it'}" for d in databases[:6])
        raise UsageError(
            f"none of the {len(databases)} SQLite files in {root} looks like a database in use: {reasons}",
            hint="Nothing was written. Start the application once, so that it makes its databases, or copy "
            "examples/chat_backend/unify.toml and name the files yourself.",
        )
    whole = next(
        (d for d in databases if d.era and d.kind == "application" and d.path == moved[0].path), None
    )
    if len(moved) == 1 and whole is not None and not any(s for s in chosen if not s.sure):
        raise UsageError(
            f"{whole.path} holds the application's tables and LangGraph's already: there is nothing to unify",
            hint="Nothing was written. docs/runtime.md: how it has both in one transaction.",
        )


def _with_threads(root: Path, chosen: Sequence[SourceChoice]) -> Iterator[SourceChoice]:
    graphs = [root / s.path for s in chosen if s.sure and s.kind == "checkpoints"]
    for source in chosen:
        columns = tuple(
            dict.fromkeys(c for graph in graphs for c in find_thread_columns(root / source.path, graph))
        )
        yield source.model_copy(update={"threads": columns}) if source.kind == "application" else source


def _propose_target(root: Path, moved: Sequence[SourceChoice]) -> Path:
    """Beside the application's own database, under a name that is free."""
    home = next((s for s in moved if s.kind == "application"), moved[0]).path.parent
    names = [UNIFIED_NAME, *(UNIFIED_NAME.replace(".", f"_{n}.") for n in range(2, 100))]
    return next(home / name for name in names if not (root / home / name).exists())


def _find_python(root: Path, cwd: str) -> str:
    for home in dict.fromkeys((PurePosixPath(cwd), PurePosixPath())):
        for name in (".venv", "venv", "env"):
            python = home / name / "bin" / "python"
            if (root / home / name / "pyvenv.cfg").exists() and (root / python).exists():
                return str(python)
    return ""


def _configured(root: Path, moved: Sequence[SourceChoice], target: Path, *, file: Path) -> MigrationConfig:
    """The configuration as far as it is known."""
    values = {
        "app": {"root": os.path.relpath(root, file.resolve().parent)},
        "source": [{"path": str(s.path)} for s in moved],
        "target": {"path": str(target)},
    }
    return parse_config(values, file=file)


def _left_out(root: Path) -> Iterator[str]:
    for folder, packages in sorted(find_installed(root).items()):
        what = wording.count(packages, "installed package")
        yield f"{folder.relative_to(root)}: {what}, which is no code of the application"
