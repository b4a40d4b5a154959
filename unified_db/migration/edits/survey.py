"""Looks through an application's tree: its files, and which of them name an old path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unified_db.migration.config import MigrationConfig

_MAX_BYTES = 1_000_000
SKIPPED_FOLDERS = {
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".nox",
    ".cache",
    ".hypothesis",
    ".eggs",
    "site-packages",
    ".unify-db",
}


@dataclass(frozen=True)
class Mention:
    """A line of a text file of the application, *file* relative to its root."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def find_mentions(
    config: MigrationConfig, paths: Sequence[str], *, edited: Mapping[Path, bytes] | None = None
) -> tuple[str, ...]:
    """`file:line` of every line in a text file of the application that names one of *paths*, sorted."""
    return tuple(str(m) for m in read_mentions(config, paths, edited=edited))


def read_mentions(
    config: MigrationConfig, paths: Sequence[str], *, edited: Mapping[Path, bytes] | None = None
) -> tuple[Mention, ...]:
    """Every line in a text file of the application that names one of *paths*, sorted.

    A path is recognised by its file name, since scripts reach it in many ways. The old files
    themselves, the configuration, logs, and files over 1 MB are not looked at.

    Args:
        config: Says where the application's tree is.
        paths: Files, by their paths or names.
        edited: What files are after the edits, by their absolute paths.
    """
    names = sorted({re.escape(Path(p).name) for p in paths})
    if not names:
        return ()
    # Sidecars count; `my-app.db` and `app.db.bak` are other files than `app.db`.
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?:-(?:wal|shm|journal)\b|(?![\w-]|\.\w))")
    passed_over = {config.file, config.target_path, *(config.resolve(Path(p)) for p in paths)}
    found: list[Mention] = []
    for file in walk_tree(config):
        if file.resolve() not in passed_over and file.suffix != ".log":
            lines = read_lines(file, edited)
            label = config.label(file)
            found += [Mention(label, n, line) for n, line in enumerate(lines, 1) if pattern.search(line)]
    return tuple(sorted(found, key=lambda m: (m.file, m.line)))


def read_lines(file: Path, edited: Mapping[Path, bytes] | None = None) -> list[str]:
    """The lines of a text file, as *edited* has it where it does; none of a binary or unreadable one."""
    try:
        content = (edited or {}).get(file.resolve())
        content = file.read_bytes() if content is None else content
    except OSError:
        return []  # not ours to read, so not ours to report
    return [] if b"\0" in content else content.decode("utf-8", "replace").split("\n")


def walk_tree(config: MigrationConfig) -> Iterator[Path]:
    """The files of the application up to 1 MB, without what tools made; links to folders not followed."""
    yield from walk_folder(config.root)


def walk_folder(root: Path) -> Iterator[Path]:
    """As :func:`walk_tree`, of a tree that no configuration speaks of yet; in the order of their names."""
    for path in walk_names(root):
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            yield path


def walk_names(root: Path) -> Iterator[Path]:
    """Whatever is in the folders below *root* that nobody's tools made, whatever it is, but the folders."""
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = sorted(
            s for s in subfolders if s not in SKIPPED_FOLDERS and not (here / s / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names))
