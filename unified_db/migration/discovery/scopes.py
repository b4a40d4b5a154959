"""What a name means where it stands: parameters, assignments under their conditions, loops, imports."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery import calling, naming, texts_of
from unified_db.migration.discovery.modules import Binding, Guard, Module
from unified_db.migration.discovery.values import (
    UNKNOWN,
    ClassRef,
    Const,
    External,
    FunctionRef,
    ModuleRef,
    Text,
    Value,
    Values,
    few,
    plain,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator, Frame


def looped(ev: Evaluator, node: cst.Name, frame: Frame) -> Values | None:
    """What a comprehension's variable runs through."""
    for above in frame.module.above(node):
        if isinstance(above, cst.BaseComp):
            loop = above.for_in
            if isinstance(loop.target, cst.Name) and loop.target.value == node.value:
                return ev.elements(ev.evaluate(loop.iter, frame))
        elif isinstance(above, (cst.BaseStatement, cst.BaseSmallStatement, cst.Lambda)):
            break
    return None


def lookup(ev: Evaluator, name: str, frame: Frame, at: cst.CSTNode | None = None) -> Values:
    """The values of *name* as *frame* sees it; assignments behind the node *at* do not count."""
    if name == "__file__":
        return (plain(str(frame.module.path), "file"),)
    here: Frame | None = frame
    before = frame.module.order(at) if at is not None else None
    while here is not None:
        if here is frame or not isinstance(here.scope, cst.ClassDef):
            found = _in_scope(ev, name, here, before if here is frame else None)
            if found is not None:
                return found
        here = here.outer
    if hasattr(builtins, name):
        return (External(f"builtins.{name}"),)
    return UNKNOWN


def _in_scope(ev: Evaluator, name: str, frame: Frame, before: int | None) -> Values | None:
    bindings = frame.module.bindings(frame.scope)
    if name in bindings:
        found = bound(ev, bindings[name], frame, before)
        if found is not None and isinstance(frame.scope, cst.Module) and _is_none(found):
            found = elsewhere(ev, name, frame.module) or found
        if found is not None:
            return found
    if isinstance(frame.scope, (cst.FunctionDef, cst.Lambda)):
        return calling.parameter(ev, name, frame)
    for star in bindings.get("*", ()):
        found = _star(ev, star, name, frame)
        if found is not None:
            return found
    return None


def bound(
    ev: Evaluator, bindings: Sequence[Binding], frame: Frame, before: int | None = None
) -> Values | None:
    """What the last of *bindings* gives, with what earlier ones may give where that is not certain."""
    certain: list[Value] = []
    possible: list[Value] = []
    usable = [b for b in bindings if before is None or b.order < before]
    for index in reversed(range(len(usable))):
        binding = usable[index]
        certainly = holds(ev, binding.guards, frame)
        if certainly is False:
            continue
        if binding.kind == "add":
            so_far = bound(ev, usable[:index], frame) or UNKNOWN
            values = ev.combine(texts_of.add, so_far, ev.evaluate(binding.node, frame))
        else:
            values = _of_binding(ev, binding, frame)
        (certain if certainly else possible).extend(values)
        if certainly or binding.kind == "add":
            break
    if not certain and not possible:
        return None
    found = few((*certain, *possible))
    told = tuple(v for v in found if not (isinstance(v, Const) and v.value is None))
    return told or found


def holds(ev: Evaluator, guards: tuple[Guard, ...], frame: Frame) -> bool | None:
    """Whether all *guards* hold; None where that cannot be told."""
    outcome: bool | None = True
    for guard in guards:
        truth = naming.truth(ev, guard.test, frame) if guard.test is not None else None
        if truth is None:
            outcome = None
        elif truth != guard.wanted:
            return False
    return outcome


def _of_binding(ev: Evaluator, binding: Binding, frame: Frame) -> Values:
    node = binding.node
    if isinstance(node, cst.FunctionDef):
        return (FunctionRef(frame.module, node, bound=frame.bound),)
    if isinstance(node, cst.ClassDef):
        return (ClassRef(frame.module, node),)
    if isinstance(node, (cst.Import, cst.ImportFrom)):
        return naming.imported(ev, node, binding.name, frame.module)
    values = ev.evaluate(node, frame)
    if binding.kind == "each":
        return ev.elements(values)
    if binding.kind == "unpacked":
        index = binding.index
        return ev.each(values, lambda v: ev.item(v, index))
    if isinstance(frame.scope, (cst.FunctionDef, cst.Lambda)):
        return values  # a local name tells nobody anything
    return few(v.through(binding.name) if isinstance(v, Text) else v for v in values)


def _is_none(values: Values) -> bool:
    return all(isinstance(v, Const) and v.value is None for v in values)


def elsewhere(ev: Evaluator, name: str, module: Module) -> Values | None:
    """What functions of the module give to a global name, or to an attribute of another object."""
    found: list[Value] = []
    for scope, binding in module.elsewhere.get(name, ()):
        found += bound(ev, [binding], ev.frame_of(scope.body, module)) or ()
    return few(found) if found else None


def _star(ev: Evaluator, star: Binding, name: str, frame: Frame) -> Values | None:
    assert isinstance(star.node, cst.ImportFrom)
    source = naming.source_of(ev, star.node, frame.module)
    if isinstance(source, ModuleRef):
        values = ev.attribute(source, name)
        return values if values != UNKNOWN else None
    return None
