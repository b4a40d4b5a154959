"""Reads stored CREATE statements as tokens: which names they mention, and when two of them agree.

No SQL is run here, and none is rewritten but the one name that a statement gives to what it makes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from unified_db.sqlite import fold, quote_name

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|--[^\n]*|/\*.*?(?:\*/|\Z))+)
    |(?P<blob>[xX]'[0-9a-fA-F]*')
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    |(?P<number>\.?\d(?:[\w.]|(?<=[eE])[+-])*)
    |(?P<sign>.)""",
    # To SQLite every character beyond ASCII is a letter, also a space or a digit of another script.
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SHOWN = 400


@dataclass(frozen=True)
class Token:
    """One token of a statement.

    Attributes:
        kind: word, quoted, string, blob, number or sign.
        text: As it stands there.
        start: Where it begins.
    """

    kind: str
    text: str
    start: int

    @property
    def name(self) -> str | None:
        """What it names, lower-case and without quotes; None for what cannot name anything."""
        if self.kind == "word":
            return fold(self.text)
        if self.kind == "quoted":
            return fold(_unquote(self.text))
        # SQLite takes a string for a name where only a name can stand.
        return fold(_unquote(self.text)) if self.kind == "string" else None

    @property
    def normal(self) -> str:
        """The token without what has no meaning: case and quotes of names."""
        return self.text if self.kind in ("string", "number") else self.name or fold(self.text)


def read_tokens(sql: str) -> Iterator[Token]:
    """The tokens of *sql*, comments and spaces left out."""
    for match in _TOKEN.finditer(sql):
        if match.lastgroup not in (None, "space"):
            yield Token(str(match.lastgroup), match.group(), match.start())


def mentions(sql: str | None, name: str) -> bool:
    """True where *sql* holds *name* as a name, or as a string that SQLite might take for one."""
    return any(t.name == fold(name) for t in read_tokens(sql or ""))


def with_name(sql: str, name: str) -> str:
    """The stored CREATE INDEX, VIEW or TRIGGER *sql* under another *name*; all else stays as it is.

    SQLite stores such a statement without IF NOT EXISTS and without a schema's name, so the name is
    the first token after the kind (sqlite.org/schematab.html).
    """
    tokens = list(read_tokens(sql))
    kind = next(i for i, t in enumerate(tokens) if t.normal in ("index", "view", "trigger"))
    old = tokens[kind + 1]
    return sql[: old.start] + quote_name(name) + sql[old.start + len(old.text) :]


def agree(one: str, other: str) -> bool:
    """True where two CREATE TABLE statements say the same, whatever the order of what they list.

    Compared as the set of what stands between the outer parentheses, comma by comma, and what
    follows them. Names, spaces, comments and quotes aside, the words must be the same, so two
    ways to say one thing (a key in its column, a key in a line of its own) do not agree.
    """
    return _parts(one) == _parts(other)


def same_words(one: str, other: str) -> bool:
    """True where two statements are the same but for spaces, comments, quotes and case of names."""
    return _normal(one) == _normal(other)


def _normal(sql: str) -> list[str]:
    return [t.normal for t in read_tokens(sql)]


def _parts(sql: str) -> tuple[Counter[tuple[str, ...]], tuple[str, ...]]:
    """What a CREATE TABLE lists, and what follows the list; the table's own name is left out."""
    listed: list[list[str]] = [[]]
    after: list[str] = []
    depth, closed = 0, False
    for token in read_tokens(sql):
        depth -= token.text == ")" and token.kind == "sign"
        if depth == 0 and listed != [[]] and token.text == ")":
            closed = True
        elif closed:
            after.append(token.normal)
        elif depth == 1 and token.text == "," and token.kind == "sign":
            listed.append([])
        elif depth:
            listed[-1].append(token.normal)
        depth += token.text == "(" and token.kind == "sign"
    return Counter(tuple(part) for part in listed), tuple(after)


def shorten(sql: str) -> str:
    """*sql* on one line for a message: cut where it is long, with every string in it masked.

    A definition is no data, but a default may be a password. A table's own name is shown: as that of a
    shadow table, SQLite stores it as a string.
    """
    shown: list[str] = []
    before = ""
    for match in _TOKEN.finditer(sql):
        text = match.group()
        if match.lastgroup == "space":
            shown.append(" ")
            continue
        is_long = match.lastgroup in ("string", "blob") and len(text) > len("'1234567'")
        shown.append("'***'" if is_long and before.lower() != "table" else text)
        before = text
    line = "".join(shown)
    return line if len(line) <= _SHOWN else line[:_SHOWN] + " ..."


def _unquote(text: str) -> str:
    end = text[-1]
    inner = text[1:-1]
    return inner if end == "]" else inner.replace(end * 2, end)
