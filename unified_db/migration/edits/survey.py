"""Looks through an application's tree: its files, and which of them name an old path."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from unified_db.migration.config import MigrationConfig

_MAX_BYTES = 1_000_000
_TEST_FILE = re.compile(
    r"(?:^|/)(?:tests?|testing)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest)\.py$", re.IGNORECASE
)
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
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
    """Whatever is in the folders below *root* that nobody's tools made, whatever it is, but the folders.

    Packages that were installed into one of these folders are left out, too; see :func:`find_installed`.
    """
    for folder, names, _ in _walk(root):
        yield from (folder / name for name in names)


def find_installed(root: Path) -> dict[Path, int]:
    """Folders below *root* that packages were installed into, with how many packages are in each."""
    return {folder: packages for folder, _, packages in _walk(root) if packages}


def is_environment(folder: Path) -> bool:
    """Whether *folder* is a virtual environment or one of conda, whatever its name."""
    return any((folder / mark).exists() for mark in _ENVIRONMENT_MARKS)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], int]]:
    """(folder, names of what is no folder in it, packages that were installed into it), sorted.

    The root's own packages stay: where an application was installed as one, it would be left out with them.
    """
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        records = _find_records(here, subfolders) if here != root else []
        installed = {name for record in records for name in _read_record(record)}
        subfolders[:] = sorted(s for s in subfolders if s not in installed and not _is_of_tools(here / s))
        yield here, sorted(n for n in names if n not in installed), len(records)


def _is_of_tools(folder: Path) -> bool:
    return folder.name in SKIPPED_FOLDERS or is_environment(folder)


def _find_records(folder: Path, subfolders: Sequence[str]) -> list[Path]:
    """The list of files (RECORD, packaging.python.org) of each package that was installed into *folder*."""
    records = (folder / s / "RECORD" for s in subfolders if s.endswith(".dist-info"))
    return [r for r in records if r.is_file()]


def _read_record(record: Path) -> set[str]:
    """The names in the folder that a package was installed into which it brought."""
    try:
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
        paths = [row[0] for row in csv.reader(lines) if row]
    except (OSError, csv.Error):
        return set()  # not ours to read, so its files count as the application's
    return {record.parent.name, *(path.partition("/")[0] for path in paths)}


def is_test(file: str | PurePath) -> bool:
    """True for a file, by its name in the tree, that is a test or belongs to tests."""
    return bool(_TEST_FILE.search(str(file)))
