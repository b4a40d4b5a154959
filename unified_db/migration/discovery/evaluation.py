"""What an expression of the application is worth, told from its text alone; nothing is run.

Evaluation is bounded: what leads back to itself, or too deep, is unknown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from unified_db.migration.discovery import calling, documents, naming, objects, scopes, texts_of
from unified_db.migration.discovery.environment import Environment
from unified_db.migration.discovery.modules import (
    Module,
    Scope,
    dotted_name,
    subscript_key,
)
from unified_db.migration.discovery.tree import Tree
from unified_db.migration.discovery.values import (
    UNKNOWN,
    Arguments,
    ClassRef,
    Const,
    External,
    FunctionRef,
    Instance,
    Made,
    Method,
    ModuleRef,
    Opened,
    Parsed,
    Table,
    Text,
    Unknown,
    Value,
    Values,
    few,
    join_paths,
    keep,
    plain,
)

_DEEPEST = 60
_MOST_STEPS = 200_000
_MOST_COMBINATIONS = 36


@dataclass(frozen=True)
class Frame:
    """Where an expression stands, and what its function was called with.

    Attributes:
        bound: Values of parameters; those that are not here are looked for at the callers.
        owner: What the function is a method of.
    """

    module: Module
    scope: Scope
    bound: tuple[tuple[str, Values], ...] = ()
    owner: Instance | ClassRef | None = None
    outer: Frame | None = None


class Evaluator:
    """Evaluates the expressions of one tree, for one working folder."""

    def __init__(self, tree: Tree, environment: Environment) -> None:
        self.tree = tree
        self.environment: Environment = environment
        self._memory: dict[tuple[cst.CSTNode, Frame], Values] = {}
        self._active: set[tuple[cst.CSTNode, Frame]] = set()
        self._cuts = 0
        self._steps = 0
        self.importing: set[tuple[str, str]] = set()
        self._callers: dict[cst.CSTNode, list[Arguments]] = {}

    def evaluate(self, node: cst.CSTNode, frame: Frame) -> Values:
        """The values that *node* may have, likeliest first."""
        key = (node, frame)
        if key in self._memory:
            return self._memory[key]
        self._steps += 1
        if key in self._active or len(self._active) > _DEEPEST or self._steps > _MOST_STEPS:
            self._cuts += 1
            return UNKNOWN
        cuts = self._cuts
        self._active.add(key)
        try:
            values = self._evaluate(node, frame)
        finally:
            self._active.discard(key)
        # What was cut short is not the value that another question would get.
        if cuts == self._cuts:
            self._memory[key] = values
        return values

    def ask(self, node: cst.CSTNode, module: Module) -> Values:
        """The values of *node*, wherever it stands in *module*."""
        self._steps = 0
        try:
            return self.evaluate(node, self.frame_of(node, module))
        except RecursionError:
            return UNKNOWN

    def frame_of(self, node: cst.CSTNode, module: Module) -> Frame:
        """The frame that *node* stands in, called with nobody knows what."""
        return self._frame(module, module.scope_of(node))

    def _frame(self, module: Module, scope: Scope) -> Frame:
        if isinstance(scope, cst.Module):
            return Frame(module, scope)
        outer = self.frame_of(scope, module)
        owner = None
        if isinstance(outer.scope, cst.ClassDef):
            owner = Instance(ClassRef(module, outer.scope))
        return Frame(module, scope, owner=owner, outer=outer)

    def inside(
        self,
        function: FunctionRef,
        bound: Sequence[tuple[str, Values]] = (),
    ) -> Frame:
        """The frame of a function's body, its parameters *bound*."""
        outer = self.frame_of(function.node, function.module)
        if function.bound:
            outer = Frame(outer.module, outer.scope, function.bound, outer.owner, outer.outer)
        owner = function.owner
        if owner is None and isinstance(outer.scope, cst.ClassDef):
            owner = Instance(ClassRef(function.module, outer.scope))
        return Frame(function.module, function.node, tuple(bound), owner, outer)

    def _evaluate(self, node: cst.CSTNode, frame: Frame) -> Values:
        if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
            return self._literal(node, frame)
        if isinstance(node, cst.FormattedString):
            return self._formatted(node, frame)
        if isinstance(node, cst.Name):
            return self._name(node, frame)
        if isinstance(node, cst.Attribute):
            return self._attribute(node, frame)
        if isinstance(node, cst.Call):
            return calling.call(self, node, frame)
        if isinstance(node, cst.Subscript):
            return self._subscript(node, frame)
        if isinstance(node, cst.BinaryOperation):
            return self._binary(node, frame)
        if isinstance(node, cst.BooleanOperation):
            return self._either(node, frame)
        if isinstance(node, cst.IfExp):
            return self._conditional(node, frame)
        if isinstance(node, (cst.Await, cst.Yield)):
            inner = node.expression if isinstance(node, cst.Await) else node.value
            return self.evaluate(inner, frame) if inner is not None else UNKNOWN
        if isinstance(node, cst.NamedExpr):
            return self.evaluate(node.value, frame)
        if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
            items = ((i, self.evaluate(e.value, frame)) for i, e in enumerate(node.elements))
            return (Table(tuple(items)),)
        if isinstance(node, cst.Dict):
            return (self._dict(node, frame),)
        if isinstance(node, cst.Lambda):
            return (FunctionRef(frame.module, node),)
        return self._plain_value(node, frame)

    def _plain_value(self, node: cst.CSTNode, frame: Frame) -> Values:
        if isinstance(node, cst.Integer):
            return (Const(node.evaluated_value),)
        if isinstance(node, (cst.Comparison, cst.UnaryOperation)):
            truth = naming.truth(self, node, frame)
            return (Const(truth),) if truth is not None else UNKNOWN
        return UNKNOWN

    def _attribute(self, node: cst.Attribute, frame: Frame) -> Values:
        owners = self.evaluate(node.value, frame)
        values = self.each(owners, lambda v: self.attribute(v, node.attr.value))
        if all(isinstance(v, (Unknown, Method)) for v in values) and dotted_name(node):
            return scopes.elsewhere(self, dotted_name(node), frame.module) or values
        return values

    def _literal(self, node: cst.SimpleString | cst.ConcatenatedString, frame: Frame) -> Values:
        value = node.evaluated_value
        if isinstance(value, str):
            return (texts_of.literal(frame.module, node, value),)
        if isinstance(node, cst.ConcatenatedString):
            parts = (self.evaluate(node.left, frame), self.evaluate(node.right, frame))
            return self.combine(texts_of.add, *parts)
        return UNKNOWN

    def _formatted(self, node: cst.FormattedString, frame: Frame) -> Values:
        operands: list[Values] = []
        for part in node.parts:
            if isinstance(part, cst.FormattedStringText):
                text = part.value.replace("{{", "{").replace("}}", "}")
                operands.append((texts_of.literal(frame.module, part, text),))
            elif isinstance(part, cst.FormattedStringExpression):
                plainly = part.format_spec is None and part.conversion in {None, "s"}
                operands.append(self.evaluate(part.expression, frame) if plainly else UNKNOWN)
        return self.combine(lambda *v: texts_of.join_all(v), *operands) if operands else (plain(""),)

    def _name(self, node: cst.Name, frame: Frame) -> Values:
        if node.value in {"True", "False", "None"}:
            return (Const({"True": True, "False": False, "None": None}[node.value]),)
        looped = scopes.looped(self, node, frame)
        return looped or scopes.lookup(self, node.value, frame, at=node)

    def attribute(self, owner: Value, name: str) -> Values:
        """The values of `owner.name`."""
        if isinstance(owner, External):
            return (External(f"{owner.name}.{name}"),)
        if isinstance(owner, ModuleRef):
            return naming.of_module(self, owner, name)
        if isinstance(owner, (Instance, ClassRef)):
            return objects.attribute(self, owner, name)
        if isinstance(owner, Text):
            return texts_of.attribute(owner, name)
        if isinstance(owner, Table):
            found = owner.get(name)
            return found if found is not None else (Method(owner, name),)
        if isinstance(owner, Parsed):
            return calling.parsed_argument(self, owner, name)
        if isinstance(owner, Opened) and name == "url":
            return owner.path
        if isinstance(owner, Unknown):
            return (owner,)
        return (Method(owner, name),)

    def item(self, owner: Value, key: object) -> Values:
        """The values of `owner[key]`."""
        if isinstance(owner, External) and owner.name == "os.environ" and isinstance(key, str):
            return self.environment.variable(key, None)
        if isinstance(owner, Table):
            if isinstance(key, int) and key < 0:
                key += len(owner.items)
            found = owner.get(key)
            return found if found is not None else UNKNOWN
        return (owner,) if isinstance(owner, Unknown) else UNKNOWN

    def _subscript(self, node: cst.Subscript, frame: Frame) -> Values:
        owners = self.evaluate(node.value, frame)
        first = node.slice[0].slice if len(node.slice) == 1 else None
        if isinstance(first, cst.Slice):
            bounds = [self._bound_of(b, frame) for b in (first.lower, first.upper)]
            return self.each(owners, lambda v: _cut(v, bounds))
        key: object = subscript_key(node)
        if key is None and isinstance(first, cst.Index):
            keys = self.evaluate(first.value, frame)
            key = _key_of(keys[0])
        name = f'{dotted_name(node.value)}["{key}"]'
        if name in frame.module.bindings(frame.module.root) and isinstance(frame.scope, cst.Module):
            found = scopes.lookup(self, name, frame, at=node)
            if found != UNKNOWN:
                return found
        return self.each(owners, lambda v: self._item_at(v, key, (node, frame)))

    def _item_at(self, owner: Value, key: object, site: tuple[cst.Subscript, Frame]) -> Values:
        """As :meth:`item`, told where it is read."""
        node, frame = site
        if isinstance(owner, Made) and isinstance(key, str):
            return documents.section_of_parser(self, owner, key, node, frame)
        if isinstance(owner, External) and owner.name == "os.environ" and isinstance(key, str):
            return self.environment.variable(key, frame.module.file)
        return self.item(owner, key)

    def _bound_of(self, node: cst.BaseExpression | None, frame: Frame) -> int | None:
        values = self.evaluate(node, frame) if node is not None else ()
        value = values[0].value if values and isinstance(values[0], Const) else None
        return value if isinstance(value, int) else None

    def _binary(self, node: cst.BinaryOperation, frame: Frame) -> Values:
        left, right = self.evaluate(node.left, frame), self.evaluate(node.right, frame)
        if isinstance(node.operator, cst.Add):
            return self.combine(texts_of.add, left, right)
        if isinstance(node.operator, cst.Divide):
            return self.combine(_divide, left, right)
        if isinstance(node.operator, cst.Modulo):
            return self.combine(texts_of.percent, left, right)
        return UNKNOWN

    def _either(self, node: cst.BooleanOperation, frame: Frame) -> Values:
        left = self.evaluate(node.left, frame)
        truths = {naming.truth_of(v) for v in left}
        decided = isinstance(node.operator, cst.Or)
        if truths == {decided}:
            return self._overruling(left, node.right, frame) if decided else left
        right = self.evaluate(node.right, frame)
        if truths == {not decided}:
            return right
        # What may be empty gives way to the other.
        return few((*(v for v in left if naming.truth_of(v) is not (not decided)), *right))

    def _overruling(self, left: Values, right: cst.BaseExpression, frame: Frame) -> Values:
        """`left or right`, where left counts; right is told as the default that it is."""
        defaults = self.evaluate(right, frame)
        return few(texts_of.overrule(v, defaults) for v in left)

    def _conditional(self, node: cst.IfExp, frame: Frame) -> Values:
        truth = naming.truth(self, node.test, frame)
        branches = [b for wanted, b in ((True, node.body), (False, node.orelse)) if truth in {None, wanted}]
        return few(v for b in branches for v in self.evaluate(b, frame))

    def _dict(self, node: cst.Dict, frame: Frame) -> Table:
        items: list[tuple[object, Values]] = []
        for element in node.elements:
            if isinstance(element, cst.DictElement):
                key = _key_of(self.evaluate(element.key, frame)[0])
                items.append((key, self.evaluate(element.value, frame)))
            else:
                inner = self.evaluate(element.value, frame)[0]
                items += inner.items if isinstance(inner, Table) else ()
        return Table(tuple(reversed(items)))

    def elements(self, values: Values) -> Values:
        """What a loop over one of *values* runs through."""
        inside = (v for each in values if isinstance(each, Table) for _, inner in each.items for v in inner)
        return few(replace(v, listed=True) if isinstance(v, Text) else v for v in inside)

    def callers(self, function: FunctionRef) -> list[Arguments]:
        """What each call of *function* in the application passes."""
        if function.node not in self._callers:
            # Asked again while the answer is being found, there is none yet.
            self._callers[function.node] = []
            self._callers[function.node] = calling.callers(self, function)
        return self._callers[function.node]

    def constructions(self, cls: ClassRef) -> list[Arguments]:
        """What each call of a class passes."""
        if cls.node not in self._callers:
            self._callers[cls.node] = []
            self._callers[cls.node] = calling.constructions(self, cls)
        return self._callers[cls.node]

    def combine_all(self, arguments: Arguments, function: Callable[[Arguments], Values]) -> Values:
        """What *function* gives for each combination of the arguments' values, one of each."""
        names = [name for name, _ in arguments.named]
        every = (*arguments.positional, *(v for _, v in arguments.named))
        count = len(arguments.positional)
        found: list[Value] = []
        for chosen in itertools.islice(itertools.product(*every), _MOST_COMBINATIONS):
            ones = tuple((v,) for v in chosen)
            named = tuple(zip(names, ones[count:], strict=True))
            found += function(Arguments(ones[:count], named, arguments.star))
        return few(found)

    def each(self, values: Values, function: Callable[[Value], Values]) -> Values:
        """What *function* gives for each of *values*."""
        return few(v for each in values for v in function(each))

    def combine(self, function: Callable[..., Value], *operands: Values) -> Values:
        """*function* of each combination of the operands' values."""
        combinations = itertools.islice(itertools.product(*operands), _MOST_COMBINATIONS)
        return few(function(*each) for each in combinations)


def _key_of(value: Value) -> object:
    return value.text if isinstance(value, Text) else value.value if isinstance(value, Const) else None


def _divide(left: Value, right: Value) -> Value:
    if isinstance(left, Text) and isinstance(right, Text):
        return join_paths(left, right)
    return texts_of.first_unknown((left, right))


def _cut(value: Value, bounds: list[int | None]) -> Values:
    if not isinstance(value, Text):
        return UNKNOWN
    start, end, _ = slice(*bounds).indices(len(value.text))
    return (keep(value, start, end),)
