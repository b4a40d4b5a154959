"""Finds where an application names an object of its database, once the configured edits are made.

A mention is a string in Python code that is the name, begins with it as `name.column`, or has it in
SQL; and any word of SQL, shell and settings files. Names are compared without case, as in SQL.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits.survey import walk_tree

_SQL = re.compile(
    r"\b(?:select|insert|update|delete|from|join|into|table|create|drop|alter|index|references|pragma)\b",
    re.I,
)
_PLAIN_SUFFIXES = {".sql", ".sh", ".bash", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".json", ".ipynb"}


def find_names(
    config: MigrationConfig,
    name: str,
    *,
    ignore: Sequence[str] = (),
    edited: Mapping[Path, bytes] | None = None,
) -> tuple[str, ...]:
    """`file:line` of every place in the application that names *name*, sorted.

    Args:
        config: Says where the application's tree is.
        name: A table, index, view or trigger.
        ignore: Globs, relative to the tree, of files that mean something else by it.
        edited: What files are after the edits, by their absolute paths.

    The configuration itself and files over 1 MB are not looked at.
    """
    found: list[tuple[str, int]] = []
    for file in walk_tree(config):
        label = config.label(file)
        if file.resolve() == config.file or any(fnmatch(label, pattern) for pattern in ignore):
            continue
        if file.suffix == ".py" or file.suffix in _PLAIN_SUFFIXES:
            text = _read(file, edited or {})
            lines = _in_python(text, name) if file.suffix == ".py" else _in_text(text, name)
            found += [(label, line) for line in lines]
    return tuple(f"{label}:{line}" for label, line in sorted(set(found)))


def is_sql(text: str) -> bool:
    """True for a text that has words of SQL."""
    return bool(_SQL.search(text))


def _read(file: Path, edited: Mapping[Path, bytes]) -> str:
    try:
        content = edited.get(file.resolve()) or file.read_bytes()
    except OSError:
        return ""  # not ours to read, so not ours to report
    return "" if b"\0" in content else content.decode("utf-8-sig", "replace")


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _in_text(text: str, name: str) -> Iterator[int]:
    word = _word(name)
    return (number for number, line in enumerate(text.split("\n"), 1) if word.search(line))


def _in_python(text: str, name: str) -> Iterator[int]:
    if not _word(name).search(text):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody else's code
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        yield from _in_text(text, name)  # not code that this Python reads, so every word counts
        return
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from (node.lineno + line for line in _in_string(node.value, name))


def _in_string(value: str, name: str) -> Iterator[int]:
    """Lines of the string *value*, counted from 0, that name *name*."""
    flat = value.strip().lower()
    if flat == name.lower() or re.fullmatch(rf"(?:\w+\.)?{re.escape(name.lower())}(?:\.\w+)?", flat):
        yield 0
        return
    if is_sql(value):
        word = _word(name)
        yield from (n for n, line in enumerate(value.split("\n")) if word.search(line))
