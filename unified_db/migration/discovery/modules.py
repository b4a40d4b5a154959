"""A Python module as the reading needs it: what encloses each node, and what binds each name.

Nothing is evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import libcst as cst

from unified_db.migration.edits.python_source import PythonSource

Scope = cst.Module | cst.ClassDef | cst.FunctionDef | cst.Lambda
BindingKind = Literal["value", "add", "import", "definition", "with", "each", "unpacked"]
# What a function gives back is bound to a name that no code can have.
RETURN = "return"

# Of a node only its syntax is walked: spaces and punctuation are nine tenths of a tree.
_PUNCTUATION = (
    "whitespace",
    "leading_lines",
    "lines_after",
    "lpar",
    "rpar",
    "lbracket",
    "rbracket",
    "lbrace",
    "rbrace",
    "semicolon",
    "header",
    "footer",
    "trailing",
    "comma",
    "equal",
    "indent",
    "newline",
    "async",
)


@dataclass(frozen=True)
class Guard:
    """A condition under which a statement runs: *test* must be *wanted*; None where nobody knows."""

    test: cst.BaseExpression | None
    wanted: bool = True


@dataclass(frozen=True)
class Binding:
    """A statement that gives a name its value.

    Attributes:
        node: The value's expression, the import or the definition.
        order: Its place in the module.
        index: Of a name among several (`a, b = f()`) its place; else None.
    """

    name: str
    kind: BindingKind
    node: cst.CSTNode
    order: int
    guards: tuple[Guard, ...] = ()
    index: int | None = None


@dataclass(frozen=True)
class _Index:
    """What encloses each node, its place among all nodes, and the place of the last one in it."""

    parents: Mapping[cst.CSTNode, cst.CSTNode]
    order: Mapping[cst.CSTNode, int]
    ends: Mapping[cst.CSTNode, int]


class Module:
    """A parsed module; call :meth:`parse` before anything else.

    Attributes:
        file: Its name in the tree.
        path: Absolute.
    """

    def __init__(self, file: str, path: Path, text: str) -> None:
        self.file = file
        self.path = path
        self.source = PythonSource(text, Path(file))
        self._bindings: dict[cst.CSTNode, dict[str, list[Binding]]] = {}

    def parse(self) -> None:
        """Parse the text.

        Raises:
            EditError: It is no Python that LibCST can parse.
            RecursionError: Nested too deeply.
        """
        _ = self._index

    @cached_property
    def _index(self) -> _Index:
        parents: dict[cst.CSTNode, cst.CSTNode] = {}
        order: dict[cst.CSTNode, int] = {}
        stack: list[cst.CSTNode] = [self.source.module]
        while stack:
            node = stack.pop()
            order[node] = len(order)
            children = list(parts(node))
            parents.update((child, node) for child in children)
            stack.extend(reversed(children))
        ends = dict(order)
        for node in reversed(order):
            above = parents.get(node)
            if above is not None:
                ends[above] = max(ends[above], ends[node])
        return _Index(parents, order, ends)

    @property
    def root(self) -> cst.Module:
        """The tree."""
        return self.source.module

    @cached_property
    def calls(self) -> tuple[cst.Call, ...]:
        """Every call, in the order of the text."""
        return tuple(n for n in self._index.order if isinstance(n, cst.Call))

    @cached_property
    def nodes(self) -> tuple[cst.CSTNode, ...]:
        """Every node that is syntax, in the order of the text."""
        return tuple(self._index.order)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """What *node* is part of."""
        return self._index.parents.get(node)

    def order(self, node: cst.CSTNode) -> int:
        """The place of *node* among all nodes."""
        return self._index.order.get(node, 0)

    def line(self, node: cst.CSTNode) -> int:
        """The line that *node* begins on."""
        return self.source.line(node)

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What encloses *node*, nearest first."""
        here = self.parent(node)
        while here is not None:
            yield here
            here = self.parent(here)

    def scope_of(self, node: cst.CSTNode) -> Scope:
        """The function, class or module whose names *node* sees first; defaults belong to the outside."""
        below = node
        for each in self.above(node):
            if isinstance(each, (cst.ClassDef, cst.FunctionDef, cst.Lambda)):
                if below is each.body:
                    return each
            elif isinstance(each, cst.Module):
                return each
            below = each
        return self.root

    def bindings(self, scope: Scope) -> dict[str, list[Binding]]:
        """What binds each name in *scope* itself, in the order of the text."""
        if scope not in self._bindings:
            found: dict[str, list[Binding]] = {}
            body = scope.body if not isinstance(scope, cst.Module) else scope
            for each in () if isinstance(scope, cst.Lambda) else self._statements(body, ()):
                found.setdefault(each.name, []).append(each)
            self._bindings[scope] = found
        return self._bindings[scope]

    @cached_property
    def elsewhere(self) -> Mapping[str, list[tuple[cst.FunctionDef, Binding]]]:
        """What functions bind outside themselves: `global x`, and attributes as `app.state.x`."""
        found: dict[str, list[tuple[cst.FunctionDef, Binding]]] = {}
        for scope in self.nodes:
            if isinstance(scope, cst.FunctionDef):
                said = {item.name.value for n in self._globals(scope) for item in n.names}
                for name, bindings in self.bindings(scope).items():
                    if name in said or "." in name:
                        found.setdefault(name, []).extend((scope, b) for b in bindings)
        return found

    def _globals(self, scope: cst.FunctionDef) -> Iterator[cst.Global]:
        for line in scope.body.body:
            yield from (n for n in parts(line) if isinstance(n, cst.Global))

    def _statements(self, node: cst.CSTNode, guards: tuple[Guard, ...]) -> Iterator[Binding]:
        for child in parts(node):
            yield from self._bind(child, guards)

    def _bind(self, node: cst.CSTNode, guards: tuple[Guard, ...]) -> Iterator[Binding]:
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            yield Binding(node.name.value, "definition", node, self.order(node), guards)
        elif isinstance(node, (cst.Import, cst.ImportFrom)):
            yield from self._bind_import(node, guards)
        elif isinstance(node, cst.Return) and node.value is not None:
            yield Binding(RETURN, "value", node.value, self.order(node), guards)
        elif isinstance(node, cst.Expr) and isinstance(node.value, cst.Yield) and node.value.value:
            yield Binding(RETURN, "value", node.value.value, self.order(node), guards)
        elif isinstance(node, (cst.Assign, cst.AnnAssign, cst.AugAssign)):
            yield from self._bind_assignment(node, guards)
        elif isinstance(node, cst.With):
            for item in node.items:
                if item.asname is not None:
                    yield from self._bind_target(item.asname.name, "with", item.item, guards)
            yield from self._statements(node.body, guards)
        elif isinstance(node, cst.For):
            yield from self._bind_target(node.target, "each", node.iter, guards)
            yield from self._statements(node.body, (*guards, Guard(None)))
        elif isinstance(node, cst.If):
            yield from self._statements(node.body, (*guards, Guard(node.test)))
            if node.orelse is not None:
                otherwise = (*guards, Guard(node.test, wanted=False))
                whole = isinstance(node.orelse, cst.If)
                yield from (self._bind if whole else self._statements)(node.orelse, otherwise)
        elif isinstance(node, (cst.Try, cst.TryStar)):
            yield from self._statements(node.body, guards)
            for part in (*node.handlers, node.orelse, node.finalbody):
                if part is not None:
                    unsure = isinstance(part, (cst.ExceptHandler, cst.ExceptStarHandler))
                    yield from self._statements(part.body, (*guards, Guard(None)) if unsure else guards)
        elif isinstance(node, cst.While):
            yield from self._statements(node.body, (*guards, Guard(None)))
        elif not isinstance(node, cst.BaseExpression):
            yield from self._statements(node, guards)

    def _bind_assignment(
        self, node: cst.Assign | cst.AnnAssign | cst.AugAssign, guards: tuple[Guard, ...]
    ) -> Iterator[Binding]:
        if isinstance(node, cst.Assign):
            for each in node.targets:
                yield from self._bind_target(each.target, "value", node.value, guards)
        elif isinstance(node, cst.AugAssign):
            yield from self._bind_target(node.target, "add", node.value, guards)
        elif node.value is not None:
            yield from self._bind_target(node.target, "value", node.value, guards)

    def _bind_target(
        self, target: cst.CSTNode, kind: BindingKind, value: cst.CSTNode, guards: tuple[Guard, ...]
    ) -> Iterator[Binding]:
        # A value does not see the name that it is about to be given.
        order = self._index.ends.get(value, 0)
        if isinstance(target, (cst.Tuple, cst.List)):
            for index, element in enumerate(target.elements):
                if isinstance(element.value, cst.Name):
                    yield Binding(element.value.value, "unpacked", value, order, guards, index)
        elif isinstance(target, (cst.Name, cst.Attribute)):
            yield Binding(dotted_name(target), kind, value, order, guards)
        elif isinstance(target, cst.Subscript):
            # `app.config["X"] = value` binds a name that no code can have.
            yield Binding(subscript_name(target), kind, value, order, guards)

    def _bind_import(self, node: cst.Import | cst.ImportFrom, guards: tuple[Guard, ...]) -> Iterator[Binding]:
        order = self.order(node)
        if isinstance(node.names, cst.ImportStar):
            yield Binding("*", "import", node, order, guards)
            return
        for alias in node.names:
            name = alias.evaluated_alias or alias.evaluated_name
            if isinstance(node, cst.Import) and alias.asname is None:
                name = name.partition(".")[0]
            yield Binding(name, "import", node, order, guards)


