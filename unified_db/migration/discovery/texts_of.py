"""What the methods of texts and paths give, and where a literal in the code stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery.finds import SettingKind
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    Const,
    Handle,
    Method,
    Origin,
    Overruled,
    Piece,
    Table,
    Text,
    Unknown,
    Value,
    Values,
    base_name,
    concatenate,
    join_paths,
    keep,
    known_texts,
    parent,
    plain,
    replaced,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.environment import Environment
    from unified_db.migration.discovery.modules import Module

_URL = re.compile(r"[a-zA-Z][\w+.-]*:///?")
_MOST_PARENTS = 12


def literal(module: Module, node: cst.CSTNode, text: str) -> Text:
    """The text of a literal in the code, with its place."""
    kind, key = _address(module, node)
    origin = Origin(kind, module.file, module.line(node), key, text)
    return Text((Piece(text, origin),))


def _address(module: Module, node: cst.CSTNode) -> tuple[SettingKind, str]:
    """(kind, key) of the constant or the default argument that a literal is in."""
    for above in module.above(node):
        if isinstance(above, cst.Param):
            function = next((a for a in module.above(above) if isinstance(a, cst.FunctionDef)), None)
            if function is not None:
                owner = qualified_name(module, function)
                return "python-default", f"{owner}.{above.name.value}"
        elif isinstance(above, (cst.Assign, cst.AnnAssign)):
            return _address_of_assignment(module, above)
        elif isinstance(above, cst.BaseStatement):
            break
    return "python-literal", ""


def _address_of_assignment(module: Module, node: cst.Assign | cst.AnnAssign) -> tuple[SettingKind, str]:
    target = node.targets[0].target if isinstance(node, cst.Assign) else node.target
    scope = module.scope_of(node)
    alone = not isinstance(node, cst.Assign) or len(node.targets) == 1
    if not isinstance(target, cst.Name) or not alone or isinstance(scope, (cst.FunctionDef, cst.Lambda)):
        return "python-literal", ""
    if isinstance(scope, cst.ClassDef):
        return "python-constant", f"{qualified_name(module, scope)}.{target.value}"
    return "python-constant", target.value


def qualified_name(module: Module, node: cst.ClassDef | cst.FunctionDef) -> str:
    """`Class.method` of a definition."""
    outside = [a.name.value for a in module.above(node) if isinstance(a, (cst.ClassDef, cst.FunctionDef))]
    return ".".join([*reversed(outside), node.name.value])


def as_text(value: Value) -> Text | None:
    """What `str` and f-strings make of a value; None where that cannot be told."""
    if isinstance(value, Text):
        return replace(value, is_path=False)
    if isinstance(value, Const) and value.value is not None:
        return plain(str(value.value))
    return None


def first_unknown(values: Sequence[Value]) -> Unknown:
    """An unknown value with the first reason that one of *values* gives."""
    for value in values:
        if isinstance(value, Unknown) or (isinstance(value, Const) and value.reason):
            return Unknown(value.reason)
    return Unknown()


def join_all(values: Sequence[Value]) -> Value:
    """The values one behind the other, as a text."""
    texts = [as_text(v) for v in values]
    if any(t is None for t in texts):
        return first_unknown(values)
    return concatenate([t for t in texts if t is not None])


def add(left: Value, right: Value) -> Value:
    """`left + right`."""
    if isinstance(left, Const) and isinstance(right, Const):
        numbers = (left.value, right.value)
        if all(isinstance(n, int) for n in numbers):
            return Const(sum(n for n in numbers if isinstance(n, int)))
    return join_all((left, right))


def overrule(value: Value, defaults: Values, reason: str = "") -> Value:
    """*value* with the *defaults* that would count without it."""
    if not isinstance(value, Text):
        return value
    first = next((p.origin for p in value.pieces if p.origin), None)
    told = reason or (
        f"{first.key or first.raw} in {first.file} overrules it" if first else "it is overruled"
    )
    extra = tuple(Overruled(t, told) for t in known_texts(defaults))
    return replace(value, overruled=(*value.overruled, *extra))


def mapped(text: Text, change: Callable[[Text], Values]) -> Values:
    """What *change* makes of a text, with what it makes of those that the text overrules."""
    values = change(replace(text, overruled=()))
    others = [(o, next(iter(known_texts(change(o.text))), None)) for o in text.overruled]
    extra = tuple(Overruled(t, o.reason) for o, t in others if t is not None)
    return tuple(replace(v, overruled=(*v.overruled, *extra)) if isinstance(v, Text) else v for v in values)


def attribute(text: Text, name: str) -> Values:
    """An attribute of a text, a path or a URL."""
    values = mapped(text, lambda t: _attribute(t, name))
    # A method is told of all that the text knows when it is called.
    return (Method(text, name),) if isinstance(values[0], Method) else values


def _attribute(text: Text, name: str) -> Values:
    match name:
        case "parent":
            return (parent(text),)
        case "name":
            return (base_name(text),)
        case "stem":
            name = base_name(text).text
            return (keep(base_name(text), 0, len(name.rpartition(".")[0] or name)),)
        case "parents":
            return (_parents(text),)
        case "value":
            return (text,)
        case "database":
            found = _URL.match(text.text)
            return (keep(text, found.end(), len(text.text)) if found else text,)
        case "path" if _URL.match(text.text):
            return (keep(text, text.text.index("//") + 2, len(text.text)),)
    return (Method(text, name),)


def _parents(text: Text) -> Table:
    items: list[tuple[object, Values]] = []
    here = text
    for index in range(_MOST_PARENTS):
        above = parent(here)
        if above.text == here.text:
            break
        here = above
        items.append((index, (here,)))
    return Table(tuple(items))


def percent(template: Value, filling: Value) -> Value:
    """`template % filling`."""
    if not isinstance(template, Text):
        return Unknown()
    values: list[Value] = [v[0] for _, v in filling.items] if isinstance(filling, Table) else [filling]
    return _fill(template, re.compile(r"%s"), values)


def _fill(template: Text, slots: re.Pattern[str], values: list[Value]) -> Value:
    texts = [as_text(v) for v in values]
    places = list(slots.finditer(template.text))
    if any(t is None for t in texts) or len(places) > len(texts):
        return Unknown(next((v.reason for v in values if isinstance(v, Unknown) and v.reason), ""))
    parts: list[Text] = []
    position = 0
    for place, filled in zip(places, texts, strict=False):
        parts += [keep(template, position, place.start())]
        parts += [filled] if filled is not None else []
        position = place.end()
    return concatenate([*parts, keep(template, position, len(template.text))])


def method(text: Text, name: str, arguments: Arguments, environment: Environment) -> Values:
    """What a method of a text, a path or a URL gives."""
    return mapped(text, lambda t: _method(t, name, arguments, environment))


def _method(text: Text, name: str, arguments: Arguments, environment: Environment) -> Values:
    operands = [v[0] for v in arguments.positional]
    if name == "format":
        return (_format(text, arguments),)
    if name in _SAME:
        return (text,)
    if name in {"resolve", "absolute"}:
        return (environment.absolute(text),)
    if name == "expanduser":
        return (environment.expand_user(text),)
    if name in {"open", "read_text", "read_bytes"}:
        file = environment.file_of(text)
        return (Handle(file),) if file else UNKNOWN
    if name == "set":
        return _set_url(text, arguments)
    if name == "get_backend_name":
        return (plain(re.split(r"[+:]", text.text)[0]),)
    if name in {"split", "rsplit", "partition", "rpartition"}:
        return (_split(text, name, operands),)
    texts = [t for t in map(_operand, operands) if t is not None]
    if len(texts) != len(operands):
        return UNKNOWN
    if name in _TESTS:
        return (Const(_TESTS[name](text.text, *[t.text for t in texts])),) if texts else UNKNOWN
    return _changed(text, name, texts)


def _operand(value: Value) -> Text | None:
    return value if isinstance(value, Text) else None


_SAME = {
    "as_posix",
    "__str__",
    "__fspath__",
    "render_as_string",
    "get_secret_value",
    "unicode_string",
    "encode",
    "decode",
    "strip",
}
_TESTS: dict[str, Callable[..., bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_CHANGES: dict[str, Callable[..., str]] = {
    "replace": str.replace,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "removeprefix": str.removeprefix,
    "removesuffix": str.removesuffix,
    "lower": str.lower,
    "upper": str.upper,
}


def _changed(text: Text, name: str, operands: list[Text]) -> Values:
    words = [t.text for t in operands]
    if name == "joinpath":
        for each in operands:
            text = join_paths(text, each)
        return (text,)
    if name == "with_name" and operands:
        return (join_paths(parent(text), operands[0]),)
    if name == "with_suffix" and operands:
        stem = text.text[: text.text.rfind(".")] if "." in base_name(text).text else text.text
        return (concatenate([keep(text, 0, len(stem)), operands[0]], is_path=True),)
    if name == "as_uri":
        return (concatenate([plain("file://"), text]),)
    if name == "join":
        return UNKNOWN
    if name in _CHANGES and not (name == "replace" and len(words) < 2):
        shown = _CHANGES[name](text.text, *words)
        return (replaced(text, shown),)
    return UNKNOWN


def _format(text: Text, arguments: Arguments) -> Value:
    named = {name: values[0] for name, values in arguments.named}
    places = re.findall(r"\{(\w*)\}", text.text)
    positional = iter([v[0] for v in arguments.positional])
    ordered = [v[0] for v in arguments.positional]
    values: list[Value] = []
    for place in places:
        if place.isdigit():
            values.append(ordered[int(place)] if int(place) < len(ordered) else Unknown())
        else:
            values.append(named.get(place, Unknown()) if place else next(positional, Unknown()))
    return _fill(text, re.compile(r"\{\w*\}"), values)


def _split(text: Text, name: str, operands: list[Value]) -> Value:
    separator = operands[0].text if operands and isinstance(operands[0], Text) else ""
    if not separator:
        return Unknown()
    most = operands[1].value if len(operands) > 1 and isinstance(operands[1], Const) else -1
    limit = most if isinstance(most, int) else -1
    if name in {"split", "rsplit"}:
        words = text.text.split(separator, limit) if name == "split" else text.text.rsplit(separator, limit)
    else:
        words = list(
            text.text.partition(separator) if name == "partition" else text.text.rpartition(separator)
        )
    items: list[tuple[object, Values]] = []
    position = 0
    for index, word in enumerate(words):
        start = text.text.index(word, position)
        items.append((index, (keep(text, start, start + len(word)),)))
        position = start + len(word)
    return Table(tuple(items))


def _set_url(text: Text, arguments: Arguments) -> Values:
    found = _URL.match(text.text)
    database, driver = arguments.get(None, "database"), arguments.get(None, "drivername")
    if found is None:
        return UNKNOWN
    head, tail = keep(text, 0, found.end()), keep(text, found.end(), len(text.text))
    if driver and isinstance(driver[0], Text):
        head = concatenate([driver[0], plain("://" + "/" * (found[0].count("/") > 2))])
    if database:
        if not isinstance(database[0], Text):
            return database
        tail = database[0]
        if not head.text.endswith(":///"):
            head = concatenate([head, plain("/")])
    whole = concatenate([head, tail])
    return (replace(whole, steps=tuple(dict.fromkeys((*text.steps, *whole.steps)))),)
