"""Which folder the application runs in, told by which relative paths then name files that are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unified_db import sources
from unified_db.migration.discovery import alembic_files, uses
from unified_db.migration.discovery.imports import ImportGraph
from unified_db.migration.discovery.paths import settle
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.discovery.values import known_texts
from unified_db.migration.edits.survey import is_test

_ENTRY = re.compile(
    r"uvicorn\.run\(|\.run\(\s*(?:debug|host|port)|FastAPI\(|Flask\(|__name__\s*==\s*[\"']__main__"
    r"|import streamlit"
)
_MOST_CANDIDATES = 6


@dataclass(frozen=True)
class Chosen:
    """A working folder, what speaks for it, and what is left to ask."""

    folder: Path
    why: str
    asks: tuple[str, ...] = ()


def choose(tree: Tree, environment: Mapping[str, str]) -> Chosen:
    """The folder that makes most relative paths name existing SQLite files; else where imports begin."""
    candidates = _candidates(tree)
    counted = {c: _count(tree, c, environment) for c in candidates}
    most = max((hits for hits, _ in counted.values()), default=0)
    best = [c for c in candidates if counted[c][0] == most]
    where = best[0] or "the root"
    folder = tree.root / best[0]
    if not counted[best[0]][1]:
        return Chosen(folder, "no path is relative to the working folder")
    if most:
        word = "file" if most == 1 else "files"
        return Chosen(folder, f"paths that are relative to {where} name {most} {word} that exist")
    return Chosen(
        folder,
        f"the imports of what starts begin in {where}",
        (f"In which folder does the application run? Relative paths were taken from {where}.",),
    )


def _candidates(tree: Tree) -> list[str]:
    """Folders that the application may run in, likeliest first."""
    graph = ImportGraph(tree)
    votes: dict[str, int] = {"": 0}
    for file in tree.python_files:
        if not is_test(file) and _ENTRY.search(tree.text(file) or ""):
            bases = graph.bases(file) or {_folder(file)}
            for base in bases:
                votes[base] = votes.get(base, 0) + 1
    for file in tree.dotenv_files:
        votes.setdefault(_folder(file), 0)
    ordered = sorted(votes, key=lambda f: (-votes[f], f.count("/"), f))
    return list(dict.fromkeys((*ordered[: _MOST_CANDIDATES - 1], "")))


def _folder(file: str) -> str:
    folder = PurePosixPath(file).parent.as_posix()
    return "" if folder == "." else folder


def _count(tree: Tree, candidate: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """(files that exist, files) among those that are named relative to the working folder."""
    ev = uses.make_evaluator(tree, tree.root / candidate, environment)
    named: set[Path] = set()
    for use in alembic_files.all_uses(ev):
        for text in known_texts(use.path):
            settled = settle(text, ev.environment.cwd, base=use.base)
            if settled is not None and settled.relative_to == "cwd":
                named.add(settled.resolved)
    return sum(_is_sqlite(path) for path in named), len(named)


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(sources.HEADER)) == sources.HEADER
    except OSError:
        return False
