"""Objects of the application's classes: settings that read the environment, models, plain ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery import calling, libraries, scopes
from unified_db.migration.discovery.environment import REAL
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    ClassRef,
    Const,
    External,
    FieldSources,
    FunctionRef,
    Instance,
    Made,
    Opened,
    Overruled,
    Piece,
    Table,
    Text,
    Unknown,
    Value,
    Values,
    few,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator

_MOST_BASES = 12
_SETTINGS = ("pydantic_settings.BaseSettings", "pydantic.BaseSettings", "pydantic.v1.BaseSettings")
_MODELS = ("pydantic.BaseModel", "sqlmodel.SQLModel", "typing.NamedTuple", "msgspec.Struct")
_DATACLASS = ("dataclass", "define", "frozen", "s", "attrs")


def bases(ev: Evaluator, cls: ClassRef) -> list[ClassRef | External]:
    """*cls* and what it inherits from, nearest first."""
    found: list[ClassRef | External] = [cls]
    for each in found:
        if isinstance(each, ClassRef):
            for argument in each.node.bases:
                frame = ev.frame_of(each.node, each.module)
                values = ev.evaluate(argument.value, frame)
                found += [v for v in values if isinstance(v, (ClassRef, External)) and v not in found]
        if len(found) > _MOST_BASES:
            break
    return found


def is_settings(ev: Evaluator, cls: ClassRef) -> bool:
    """True for classes whose fields are read from the environment."""
    return any(isinstance(b, External) and b.name in _SETTINGS for b in bases(ev, cls))


def _is_model(ev: Evaluator, cls: ClassRef) -> bool:
    known = any(isinstance(b, External) and b.name in _MODELS + _SETTINGS for b in bases(ev, cls))
    return known or calling.decorated_with(cls.node, _DATACLASS)


def construct(ev: Evaluator, cls: ClassRef, arguments: Arguments, node: cst.Call | None) -> Values:
    """What calling a class gives: an object; a saver's own class gives the saver."""
    for base in bases(ev, cls):
        if isinstance(base, External) and node is not None and base.name in libraries.OPENERS:
            path = arguments.get(0, "conn", "conn_string") or UNKNOWN
            return (Opened(base.name, path, node),)
    return (Instance(cls, arguments, _sources(ev, cls, arguments)),)


def initialiser(ev: Evaluator, cls: ClassRef) -> cst.FunctionDef | None:
    """The `__init__` that making an object of *cls* runs."""
    for base in bases(ev, cls):
        if isinstance(base, ClassRef):
            for each in base.module.bindings(base.node).get("__init__", ()):
                if isinstance(each.node, cst.FunctionDef):
                    return each.node
    return None


def attribute(ev: Evaluator, owner: Instance | ClassRef, name: str) -> Values:
    """The values of an attribute of an object or a class."""
    cls = owner.cls if isinstance(owner, Instance) else owner
    own = [b for b in bases(ev, cls) if isinstance(b, ClassRef)]
    if isinstance(owner, Instance):
        for base in own:
            found = _assigned_in_methods(ev, owner, base, name)
            if found is not None:
                return found
        if _is_model(ev, cls):
            for base in own:
                if name in fields(base):
                    return _field(ev, owner, base, name)
    for base in own:
        bindings = base.module.bindings(base.node).get(name)
        if bindings:
            return _member(ev, owner, base, name)
    for outside in bases(ev, cls):
        if isinstance(outside, External):
            return (External(f"{outside.name}.{name}"),)
    return UNKNOWN


def _member(ev: Evaluator, owner: Instance | ClassRef, base: ClassRef, name: str) -> Values:
    bindings = base.module.bindings(base.node)[name]
    node = bindings[-1].node
    if isinstance(node, cst.FunctionDef):
        method = FunctionRef(base.module, node, owner)
        is_property = calling.decorated_with(node, ("property", "cached_property", "computed_field"))
        if is_property and isinstance(owner, Instance):
            return calling.invoke(ev, method, Arguments())
        return (method,)
    frame = ev.frame_of(base.node.body, base.module)
    return scopes.bound(ev, bindings, frame) or UNKNOWN


