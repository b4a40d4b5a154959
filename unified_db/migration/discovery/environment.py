"""Environment variables as the application sees them: the real ones, dotenv files that are read, defaults.

Also what is relative to what: the working folder is a decision of the caller, not a fact of the tree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from unified_db.migration.discovery import texts_of
from unified_db.migration.discovery.imports import ImportGraph
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.discovery.values import (
    Const,
    Origin,
    Piece,
    Text,
    Unknown,
    Value,
    Values,
    few,
    join_paths,
    keep,
    plain,
    replaced,
)
from unified_db.migration.edits import dotenv

REAL: Literal["environment"] = "environment"
_REFERENCE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_COMMENTED = re.compile(r"^[^\S\r\n]*#[^\S\r\n]*((?:export\s+)?[A-Za-z_]\w*[^\S\r\n]*=.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """A call that reads a dotenv file into the environment.

    Attributes:
        file: The dotenv file, by its name in the tree.
        loader: The Python file that has the call.
        override: True where the file wins over the real environment.
    """

    file: str
    loader: str
    override: bool = False


@dataclass(frozen=True)
class DotenvKey:
    """A line of a dotenv file, in use or commented out."""

    name: str
    text: Text
    line: int
    commented: bool = False


class Environment:
    """What variables are worth in the tree, seen from one working folder.

    Attributes:
        cwd: Absolute.
        real: Variables that are set whoever asks.
        loads: Dotenv files that some code reads into the environment; set once these are known.
    """

    def __init__(self, tree: Tree, cwd: Path, real: Mapping[str, str] | None = None) -> None:
        self.tree = tree
        self.cwd = cwd
        self.real = dict(real or {})
        self.loads: tuple[Load, ...] = ()
        self._keys: dict[str, tuple[DotenvKey, ...]] = {}

    @cached_property
    def imports(self) -> ImportGraph:
        """Which module imports which."""
        return ImportGraph(self.tree)

    def keys(self, file: str) -> tuple[DotenvKey, ...]:
        """The keys of a dotenv file in their order, those in comments last."""
        if file not in self._keys:
            text = self.tree.text(file) or ""
            self._keys[file] = (*_read_keys(file, text), *_read_comments(file, text))
        return self._keys[file]

    def loaded_for(self, reader: str | None) -> tuple[Load, ...]:
        """The dotenv files that are in the environment when *reader*, a Python file, reads it."""
        if reader is None:
            return self.loads
        return tuple(x for x in self.loads if self.imports.meet(x.loader, reader))

    def variable(self, name: str, reader: str | None, default: Values | None = None) -> Values:
        """What `os.getenv(name, default)` gives in the file *reader*; without default, `os.environ[name]`."""
        loads = self.loaded_for(reader)
        first = [x.file for x in loads if x.override]
        return self.choose([name], (*reversed(first), REAL, *(x.file for x in loads)), default)

    def choose(
        self,
        names: Sequence[str],
        files: Sequence[str],
        default: Values | None,
        *,
        ignore_case: bool = False,
    ) -> Values:
        """The first of *files* that sets one of *names* wins over those behind it and the default."""
        found = list(dict.fromkeys(self._candidates(names, files, ignore_case=ignore_case)))
        if not found:
            reason = f"{names[0]} is set by no file that is read here"
            if default is None:
                return (Unknown(reason),)
            return few(_with_reason(v, reason) for v in default)
        winner: Value = found[0]
        for other in found[1:]:
            winner = texts_of.overrule(winner, (other,))
        return (texts_of.overrule(winner, default or ()),)

    def _candidates(self, names: Sequence[str], files: Sequence[str], *, ignore_case: bool) -> Iterator[Text]:
        for file in files:
            for name in names:
                if file == REAL:
                    yield from self._real(name, ignore_case=ignore_case)
                    continue
                for key in reversed(self.keys(file)):
                    same = key.name == name or (ignore_case and key.name.lower() == name.lower())
                    if same and not key.commented:
                        yield self._expanded(key.text, file)

    def _real(self, name: str, *, ignore_case: bool) -> Iterator[Text]:
        for real, value in self.real.items():
            if real == name or (ignore_case and real.lower() == name.lower()):
                yield Text((Piece(value, Origin(REAL, REAL, 0, real, value)),))

    def _expanded(self, text: Text, file: str) -> Text:
        """A dotenv value with its `${NAME}` filled in, as python-dotenv does it."""
        if "${" not in text.text:
            return text
        known = {k.name: k.text.text for k in self.keys(file) if not k.commented} | self.real
        return replaced(text, _REFERENCE.sub(lambda m: known.get(m[1], m[2] or ""), text.text))

    def absolute(self, text: Text) -> Text:
        """A path made absolute against the working folder."""
        if text.text.startswith("/"):
            return replace(text, is_path=True)
        here = plain(str(self.cwd), "cwd")
        return replace(join_paths(here, text), steps=text.steps, overruled=text.overruled)

    def expand_user(self, text: Text) -> Text:
        """A path with `~` as the home of whoever asks."""
        if not text.text.startswith("~"):
            return text
        home = plain(os.path.expanduser("~"), "home")  # noqa: PTH111 - a text, no path
        return join_paths(home, keep(text, 2, len(text.text)))

    def file_of(self, text: Text) -> str | None:
        """The file of the tree that a path names; None where it is not there."""
        path = os.path.normpath(self.cwd / text.text)
        file = self.tree.relative(path)
        return file if file is not None and self.tree.text(file) is not None else None


def _with_reason(value: Value, reason: str) -> Value:
    return Const(None, reason) if isinstance(value, Const) and value.value is None else value


def _read_keys(file: str, text: str) -> Iterator[DotenvKey]:
    line = 1
    for name, value, original in dotenv.read(text):
        # A piece begins with the blank lines above it.
        blank = len(original) - len(original.lstrip())
        at = line + original.count("\n", 0, blank)
        if name and value is not None:
            yield DotenvKey(name, _text(file, at, name, value), at)
        line += original.count("\n")


def _read_comments(file: str, text: str) -> Iterator[DotenvKey]:
    for found in _COMMENTED.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        for name, value, _ in dotenv.read(found[1]):
            if name and value is not None:
                yield DotenvKey(name, _text(file, line, name, value), line, commented=True)


def _text(file: str, line: int, name: str, value: str) -> Text:
    return Text((Piece(value, Origin("dotenv", file, line, name, value)),))
