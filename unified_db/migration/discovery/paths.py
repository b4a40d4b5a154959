"""How a text names a SQLite file: as a path or a URL, relative to what, and which piece of it decides."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unified_db.migration.discovery.values import Origin, Piece, Text

Style = Literal["path", "url", "async-url"]
Base = Literal["cwd", "file", "absolute", "unknown"]

_URL = re.compile(r"sqlite(?:\+(?P<driver>\w+))?://(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:")
_SUFFIX = re.compile(r"\.(?:db3?|sqlite3?|sqlite-?db|s3db|sl3)$", re.IGNORECASE)
_MEMORY = ":memory:"


@dataclass(frozen=True)
class Name:
    """A text that names a SQLite file: *head* (`sqlite:///`), the path, *tail* (`?cache=shared`)."""

    style: Style
    head: str
    path: str
    tail: str = ""


@dataclass(frozen=True)
class Settled:
    """The file that a text names, and the piece that decides about its name.

    Attributes:
        resolved: Absolute; links are not followed.
        origin: Where the deciding piece stands; None where nobody wrote it down.
        part: What that piece says of the path.
        base: The folder that *part* is relative to; None where a piece holds half of a name only.
    """

    name: Name
    resolved: Path
    origin: Origin | None
    part: str
    base: Path | None
    relative_to: Base


def read_name(text: str) -> Name | None:
    """The SQLite file that *text* names; None for a database in memory or of another kind."""
    text = text.strip()
    found = _URL.fullmatch(text)
    if found:
        path, mark, query = found["rest"].removeprefix("/").partition("?")
        inner = "file:" if path.startswith("file:") else ""
        path = path.removeprefix("file:")
        style: Style = "async-url" if found["driver"] == "aiosqlite" else "url"
        head = text[: len(text) - len(path) - len(mark + query)] if inner or found["rest"] else text
        return _unless_memory(Name(style, head, path, mark + query))
    if text.startswith("file:"):
        path, mark, query = text.removeprefix("file:").partition("?")
        slashes = "//" if path.startswith("///") else ""
        return _unless_memory(Name("path", f"file:{slashes}", path.removeprefix(slashes), mark + query))
    if _SCHEME.match(text) or not text:
        return None
    return _unless_memory(Name("path", "", text))


def _unless_memory(name: Name) -> Name | None:
    return None if name.path in {"", "/"} or _MEMORY in name.path or "mode=memory" in name.tail else name


def looks_like_sqlite(text: str) -> bool:
    """True for URLs of SQLite files, and for paths with a suffix that such files have."""
    name = read_name(text) if "\n" not in text.strip() else None
    if name is None:
        return False
    return name.style != "path" or (
        bool(_SUFFIX.search(name.path)) and not re.search(r"[\s*{}<>]", name.path)
    )


def settle(text: Text, cwd: Path, *, base: Path | None = None) -> Settled | None:
    """What *text* names; None where it is no SQLite file.

    Args:
        text: The value, with its pieces.
        cwd: What relative paths are relative to.
        base: Where a library takes relative paths from another folder, this one.
    """
    name = read_name(text.text)
    if name is None:
        return None
    offset = len(text.text) - len(text.text.lstrip())
    start = offset + len(name.head)
    end = start + len(name.path)
    folder = base or cwd
    resolved = Path(os.path.normpath(folder / name.path))
    if base and base.name == "instance" and not resolved.exists() and (base.parent / name.path).exists():
        # Flask-SQLAlchemy took the application's own folder before its release 3.
        folder = base.parent
        resolved = Path(os.path.normpath(folder / name.path))
    first, begin, finish = _deciding(text, start, end)
    prefix = text.text[start:begin] if begin > start else ""
    part = text.text[max(begin, start) : min(finish, end)]
    whole = finish >= end and (not prefix or prefix.endswith("/") or part.startswith("/"))
    under = _folder_of(prefix, folder) if prefix else folder
    return Settled(
        name,
        resolved,
        first.origin,
        part,
        under if whole else None,
        _relative_to(text, prefix or part, start, base),
    )


def _folder_of(prefix: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / prefix))


def _deciding(text: Text, start: int, end: int) -> tuple[Piece, int, int]:
    """(piece, its first character, the one behind it) of the piece that the file's name begins in."""
    path = text.text[start:end]
    place = start + path.rstrip("/").rfind("/") + 1
    position = 0
    for piece in text.pieces:
        behind = position + len(piece.text)
        if place < behind:
            return piece, position, behind
        position = behind
    return text.pieces[-1], position - len(text.pieces[-1].text), position


def _relative_to(text: Text, path: str, start: int, base: Path | None) -> Base:
    anchor = ""
    position = 0
    for piece in text.pieces:
        position += len(piece.text)
        if position > start:
            anchor = piece.anchor
            break
    if anchor in {"file", "cwd"}:
        return "file" if anchor == "file" else "cwd"
    if path.startswith("/"):
        return "absolute"
    return "file" if base else "cwd"