def _assigned_in_methods(ev: Evaluator, owner: Instance, base: ClassRef, name: str) -> Values | None:
    """What methods assign to `self.name`, the initialiser's first."""
    methods = [b.node for each in base.module.bindings(base.node).values() for b in each]
    functions = [m for m in methods if isinstance(m, cst.FunctionDef)]
    for method in sorted(functions, key=lambda m: m.name.value not in {"__init__", "__post_init__"}):
        params = method.params.params
        bindings = base.module.bindings(method).get(f"{params[0].name.value}.{name}") if params else None
        if not bindings:
            continue
        reference = FunctionRef(base.module, method, owner)
        arguments = owner.arguments if method.name.value == "__init__" else None
        bound = calling.bind(ev, reference, arguments) if arguments is not None else ()
        values = scopes.bound(ev, bindings, ev.inside(reference, bound))
        if values and any(not isinstance(v, Const) for v in values):
            return values
    return None


def fields(cls: ClassRef) -> dict[str, cst.AnnAssign]:
    """The annotated fields of a class itself, those without a value too."""
    found: dict[str, cst.AnnAssign] = {}
    for line in cls.node.body.body:
        for each in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(each, cst.AnnAssign) and isinstance(each.target, cst.Name):
                found[each.target.value] = each
    return found


def _field(ev: Evaluator, owner: Instance, base: ClassRef, name: str) -> Values:
    """A field of a model: as passed, as the environment has it, or its default."""
    arguments = owner.arguments
    if arguments is None:
        made = ev.constructions(owner.cls)
        if made and not is_settings(ev, owner.cls):
            each = [replace(owner, arguments=a) for a in made]
            return few(v for one in each for v in _field(ev, one, base, name))
        arguments = Arguments()
    order = [n for b in reversed(bases(ev, owner.cls)) if isinstance(b, ClassRef) for n in fields(b)]
    given = arguments.get(order.index(name), name)
    if given is not None:
        return given
    node = fields(base)[name]
    frame = ev.frame_of(base.node.body, base.module)
    default = ev.evaluate(node.value, frame) if node.value is not None else None
    sources = owner.sources or _sources(ev, owner.cls, arguments)
    if sources is None:
        return default or (Unknown(f"{base.node.name.value}.{name} has no default"),)
    return _from_environment(ev, base, node, default, sources)


def _from_environment(
    ev: Evaluator, base: ClassRef, node: cst.AnnAssign, default: Values | None, sources: FieldSources
) -> Values:
    assert isinstance(node.target, cst.Name)
    name = node.target.value
    names = _aliases(ev, base, node) or [sources.prefix + name]
    nested = _nested(ev, base, node, default)
    if nested is not None:
        if is_settings(ev, nested.cls):
            return (nested,)
        prefix = f"{names[0]}{sources.delimiter}"
        inner = replace(sources, prefix=prefix) if sources.delimiter else None
        return (replace(nested, sources=inner),)
    told = _as_fields(default) if default is not None and not _is_missing(default) else None
    values = ev.environment.choose(names, sources.files, told, ignore_case=sources.ignore_case)
    step = f"{base.node.name.value}.{name}"
    return few(v.through(step) if isinstance(v, Text) else v for v in values)


def variables(ev: Evaluator, cls: ClassRef, name: str) -> list[str]:
    """The environment variables that the field *name* of a settings class may be set by."""
    sources = _sources(ev, cls, Arguments())
    node = fields(cls)[name]
    return _aliases(ev, cls, node) or [(sources.prefix if sources else "") + name]


def _is_missing(default: Values) -> bool:
    return all(isinstance(v, Unknown) and not v.reason for v in default)


def _as_fields(values: Values) -> Values:
    """The default of a settings field, its place told as one."""
    return few(_as_field(v) if isinstance(v, Text) else v for v in values)


