"""Finds the place that makes an application open one certain file: a line of its tree, or a variable.

A path is written in many ways: absolute, with links or without, from the home folder, in a URL, or as
a folder that the name is joined to elsewhere. The way that says most is looked for first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits import survey

# What shells and virtual environments set says where somebody is, not what is opened.
_NO_SETTINGS = frozenset({"OLDPWD", "PATH", "PWD", "PYTHONPATH", "VIRTUAL_ENV", "_"})
_TEXT_LIMIT_BYTES = 1024 * 1024
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SOURCE_CODE = frozenset(
    {".cs", ".go", ".graphql", ".java", ".js", ".jsx", ".kt", ".mjs", ".php", ".proto", ".py"}
    | {".rb", ".rs", ".sql", ".ts", ".tsx"}
)


def find_place(config: MigrationConfig, path: Path, *, roots: Sequence[Path]) -> str:
    """Where *path* is named, as "FILE:LINE" or "the environment variable NAME"; empty where it is nowhere.

    Args:
        config: The application's configuration, which may set variables itself.
        path: A real file of the application, absolute.
        roots: Staged trees, the more telling one first. Databases, archives and files over 1 MB are
            passed over: they may hold the path too, and are not what opened it.
    """
    lines = [line for root in roots for line in _lines(root)]
    for form in _forms(config, path):
        pattern = re.compile(re.escape(form) + r"(?![\w.-])")
        for place, line in lines:
            if form in line and pattern.search(line):
                return place
        for name, value in _variables(config):
            if pattern.search(value):
                return f"the environment variable {name}"
    return ""


def find_words(root: Path) -> frozenset[str]:
    """Every word of the source code below *root* that could be the name of a field.

    Without settings and files of data, whose words may be secret.
    """
    lines = (line for place, line in _lines(root) if Path(place.rpartition(":")[0]).suffix in _SOURCE_CODE)
    return frozenset(word for line in lines for word in _WORD.findall(line))


def _forms(config: MigrationConfig, path: Path) -> list[str]:
    """The ways to write *path*, and then its folder and the application's root, longest first."""
    written = [config.root / s.path for s in config.source if config.resolve(s.path) == path]
    names = [path, *(Path(os.path.normpath(w)) for w in written), *_unresolved(config, path)]
    forms: dict[str, None] = {}
    for name in dict.fromkeys(names):
        forms |= dict.fromkeys(_spellings(name))
    for folder in dict.fromkeys([*(n.parent for n in names), config.root, _plain_root(config)]):
        forms |= dict.fromkeys(_spellings(folder))
    return list(forms)


def _spellings(path: Path) -> Iterator[str]:
    yield str(path)
    yield quote(str(path))
    home = Path.home()
    if path != home and path.is_relative_to(home):
        for start in ("~", "$HOME", "${HOME}"):
            yield f"{start}/{path.relative_to(home)}"


def _plain_root(config: MigrationConfig) -> Path:
    """The application's root with the links that are on the way to it."""
    return Path(os.path.normpath(config.file.parent / config.app.root))


def _unresolved(config: MigrationConfig, path: Path) -> list[Path]:
    return [_plain_root(config) / path.relative_to(config.root)] if path.is_relative_to(config.root) else []


def _lines(root: Path) -> Iterator[tuple[str, str]]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if s not in survey.SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            yield from ((f"{path.relative_to(root)}:{n}", line) for n, line in _text(path))


def _text(path: Path) -> Iterable[tuple[int, str]]:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _TEXT_LIMIT_BYTES:
            return ()
        content = path.read_bytes()
    except OSError:
        return ()  # a staged process removed it, or took our right to read it
    return () if b"\0" in content else enumerate(content.decode("utf-8", "replace").splitlines(), 1)


def _variables(config: MigrationConfig) -> list[tuple[str, str]]:
    known = {**os.environ, **config.app.env, **config.staging.env}
    return [(name, value) for name, value in known.items() if name not in _NO_SETTINGS]
