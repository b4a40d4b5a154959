"""What a name of a module means: imports followed through the tree, and whether a condition holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unified_db.migration.discovery import scopes
from unified_db.migration.discovery.modules import Module, dotted_name
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Const,
    External,
    ModuleRef,
    Table,
    Text,
    Unknown,
    Value,
    Values,
)

if TYPE_CHECKING:
    from unified_db.migration.discovery.evaluation import Evaluator, Frame


def imported(ev: Evaluator, node: cst.Import | cst.ImportFrom, name: str, module: Module) -> Values:
    """The value that the import gives to *name*."""
    if isinstance(node, cst.ImportFrom):
        source = source_of(ev, node, module)
        for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():
            if name == (alias.evaluated_alias or alias.evaluated_name):
                return ev.attribute(source, alias.evaluated_name)
        return UNKNOWN
    for alias in node.names:
        dotted = alias.evaluated_name
        if alias.evaluated_alias == name:
            return (_find(ev, dotted, module),)
        if alias.asname is None and dotted.partition(".")[0] == name:
            return (_find(ev, name, module),)
    return UNKNOWN


def source_of(ev: Evaluator, node: cst.ImportFrom, module: Module) -> Value:
    """The module that `from ... import` speaks of."""
    dotted = dotted_name(node.module) if node.module is not None else ""
    return _find(ev, dotted, module, len(node.relative))


def _find(ev: Evaluator, dotted: str, module: Module, level: int = 0) -> Value:
    found = ev.tree.find_module(dotted, module.file, level)
    if found is not None:
        return ModuleRef(*found)
    return External(dotted) if not level else Unknown()


def of_module(ev: Evaluator, owner: ModuleRef, name: str) -> Values:
    """The values of a module's attribute: a name that it binds, or a module below it."""
    file = ev.tree.module_file(owner.base, owner.dotted)
    module = ev.tree.module(file) if file else None
    if module is not None:
        scope = module.bindings(module.root)
        if name in scope or "*" in scope or name == "__file__":
            values = _once(ev, module, name)
            if values != UNKNOWN or name in scope:
                return values
    below = f"{owner.dotted}.{name}" if owner.dotted else name
    return (ModuleRef(owner.base, below),) if ev.tree.module_file(owner.base, below) is not None else UNKNOWN


def _once(ev: Evaluator, module: Module, name: str) -> Values:
    """A name of a module, unless it is being looked up already: modules may import from each other."""
    key = (module.file, name)
    if key in ev.importing:
        return UNKNOWN
    ev.importing.add(key)
    try:
        return scopes.lookup(ev, name, ev.frame_of(module.root, module))
    finally:
        ev.importing.discard(key)


def truth(ev: Evaluator, test: cst.CSTNode, frame: Frame) -> bool | None:
    """Whether *test* holds; None where that cannot be told."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        inner = truth(ev, test.expression, frame)
        return None if inner is None else not inner
    if isinstance(test, cst.BooleanOperation):
        return _junction(test, truth(ev, test.left, frame), lambda: truth(ev, test.right, frame))
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        return _compare(ev, test, frame)
    if isinstance(test, (cst.Comparison, cst.UnaryOperation)):
        return None
    truths = {truth_of(v) for v in ev.evaluate(test, frame)}
    return truths.pop() if len(truths) == 1 else None


def _junction(test: cst.BooleanOperation, left: bool | None, right_of: object) -> bool | None:
    assert callable(right_of)
    deciding = isinstance(test.operator, cst.Or)
    if left is deciding:
        return deciding
    right: bool | None = right_of()
    if right is deciding:
        return deciding
    return None if left is None or right is None else right


def truth_of(value: Value) -> bool | None:
    """Whether a value counts as true; None where that cannot be told."""
    if isinstance(value, Text):
        return bool(value.text) or value.is_path
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Table):
        return bool(value.items)
    return None


def _compare(ev: Evaluator, test: cst.Comparison, frame: Frame) -> bool | None:
    operator = test.comparisons[0].operator
    left = ev.evaluate(test.left, frame)
    right = ev.evaluate(test.comparisons[0].comparator, frame)
    outcomes = {_holds(operator, a, b) for a in left for b in right}
    return outcomes.pop() if len(outcomes) == 1 else None


def _holds(operator: cst.BaseCompOp, left: Value, right: Value) -> bool | None:
    if isinstance(operator, (cst.Is, cst.IsNot)):
        if not isinstance(right, Const) or not isinstance(left, (Const, Text, Table)):
            return None
        same = isinstance(left, Const) and left.value is right.value
        return same == isinstance(operator, cst.Is)
    if isinstance(operator, (cst.Equal, cst.NotEqual)):
        sides = [_comparable(v) for v in (left, right)]
        if () in sides:
            return None
        return (sides[0] == sides[1]) == isinstance(operator, cst.Equal)
    if isinstance(operator, (cst.In, cst.NotIn)):
        return _contains(left, right, wanted=isinstance(operator, cst.In))
    return None


def _comparable(value: Value) -> tuple[object, ...]:
    if isinstance(value, Text):
        return (value.text,)
    return (value.value,) if isinstance(value, Const) else ()


def _contains(inner: Value, outer: Value, *, wanted: bool) -> bool | None:
    key = _comparable(inner)
    if not key:
        return None
    if isinstance(outer, Text) and isinstance(inner, Text):
        return (inner.text in outer.text) == wanted
    if isinstance(outer, Table):
        inside = [_comparable(v) for _, values in outer.items for v in values]
        return None if () in inside else (key in inside) == wanted
    return None
