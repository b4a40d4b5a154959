"""Calls of the application's own functions: what they give back, and what their parameters may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery import known, objects, scopes
from unified_db.migration.discovery.modules import RETURN, Module, dotted_name
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    ClassRef,
    External,
    FunctionRef,
    Instance,
    Made,
    Method,
    Parsed,
    Table,
    Text,
    Unknown,
    Value,
    Values,
    few,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator, Frame

_MOST_CALLERS = 8


def call(ev: Evaluator, node: cst.Call, frame: Frame) -> Values:
    """The values that a call may give."""
    callees = ev.evaluate(node.func, frame)
    arguments = collect(ev, node, frame)
    return ev.each(callees, lambda callee: apply(ev, callee, arguments, (node, frame)))


def apply(ev: Evaluator, callee: Value, arguments: Arguments, site: tuple[cst.Call, Frame] | None) -> Values:
    """What *callee* gives when it is called; *site* is the call where there is one."""
    if isinstance(callee, FunctionRef):
        return invoke(ev, callee, arguments)
    if isinstance(callee, ClassRef):
        return objects.construct(ev, callee, arguments, site[0] if site else None)
    if isinstance(callee, External) and site:
        return known.function(ev, callee.name, arguments, site)
    if isinstance(callee, Method) and site:
        return known.method(ev, callee, arguments, site)
    if isinstance(callee, Made) and site:
        return known.called_again(ev, callee, arguments, site)
    return (callee,) if isinstance(callee, Unknown) else UNKNOWN


def collect(ev: Evaluator, node: cst.Call, frame: Frame) -> Arguments:
    """What a call passes; `**table` is spread out where the table is known."""
    positional: list[Values] = []
    named: list[tuple[str, Values]] = []
    star = False
    for each in node.args:
        values = ev.evaluate(each.value, frame)
        if each.star:
            inner = values[0]
            star = star or not isinstance(inner, Table)
            items = inner.items if isinstance(inner, Table) else ()
            named += [(str(k), v) for k, v in items if each.star == "**"]
            positional += [v for _, v in items if each.star == "*"]
        elif each.keyword is not None:
            named.append((each.keyword.value, values))
        else:
            positional.append(values)
    return Arguments(tuple(positional), tuple(named), star)


def invoke(ev: Evaluator, function: FunctionRef, arguments: Arguments) -> Values:
    """What a function of the application returns, or yields."""
    node = function.node
    frame = ev.inside(function, bind(ev, function, arguments))
    if isinstance(node, cst.Lambda):
        return ev.evaluate(node.body, frame)
    found: list[Value] = []
    for each in function.module.bindings(node).get(RETURN, ()):
        holds = scopes.holds(ev, each.guards, frame)
        if holds is not False:
            found += ev.evaluate(each.node, frame)
        if holds:
            break
    return few(v.through(f"{node.name.value}()") if isinstance(v, Text) else v for v in found)


def bind(ev: Evaluator, function: FunctionRef, arguments: Arguments) -> list[tuple[str, Values]]:
    """The parameters of *function* with what a call gives them, or their defaults."""
    params = _positional(function)
    names = [p.name.value for p in params]
    given = dict(zip(names, arguments.positional, strict=False)) | dict(arguments.named)
    outside = ev.frame_of(function.node, function.module)
    bound: list[tuple[str, Values]] = []
    for each in (*params, *function.node.params.kwonly_params):
        name = each.name.value
        if name in given:
            bound.append((name, given[name]))
        elif each.default is not None:
            bound.append((name, ev.evaluate(each.default, outside)))
        elif not arguments.star:
            bound.append((name, UNKNOWN))
    return bound


def _positional(function: FunctionRef) -> list[cst.Param]:
    params = [*function.node.params.posonly_params, *function.node.params.params]
    bound = function.owner is not None and not _has_decorator(function.node, "staticmethod")
    return params[1:] if bound else params


def _has_decorator(node: cst.CSTNode, *names: str) -> bool:
    decorators = node.decorators if isinstance(node, (cst.FunctionDef, cst.ClassDef)) else ()
    return any(_last_name(d.decorator) in names for d in decorators)


def _last_name(node: cst.CSTNode) -> str:
    node = node.func if isinstance(node, cst.Call) else node
    return dotted_name(node).rpartition(".")[2]


def parameter(ev: Evaluator, name: str, frame: Frame) -> Values | None:
    """What the parameter *name* of a function may be: as bound, as its callers say, or its default."""
    for bound, values in frame.bound:
        if bound == name:
            return values
    function = frame.scope
    assert isinstance(function, (cst.FunctionDef, cst.Lambda))
    params = function.params
    every = [*params.posonly_params, *params.params, *params.kwonly_params]
    param = next((p for p in every if p.name.value == name), None)
    if param is None:
        return None
    if param is every[0] and frame.owner is not None and not _has_decorator(function, "staticmethod"):
        return (frame.owner,)
    if isinstance(function, cst.Lambda):
        return UNKNOWN
    return _from_outside(ev, function, param, frame)


def _from_outside(ev: Evaluator, function: cst.FunctionDef, param: cst.Param, frame: Frame) -> Values:
    name = param.name.value
    reference = FunctionRef(frame.module, function, frame.owner)
    default = _default(ev, function, param, frame)
    places = [p.name.value for p in _positional(reference)]
    index = places.index(name) if name in places else None
    found: list[Value] = []
    for arguments in ev.callers(reference):
        given = arguments.get(index, name)
        if given is None and arguments.star:
            given = UNKNOWN
        found += given if given is not None else (default or ())
    if not found:
        found += default or _by_annotation(ev, param, frame)
    reason = f"nothing says what `{name}` of {function.name.value}() in {frame.module.file} is"
    return few(found) if found else (Unknown(reason),)


def _default(ev: Evaluator, function: cst.FunctionDef, param: cst.Param, frame: Frame) -> Values | None:
    flagged = _option(ev, function, param.name.value, frame)
    if flagged is not None:
        return flagged
    if param.default is None:
        return None
    return ev.evaluate(param.default, ev.frame_of(function, frame.module))


def _by_annotation(ev: Evaluator, param: cst.Param, frame: Frame) -> Values:
    """An object of the class that the parameter is said to be, where that is one of the tree."""
    if param.annotation is None:
        return ()
    node = param.annotation.annotation
    outside = ev.frame_of(frame.scope, frame.module)
    if isinstance(node, cst.Subscript):
        for element in node.slice:
            inner = element.slice.value if isinstance(element.slice, cst.Index) else None
            if isinstance(inner, cst.Call):
                return ev.evaluate(inner, outside)
        return ()
    values = ev.evaluate(node, outside)
    return tuple(Instance(v) for v in values if isinstance(v, ClassRef))


def callers(ev: Evaluator, function: FunctionRef) -> list[Arguments]:
    """What each call of *function* in the application passes; of its tests none counts."""
    assert isinstance(function.node, cst.FunctionDef)
    name = function.node.name.value
    if name == "__init__" and isinstance(function.owner, Instance):
        name = function.owner.cls.node.name.value
    return _passed(ev, name, function.node)


def constructions(ev: Evaluator, cls: ClassRef) -> list[Arguments]:
    """What each call of a class in the application passes."""
    return _passed(ev, cls.node.name.value, cls.node)


def _passed(ev: Evaluator, name: str, wanted: cst.CSTNode) -> list[Arguments]:
    found: list[Arguments] = []
    for file in ev.tree.calling(name):
        module = ev.tree.module(file)
        for node in _calls_named(module, name) if module is not None else ():
            assert module is not None
            frame = ev.frame_of(node, module)
            if any(_leads_to(ev, v, wanted) for v in ev.evaluate(node.func, frame)):
                found.append(collect(ev, node, frame))
                if len(found) >= _MOST_CALLERS:
                    return found
    return found


def _calls_named(module: Module, name: str) -> Iterator[cst.Call]:
    for node in module.calls:
        func = node.func
        last = func.attr.value if isinstance(func, cst.Attribute) else dotted_name(func)
        if last == name:
            yield node


def _leads_to(ev: Evaluator, callee: Value, node: cst.CSTNode) -> bool:
    if isinstance(callee, FunctionRef):
        return callee.node is node
    if isinstance(callee, ClassRef):
        return callee.node is node or objects.initialiser(ev, callee) is node
    return False


def parsed_argument(ev: Evaluator, owner: Parsed, name: str) -> Values:
    """What `parse_args()` gives for an argument: its default, told as one."""
    for node in _calls_named(owner.module, "add_argument"):
        frame = ev.frame_of(node, owner.module)
        arguments = collect(ev, node, frame)
        flags = [v[0].text for v in arguments.positional if isinstance(v[0], Text)]
        dest = arguments.get(None, "dest")
        names = {dest[0].text} if dest and isinstance(dest[0], Text) else set(map(_as_name, flags))
        if name in names:
            default = arguments.get(None, "default")
            return _as_option(default, flags[-1] if flags else name, owner.module.file)
    return UNKNOWN


def _option(ev: Evaluator, function: cst.FunctionDef, name: str, frame: Frame) -> Values | None:
    """The default of a parameter that a decorator (`@click.option`) fills from the command line."""
    for each in function.decorators:
        node = each.decorator
        if isinstance(node, cst.Call) and _last_name(node) in {"option", "argument"}:
            arguments = collect(ev, node, ev.frame_of(function, frame.module))
            flags = [v[0].text for v in arguments.positional if isinstance(v[0], Text)]
            if name in map(_as_name, flags):
                default = arguments.get(None, "default")
                return _as_option(default, flags[0], frame.module.file)
    return None


def _as_name(flag: str) -> str:
    return flag.split("/", maxsplit=1)[0].lstrip("-").replace("-", "_")


def _as_option(default: Values | None, flag: str, file: str) -> Values:
    question = f"{file} takes {flag} from the command line: does the command that starts it give one?"
    if default is None:
        return (Unknown(f"{flag} of {file} is given on the command line"),)
    return doubted(default, question, flag)


def doubted(values: Values, question: str, key: str = "") -> Values:
    """The same values, each place of theirs with a question; a *key* makes it a command-line option."""
    return few(_doubt(v, question, key) if isinstance(v, Text) else v for v in values)


def _doubt(text: Text, question: str, key: str) -> Text:
    pieces = []
    for piece in text.pieces:
        origin = piece.origin
        if origin is not None:
            known_kind = origin.kind in {"python-literal", "python-default"}
            origin = replace(origin, doubt=question)
            if key and known_kind:
                origin = replace(origin, kind="command-line", key=key)
        pieces.append(replace(piece, origin=origin))
    return replace(text, pieces=tuple(pieces))


def decorated_with(node: cst.CSTNode, names: Sequence[str]) -> bool:
    """True where a decorator of *node* ends in one of *names*."""
    return _has_decorator(node, *names)
