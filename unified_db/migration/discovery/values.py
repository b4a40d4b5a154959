"""What an expression of an application may be worth: texts that know where their pieces come from.

A value that cannot be told is :class:`Unknown` with the reason; several that it may have are a tuple.
Nothing here reads a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from unified_db.migration.discovery.finds import SettingKind

if TYPE_CHECKING:
    import libcst as cst

    from unified_db.migration.discovery.modules import Module

MOST_VALUES = 6
_MOST_STEPS = 6


@dataclass(frozen=True)
class Origin:
    """A place that a text was read from.

    Attributes:
        raw: All of the text that stands there.
        doubt: A question that stays where this value counts; else empty.
    """

    kind: SettingKind
    file: str
    line: int
    key: str
    raw: str
    doubt: str = ""


@dataclass(frozen=True)
class Piece:
    """A part of a text; *anchor* tells what makes a path absolute that nobody wrote down."""

    text: str
    origin: Origin | None = None
    anchor: Literal["", "file", "cwd", "home"] = ""


@dataclass(frozen=True)
class Overruled:
    """A text that would count if another did not, and why it does not."""

    text: Text
    reason: str


@dataclass(frozen=True)
class Text:
    """A text or a path, in pieces.

    Attributes:
        steps: Names that it came through, nearest to where it was written first.
        overruled: What stands at other places for the same thing.
        listed: One of several that the code goes through.
    """

    pieces: tuple[Piece, ...]
    steps: tuple[str, ...] = ()
    overruled: tuple[Overruled, ...] = ()
    is_path: bool = False
    listed: bool = False

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)

    def through(self, step: str) -> Text:
        """The same, having come through one more name."""
        if step in self.steps or len(self.steps) >= _MOST_STEPS:
            return self
        return replace(self, steps=(*self.steps, step))


@dataclass(frozen=True)
class Unknown:
    """A value that only running the application would tell; *reason* may be empty."""

    reason: str = ""


@dataclass(frozen=True)
class Const:
    """None, a truth value or a number; *reason* says whose absence a None is."""

    value: object
    reason: str = ""


@dataclass(frozen=True)
class External:
    """A name of a library, as `os.path.join`."""

    name: str


@dataclass(frozen=True)
class ModuleRef:
    """A module or package of the tree: its dotted name below *base*."""

    base: str
    dotted: str


@dataclass(frozen=True)
class ClassRef:
    """A class of the tree."""

    module: Module
    node: cst.ClassDef


@dataclass(frozen=True)
class FieldSources:
    """Where the fields of a settings object are looked for.

    Attributes:
        files: The environment and dotenv files, the first wins.
        prefix: Of the variables.
        delimiter: Between the name of a nested object and of its field; empty where none is set.
    """

    files: tuple[str, ...]
    prefix: str = ""
    delimiter: str = ""
    ignore_case: bool = True


@dataclass(frozen=True)
class Instance:
    """An object of a class of the tree.

    Attributes:
        arguments: What it was made with; None where nobody knows, as for `self` of a method.
        sources: Where its fields are set, if it is settings or a part of some.
    """

    cls: ClassRef
    arguments: Arguments | None = None
    sources: FieldSources | None = None


@dataclass(frozen=True)
class FunctionRef:
    """A function of the tree, or a method with what it is bound to."""

    module: Module
    node: cst.FunctionDef | cst.Lambda
    owner: Instance | ClassRef | None = None
    bound: tuple[tuple[str, Values], ...] = ()


@dataclass(frozen=True)
class Arguments:
    """What a call passes: by place and by name."""

    positional: tuple[Values, ...] = ()
    named: tuple[tuple[str, Values], ...] = ()
    star: bool = False

    def get(self, index: int | None, *names: str) -> Values | None:
        """The argument at *index*, or the one called by one of *names*."""
        found = dict(self.named)
        for name in names:
            if name in found:
                return found[name]
        return self.positional[index] if index is not None and index < len(self.positional) else None


@dataclass(frozen=True)
class Table:
    """A dict or a list: of a document that the application loads, or written in its code.

    Attributes:
        document: The place of the whole in its file; None for one in the code.
        path: Keys that lead to this part.
        items: (key, values), in order; a list's keys are numbers.
    """

    items: tuple[tuple[object, Values], ...]
    document: str | None = None
    path: tuple[str, ...] = ()

    def get(self, key: object) -> Values | None:
        """What stands under *key*."""
        return next((values for name, values in self.items if name == key), None)


@dataclass(frozen=True)
class Handle:
    """A file of the tree that the application opens or has read, by its name in the tree."""

    file: str


@dataclass(frozen=True)
class Opened:
    """A connection, a saver, a store or an engine, and the values of the path that it opens."""

    call: str
    path: Values
    node: cst.Call


@dataclass(frozen=True)
class Made:
    """What a call of a library gives: the name that was called, and with what."""

    name: str
    arguments: Arguments
    node: cst.Call
    module: Module


@dataclass(frozen=True)
class Method:
    """An attribute of a value that is there to be called."""

    owner: Value
    name: str


@dataclass(frozen=True)
class Parsed:
    """What a command-line parser gives; *module* has its `add_argument` calls."""

    module: Module


Value = (
    Text
    | Unknown
    | Const
    | External
    | ModuleRef
    | ClassRef
    | Instance
    | FunctionRef
    | Table
    | Handle
    | Opened
    | Made
    | Method
    | Parsed
)
Values = tuple[Value, ...]

UNKNOWN: Values = (Unknown(),)


def plain(text: str, anchor: Literal["", "file", "cwd", "home"] = "", *, is_path: bool = False) -> Text:
    """A text that stands nowhere; what is anchored is a path."""
    return Text((Piece(text, None, anchor),), is_path=is_path or bool(anchor))


def few(values: Iterable[Value]) -> Values:
    """Each of *values* once, the first few of them; :data:`UNKNOWN` where there is none."""
    return tuple(dict.fromkeys(values))[:MOST_VALUES] or UNKNOWN


def known_texts(values: Values) -> list[Text]:
    """The texts among *values*."""
    return [v for v in values if isinstance(v, Text)]


def concatenate(texts: Iterable[Text], *, is_path: bool = False) -> Text:
    """The texts one behind the other."""
    texts = list(texts)
    pieces = tuple(p for t in texts for p in t.pieces if p.text)
    # The last part says most of what the whole is about: a file's name rather than its folder's.
    steps = next((t.steps for t in reversed(texts) if t.steps), ())
    overruled = tuple(_around(texts, i, o) for i, t in enumerate(texts) for o in t.overruled)
    listed = any(t.listed for t in texts)
    return Text(pieces or (Piece(""),), steps, overruled, is_path, listed)


def _around(texts: list[Text], index: int, overruled: Overruled) -> Overruled:
    """What the whole would be if an overruled part counted."""
    pieces = [t.pieces if i != index else overruled.text.pieces for i, t in enumerate(texts)]
    return Overruled(Text(tuple(p for part in pieces for p in part if p.text)), overruled.reason)


def join_paths(first: Text, second: Text) -> Text:
    """`first / second`, as `os.path.join` does it: a second path that is absolute stands alone."""
    if second.text.startswith("/"):
        return replace(second, is_path=True)
    if first.text in {"", "."} and not first.pieces[0].anchor:
        return replace(second, is_path=True)
    if not second.text:
        return replace(first, is_path=True)
    separator = plain("" if first.text.endswith("/") else "/")
    return concatenate([first, separator, second], is_path=True)


def keep(text: Text, start: int, end: int) -> Text:
    """The characters from *start* to *end* of *text*, with the places they come from."""
    pieces: list[Piece] = []
    position = 0
    for piece in text.pieces:
        low, high = max(start - position, 0), min(end - position, len(piece.text))
        if low < high:
            anchor = piece.anchor if low == 0 else ""
            pieces.append(replace(piece, text=piece.text[low:high], anchor=anchor))
        position += len(piece.text)
    return replace(text, pieces=tuple(pieces) or (Piece(""),))


def replaced(text: Text, new: str) -> Text:
    """*new*, which was computed from *text*: the end that both have in common keeps its places.

    Where all of *text* was one piece, so is the new one.
    """
    old = text.text
    if new == old:
        return text
    pairs = zip(reversed(old), reversed(new), strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not common:
        origins = [p.origin for p in text.pieces if p.origin]
        return replace(text, pieces=(Piece(new, origins[-1] if len(origins) == 1 else None),))
    tail = keep(text, len(old) - common, len(old))
    head = new[: len(new) - common]
    return replace(tail, pieces=((Piece(head),) if head else ()) + tail.pieces)


def parent(text: Text) -> Text:
    """The folder of a path."""
    trimmed = text.text.rstrip("/")
    cut = trimmed.rfind("/")
    if cut < 0:
        return replace(plain("."), is_path=True, steps=text.steps)
    return replace(keep(text, 0, max(cut, 1)), is_path=True)


def base_name(text: Text) -> Text:
    """The last part of a path."""
    whole = text.text.rstrip("/")
    return replace(keep(text, whole.rfind("/") + 1, len(whole)), is_path=False)


def convert(value: object) -> Value:
    """A value of a document that is no text."""
    return Const(value) if value is None or isinstance(value, (bool, int, float)) else Unknown()


def describe_reason(values: Values) -> str:
    """The first reason why a value is not known; empty where none says."""
    reasons = [v.reason for v in values if isinstance(v, (Unknown, Const)) and v.reason]
    return reasons[0] if reasons else ""
