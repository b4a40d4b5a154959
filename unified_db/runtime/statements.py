"""What a statement does to a transaction, from its text alone."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

_SPACE = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/|;)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
# What must not be read as words or parentheses: comments, strings and quoted names.
_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]
    | [()] | [A-Za-z_][A-Za-z_0-9$]*""",
    re.DOTALL | re.VERBOSE,
)
_SAVEPOINT = re.compile(r"""\s*(SAVEPOINT|RELEASE|ROLLBACK)\b(?:\s+TO\b)?(?:\s+SAVEPOINT\b)?\s+(\S+)""", re.I)


class Effect(Enum):
    """What a statement needs of a transaction."""

    READ = "reads, or cannot be in a transaction"
    WRITE = "writes"
    COMMIT = "commits"
    SAVEPOINT = "opens a savepoint"
    RELEASE = "releases a savepoint"
    ROLLBACK_TO = "rolls back to a savepoint"


# PRAGMA, VACUUM and ATTACH change settings or files that a transaction would be in the way of;
# BEGIN and ROLLBACK are the caller's own business.
_NO_WRITE = frozenset(
    ["SELECT", "VALUES", "EXPLAIN", "PRAGMA", "VACUUM", "ATTACH", "DETACH", "BEGIN", "ROLLBACK"]
)
_VERBS = frozenset(["SELECT", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE"])


@lru_cache(maxsize=1024)
def effect_of(sql: str) -> Effect:
    """What *sql* does; a statement that is not known to only read counts as a write."""
    start = _SPACE.match(sql)
    word = _WORD.match(sql, start.end() if start else 0)
    verb = word.group().upper() if word else ""
    if verb == "WITH":
        verb = _verb_after_with(sql)
    if verb in ("COMMIT", "END"):
        return Effect.COMMIT
    if verb == "SAVEPOINT":
        return Effect.SAVEPOINT
    if verb == "RELEASE":
        return Effect.RELEASE
    if verb == "ROLLBACK" and re.search(r"\bTO\b", sql, re.I):
        return Effect.ROLLBACK_TO
    return Effect.READ if verb in _NO_WRITE or not verb else Effect.WRITE


def savepoint_of(sql: str) -> str:
    """The name in a SAVEPOINT, RELEASE or ROLLBACK TO statement."""
    found = _SAVEPOINT.match(sql)
    return found.group(2).rstrip(";") if found else ""


def _verb_after_with(sql: str) -> str:
    """The statement that follows the common table expressions: `WITH ... INSERT` writes."""
    depth = 0
    for token in _TOKEN.findall(sql):
        if token == "(":  # noqa: S105 - a parenthesis
            depth += 1
        elif token == ")":  # noqa: S105 - a parenthesis
            depth -= 1
        elif depth == 0 and token.upper() in _VERBS:
            return str(token.upper())
    return "INSERT"