def parts(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The parts of *node* that are syntax, in the order of the text."""
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, cst.CSTNode))


_FIELDS: dict[type[cst.CSTNode], tuple[str, ...]] = {}


def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    if kind not in _FIELDS:
        names = getattr(kind, "__dataclass_fields__", {})
        _FIELDS[kind] = tuple(n for n in names if not n.startswith(_PUNCTUATION))
    return _FIELDS[kind]


def dotted_name(node: cst.CSTNode) -> str:
    """`a.b` of a name or an attribute of one; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        owner = dotted_name(node.value)
        return f"{owner}.{node.attr.value}" if owner else ""
    return ""


def subscript_name(node: cst.Subscript) -> str:
    """`a.b["KEY"]` of a subscript with one text; empty for anything else."""
    owner = dotted_name(node.value)
    key = subscript_key(node)
    return f'{owner}["{key}"]' if owner and isinstance(key, str) else ""


def subscript_key(node: cst.Subscript) -> str | int | None:
    """The literal in the brackets; None where there is none."""
    if len(node.slice) != 1 or not isinstance(node.slice[0].slice, cst.Index):
        return None
    value = node.slice[0].slice.value
    if isinstance(value, cst.SimpleString) and isinstance(value.evaluated_value, str):
        return value.evaluated_value
    if isinstance(value, cst.Integer):
        return int(value.evaluated_value)
    if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus):
        number = value.expression
        return -int(number.evaluated_value) if isinstance(number, cst.Integer) else None
    return None
