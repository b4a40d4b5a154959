"""Commands that start a server, as files for people and for tools name them: README, Procfile, Docker, make.

Only what the line says is read; whether the thing it names is there is the business of `servers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from unified_db.migration.discovery.syntax import Sources

Runner = Literal["asgi", "flask", "streamlit", "chainlit", "django", "fastapi", "script", "module"]

# How much a file's word counts: what starts the application in earnest before what explains it.
_WEIGHTS: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"(?:^|/)(?:Procfile|Dockerfile[^/]*|(?:docker-)?compose[^/]*\.ya?ml|[^/]+\.service)$"), 3),
    (
        re.compile(
            r"(?:^|/)(?:Makefile|[Jj]ustfile|Taskfile\.ya?ml|package\.json|pyproject\.toml|[^/]+\.sh)$"
        ),
        2,
    ),
    (re.compile(r"(?:^|/)(?:README[^/]*|[^/]+\.(?:md|rst))$", re.IGNORECASE), 1),
)
_MAX_DEPTH = 4
_PUNCTUATION = re.compile(r"""["'`,\[\]()]""")
_PORT = re.compile(
    r"(?:--port|--server\.port|-p|--bind|-b)(?:\s+|=)(?:[\w.]*:)?(\d{2,5})\b|runserver\s+(?:[\w.]*:)?(\d{2,5})\b"
)
_PATTERNS: tuple[tuple[Runner, re.Pattern[str]], ...] = (
    (
        "asgi",
        re.compile(r"\b(?:uvicorn|gunicorn|hypercorn|granian)\b[^;|&]*?\s([A-Za-z_][\w.]*:[A-Za-z_]\w*)"),
    ),
    ("fastapi", re.compile(r"\bfastapi\s+(?:run|dev)\s+(?:-\S+\s+)*([\w./-]+\.py)\b")),
    ("flask", re.compile(r"\bflask\s+(?:--app|-A)[\s=]+([\w./:-]+)\b[^;|&]*\brun\b")),
    ("flask", re.compile(r"\bFLASK_APP=([\w./:-]+)")),
    ("streamlit", re.compile(r"\bstreamlit\s+run\s+(?:-\S+\s+)*([\w./-]+\.py)\b")),
    ("chainlit", re.compile(r"\bchainlit\s+run\s+(?:-\S+\s+)*([\w./-]+\.py)\b")),
    ("django", re.compile(r"([\w./-]*manage\.py)\s+runserver\b")),
    ("module", re.compile(r"\bpython[\d.]*\s+(?:-[uOB]+\s+)*-m\s+([A-Za-z_][\w.]*)")),
    ("script", re.compile(r"\bpython[\d.]*\s+(?:-[uOB]+\s+)*([\w./-]+\.py)\b")),
)


@dataclass(frozen=True)
class Mention:
    """A line that starts something.

    Attributes:
        names: What it starts: `module:variable`, a file, or a module.
        port: The port that the line gives; 0 for none.
        weight: 1 for documentation, 3 for what starts the application in earnest.
    """

    runner: Runner
    names: str
    port: int
    place: str
    weight: int


def find_mentions(sources: Sources) -> tuple[Mention, ...]:
    """All lines of the tree that start something, the weightiest first."""
    found = [m for file in sources.files for m in _mentions_in(file, sources)]
    return tuple(sorted(found, key=lambda m: -m.weight))


def _mentions_in(file: PurePosixPath, sources: Sources) -> Iterator[Mention]:
    weight = next((w for pattern, w in _WEIGHTS if pattern.search(str(file))), 0)
    if not weight or len(file.parts) > _MAX_DEPTH:
        return
    for number, line in enumerate(sources.text(file).splitlines(), 1):
        # The list form of Docker and JSON is the same command in other clothes.
        words = _PUNCTUATION.sub(" ", line)
        for runner, pattern in _PATTERNS:
            match = pattern.search(words)
            if match:
                given = _PORT.search(words)
                port = int(next((g for g in given.groups() if g), 0)) if given else 0
                yield Mention(runner, match[1], port, f"{file}:{number}", weight)


def make_targets(sources: Sources) -> Iterator[tuple[PurePosixPath, str]]:
    """The targets of the tree's makefiles, each with its makefile."""
    for file in sources.files:
        if file.name in {"Makefile", "makefile", "GNUmakefile"} and len(file.parts) <= 2:
            for name in re.findall(r"^([A-Za-z][\w-]*)\s*:(?!=)", sources.text(file), re.MULTILINE):
                yield file, name
