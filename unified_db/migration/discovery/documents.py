"""Settings files that an application loads: their values as tables that know where each one stands."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import libcst as cst
import yaml

from unified_db.migration.discovery.modules import dotted_name
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    Const,
    Handle,
    Made,
    Origin,
    Piece,
    Table,
    Text,
    Values,
    convert,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator, Frame
    from unified_db.migration.discovery.tree import Tree

Kind = Literal["toml", "yaml", "json", "ini"]
_DEEPEST = 12
_KINDS: dict[str, Kind] = {
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".ini": "ini",
    ".cfg": "ini",
    ".conf": "ini",
}


def kind_of(file: str) -> Kind | None:
    """The format of a settings file by its suffix."""
    return _KINDS.get(PurePosixPath(file).suffix.lower())


def load(ev: Evaluator, kind: str, arguments: Arguments) -> Values:
    """What `yaml.safe_load(open(...))` and its like give."""
    source = (arguments.get(0, "stream", "fp") or UNKNOWN)[0]
    if isinstance(source, Text):
        file = ev.environment.file_of(source)
        source = Handle(file) if file else source
    if not isinstance(source, Handle):
        return UNKNOWN
    found = table(ev.tree, source.file, kind)
    return (found,) if found is not None else UNKNOWN


def table(tree: Tree, file: str, kind: str | None = None) -> Table | None:
    """A settings file as a table; None where it cannot be read, which the tree then says."""
    kind = kind or kind_of(file)
    text = tree.text(file)
    if kind is None or text is None:
        return None
    try:
        content = _READERS[kind](text)
    except (ValueError, RecursionError, yaml.YAMLError, configparser.Error) as error:
        tree.unread.setdefault(file, f"{file}: no {kind.upper()} that can be read ({type(error).__name__})")
        return None
    found = _table(content, _Place(kind, file, text.split("\n")), ())
    return found if isinstance(found, Table) else None


class _Place:
    """Finds the lines of a document's keys."""

    def __init__(self, kind: str, file: str, lines: list[str]) -> None:
        self.kind = kind
        self.file = file
        self.lines = lines

    def line(self, path: tuple[str, ...], value: str) -> int:
        """The line that most likely has the key: each part of the path is looked for below the one before."""
        at = 0
        for part in path:
            key = re.compile(rf"(?<![\w-]){re.escape(part)}(?![\w-])")
            at = next((n for n in range(at, len(self.lines)) if key.search(self.lines[n])), at)
        return next((n for n in range(at, len(self.lines)) if value in self.lines[n]), at) + 1

    def text(self, path: tuple[str, ...], value: str) -> Text:
        quoted = [f'"{p}"' if "." in p and self.kind != "ini" else p for p in path]
        kind: Any = self.kind
        origin = Origin(kind, self.file, self.line(path, value), ".".join(quoted), value)
        return Text((Piece(value, origin),))


def _table(content: object, place: _Place, path: tuple[str, ...]) -> Table | Text | None:
    if isinstance(content, str):
        return place.text(path, content)
    if isinstance(content, (dict, list)) and len(path) < _DEEPEST:
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        items: list[tuple[object, Values]] = []
        for key, value in pairs:
            inner = _table(value, place, (*path, str(key)))
            items.append((key, (inner,) if inner is not None else (convert(value),)))
        return Table(tuple(items), place.file, path)
    return None


def _read_ini(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(text)
    sections = {s: {k: v or "" for k, v in parser[s].items()} for s in parser.sections()}
    return {parser.default_section: dict(parser.defaults()), **sections}


def _read_yaml(text: str) -> object:
    return next(iter(yaml.safe_load_all(text)), None)


_READERS: dict[str, Callable[[str], object]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "yaml": _read_yaml,
    "ini": _read_ini,
}


def parser_table(ev: Evaluator, node: cst.CSTNode, frame: Frame) -> Table | None:
    """What a ConfigParser holds at *node*: the file that a `read` of the same name names."""
    owner = _owner_of(node)
    for call in frame.module.calls:
        func = call.func
        reads = isinstance(func, cst.Attribute) and func.attr.value in {"read", "read_file"}
        if reads and owner and _owner_of(call) == owner and call.args:
            for value in ev.evaluate(call.args[0].value, ev.frame_of(call, frame.module)):
                file = ev.environment.file_of(value) if isinstance(value, Text) else None
                file = value.file if isinstance(value, Handle) else file
                found = table(ev.tree, file, "ini") if file else None
                if found is not None:
                    return found
    return None


def _owner_of(node: cst.CSTNode) -> str:
    """`x` of `x.method(...)` and of `x["section"]`."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return dotted_name(node.func.value)
    return dotted_name(node.value) if isinstance(node, cst.Subscript) else ""


def section_of_parser(ev: Evaluator, made: Made, key: str, node: cst.CSTNode, frame: Frame) -> Values:
    """What `parser["section"]` gives."""
    if not made.name.endswith("ConfigParser"):
        return UNKNOWN
    whole = parser_table(ev, node, frame)
    return (whole.get(key) if whole is not None else None) or UNKNOWN


def dotenv_table(ev: Evaluator, path: Values | None, reader: str) -> Values:
    """What `dotenv_values(path)` gives: the file's keys alone, the environment has no say."""
    first = path[0] if path else None
    found = ev.environment.file_of(first) if isinstance(first, Text) and first.text else None
    file = found or (find_upwards(ev, ".env", reader) if path is None else None)
    if not file:
        return UNKNOWN
    keys = [k.name for k in ev.environment.keys(file) if not k.commented]
    items = tuple((k, ev.environment.choose([k], (file,), (Const(None),))) for k in dict.fromkeys(keys))
    return (Table(items, file),)


def find_upwards(ev: Evaluator, name: str, reader: str) -> str | None:
    """The file called *name* in the folder of *reader* or the nearest one above it."""
    for folder in PurePosixPath(reader).parents:
        file = (folder / name).as_posix()
        if file in ev.tree.files or file in ev.tree.overlay:
            return file
    return None