def _as_field(text: Text) -> Text:
    pieces = tuple(
        replace(p, origin=replace(p.origin, kind="settings-field"))
        if isinstance(p, Piece) and p.origin and p.origin.kind == "python-constant" and "." in p.origin.key
        else p
        for p in text.pieces
    )
    overruled = tuple(Overruled(_as_field(o.text), o.reason) for o in text.overruled)
    return replace(text, pieces=pieces, overruled=overruled)


def _nested(ev: Evaluator, base: ClassRef, node: cst.AnnAssign, default: Values | None) -> Instance | None:
    """The object of a field that is itself a model."""
    for value in default or ():
        if isinstance(value, Instance):
            return value
    frame = ev.frame_of(base.node.body, base.module)
    for value in ev.evaluate(node.annotation.annotation, frame):
        if isinstance(value, ClassRef) and _is_model(ev, value):
            return Instance(value, Arguments())
    return None


def _aliases(ev: Evaluator, base: ClassRef, node: cst.AnnAssign) -> list[str]:
    """The variables that a field names itself: `alias`, `validation_alias`, `env`."""
    if not isinstance(node.value, cst.Call):
        return []
    arguments = calling.collect(ev, node.value, ev.frame_of(base.node.body, base.module))
    for keyword in ("validation_alias", "alias", "env"):
        values = arguments.get(None, keyword)
        names = list(_names(values[0])) if values else []
        if names:
            return names
    return []


def _names(value: Value) -> Iterator[str]:
    if isinstance(value, Text):
        yield value.text
    elif isinstance(value, Made):
        yield from (t.text for v in value.arguments.positional for t in v if isinstance(t, Text))
    elif isinstance(value, Table):
        yield from (t.text for _, v in value.items for t in v if isinstance(t, Text))


def _sources(ev: Evaluator, cls: ClassRef, arguments: Arguments) -> FieldSources | None:
    """Where the fields of a settings class are looked for; None for other classes."""
    if not is_settings(ev, cls):
        return None
    loads = ev.environment.loaded_for(cls.module.file)
    own = arguments.get(None, "_env_file") or _setting(ev, cls, "env_file")
    files = [f for value in own or () for f in _env_files(ev, value)]
    first = [x.file for x in reversed(loads) if x.override]
    order = (*first, REAL, *(x.file for x in loads), *reversed(files))
    sensitive = _setting(ev, cls, "case_sensitive")
    return FieldSources(
        tuple(dict.fromkeys(order)),
        _word(_setting(ev, cls, "env_prefix")),
        _word(_setting(ev, cls, "env_nested_delimiter")),
        not (sensitive and isinstance(sensitive[0], Const) and sensitive[0].value is True),
    )


def _env_files(ev: Evaluator, value: Value) -> list[str]:
    if isinstance(value, Table):
        return [f for _, values in value.items for v in values for f in _env_files(ev, v)]
    file = ev.environment.file_of(value) if isinstance(value, Text) else None
    return [file] if file else []


def _word(values: Values | None) -> str:
    return values[0].text if values and isinstance(values[0], Text) else ""


def _setting(ev: Evaluator, cls: ClassRef, key: str) -> Values | None:
    """A key of `model_config` or of the inner class `Config`, the nearest class's first."""
    for base in bases(ev, cls):
        if not isinstance(base, ClassRef):
            continue
        scope = base.module.bindings(base.node)
        frame = ev.frame_of(base.node.body, base.module)
        for name in ("model_config", "Config"):
            for value in (scopes.bound(ev, scope[name], frame) or ()) if name in scope else ():
                found = _key_of(ev, value, key)
                if found is not None:
                    return found
        for argument in base.node.keywords:
            if argument.keyword is not None and argument.keyword.value == key:
                return ev.evaluate(argument.value, frame)
    return None


def _key_of(ev: Evaluator, value: Value, key: str) -> Values | None:
    if isinstance(value, Made):
        return value.arguments.get(None, key)
    if isinstance(value, Table):
        return value.get(key)
    if isinstance(value, ClassRef):
        found = attribute(ev, value, key)
        return found if found != UNKNOWN else None
    return None
