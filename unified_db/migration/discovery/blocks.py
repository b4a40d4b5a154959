"""Pieces of a TOML file as text: keys with their comments, tables, and what is commented out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomlkit

_WIDTH = 100
_COMMENT_COLUMN = 44

Value = str | bool | int | float | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """One line: a key, its value, what it means; commented out where it is not active."""

    name: str
    value: Value
    comment: str = ""
    active: bool = True

    def line(self) -> str:
        """The line, with its comment where those of its neighbours stand."""
        text = f"{'' if self.active else '# '}{self.name} = {write_value(self.value)}"
        if not self.comment:
            return text
        return f"{text:<{_COMMENT_COLUMN - 1}} # {self.comment}"


@dataclass(frozen=True)
class Block:
    """A table or an entry of an array of tables, with what is said above it.

    Attributes:
        header: Such as "[[edit]]".
        notes: Comments above it.
        questions: What a person has to say, above it as well.
        active: False where all of it is commented out.
    """

    header: str
    keys: tuple[Key, ...]
    notes: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    active: bool = True

    def body(self) -> list[str]:
        """The lines of the table itself, as they are where it is active."""
        return [self.header, *(line for key in self.keys for line in key.line().split("\n"))]

    def lines(self) -> list[str]:
        """All lines, an empty one behind them."""
        body = self.body() if self.active else [comment_out(line) for line in self.body()]
        return [*comments(*self.notes), *asked(*self.questions), *body, ""]


def title(text: str) -> list[str]:
    """A line between two parts of the file."""
    return [f"# --- {text} ".ljust(_WIDTH, "-")]


def comments(*texts: str) -> list[str]:
    """Each text as comment lines of a page's width."""
    return [line for text in texts for line in _wrap(text, first="# ", rest="# ")]


def asked(*sentences: str) -> list[str]:
    """Each sentence as a question to a person: its first line begins with `# ?`."""
    return [line for sentence in sentences for line in _wrap(sentence, first="# ? ", rest="#   ")]


def sentence(text: str) -> str:
    """*text* with a capital letter and a full stop, unless it begins with a path or a name."""
    first = text.split(" ", 1)[0]
    begun = text if re.search(r"[\W_\d]", first) else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "?")) else f"{begun}."


def comment_out(line: str) -> str:
    """*line* as a comment."""
    return f"# {line}".rstrip()


def _wrap(text: str, *, first: str, rest: str) -> Iterator[str]:
    # A command or a path that breaks could not be copied.
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def write_value(value: Value) -> str:
    """*value* as TOML; a text of several lines as one that keeps them."""
    if isinstance(value, str) and "\n" in value:
        escaped = value.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        if _has_control(escaped):
            return str(tomlkit.item(value).as_string())
        # TOML takes no notice of the newline right behind the quotes.
        return f'"""\n{escaped}"""' if not escaped.endswith('"') else str(tomlkit.item(value).as_string())
    if isinstance(value, str) and '"' in value and not re.search(r"[\x00-\x1f\x7f']", value):
        return f"'{value}'"
    if isinstance(value, str | bool | int | float):
        return str(tomlkit.item(value).as_string())
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{write_key(k)} = {write_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(write_value(v) for v in value)}]"


def write_key(name: str) -> str:
    """*name* as a key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else write_value(name)


def _has_control(text: str) -> bool:
    return bool(re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text))


def squeeze(text: str) -> str:
    """*text* without spaces and comment signs, to find in it what somebody laid out otherwise."""
    return re.sub(r"[\s#]+", "", text)
