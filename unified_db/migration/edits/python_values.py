"""Sets the text literal that a constant or a parameter gets its value from.

The literal may stand alone or where settings usually have it: in Path("..."), as the default
of os.getenv, in Field(default="..."), last in a joined path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db.migration.edits.masking import mask_line
from unified_db.migration.edits.python_source import PythonSource, require_compiles, statements
from unified_db.migration.edits.texts import misfit, name_similar, splice

if TYPE_CHECKING:
    import libcst as cst

_USE_TEXT = "Name the literal with an edit of kind 'python-literal', or the place with one of kind 'text'."
# Functions whose second argument is what counts where the variable is not set.
_LOOKUPS = {"getenv", "get", "setdefault", "config", "env", "str"}


def set_constant(text: str, name: str, value: str, *, file: Path) -> str:
    """*text* with the constant *name* (NAME or Class.NAME) set to *value*.

    Raises:
        EditError: Not assigned, assigned more than once, or not from one text literal.
    """
    source = PythonSource(text, file)
    *path, last = name.split(".")
    owner = enter(source, source.module, path)
    found = [(n, v) for node in statements(owner) for n, v in assigned(node)]
    values = [v for n, v in found if n == last]
    if not values:
        raise misfit(
            file,
            f"the constant {name}",
            name_similar(last, (n for n, _ in found)),
            way_out="Give NAME for one of the module, Class.NAME for one of a class.",
        )
    if len(values) > 1:
        lines = ", ".join(str(source.line(v)) for v in values)
        raise misfit(file, f"one assignment of {name}", f"several, on lines {lines}", way_out=_USE_TEXT)
    return _write(source, values[0], value, name=name)


def set_default(text: str, name: str, value: str, *, file: Path) -> str:
    """*text* with the default of a parameter (function.parameter or Class.method.parameter) set to *value*.

    Raises:
        EditError: No such parameter, one without default, or no single text literal in it.
    """
    source = PythonSource(text, file)
    *path, last = name.split(".")
    if not path:
        raise misfit(
            file, f"function.parameter in {name!r}", "no function", way_out="Write it as function.parameter."
        )
    function = enter(source, source.module, path)
    parameters = dict(_parameters(function))
    if last not in parameters:
        raise misfit(
            file,
            f"the parameter {name}",
            name_similar(last, parameters),
            way_out="Give function.parameter or Class.method.parameter.",
        )
    default = parameters[last]
    if default is None:
        raise misfit(file, f"a default of {name}", "a parameter without one", way_out=_USE_TEXT)
    return _write(source, default, value, name=name)


def enter(source: PythonSource, node: cst.CSTNode, path: list[str]) -> cst.CSTNode:
    """The class or function that *path* leads to from *node*.

    Raises:
        EditError: There is none of that name, or several.
    """
    import libcst as cst

    for index, name in enumerate(path):
        inside = [n for n in statements(node) if isinstance(n, (cst.ClassDef, cst.FunctionDef))]
        matches = [n for n in inside if n.name.value == name and not _is_overload(n)]
        if len(matches) != 1:
            found = (
                f"{len(matches)} of them" if matches else name_similar(name, (n.name.value for n in inside))
            )
            raise misfit(
                source.file, f"one class or function {'.'.join(path[: index + 1])}", found, way_out=_USE_TEXT
            )
        node = matches[0]
    return node


def _is_overload(node: cst.ClassDef | cst.FunctionDef) -> bool:
    return any(_dotted(d.decorator).endswith("overload") for d in node.decorators)


def assigned(node: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    """(name, value) of what a statement assigns; a name that shares its value comes with the statement."""
    import libcst as cst

    if isinstance(node, cst.Assign):
        for target in node.targets:
            if isinstance(target.target, cst.Name):
                # `A = B = "x"`: the value is not this name's alone, so it has no literal of its own.
                yield target.target.value, node.value if len(node.targets) == 1 else node
    elif isinstance(node, cst.AnnAssign) and isinstance(node.target, cst.Name) and node.value:
        yield node.target.value, node.value
    elif isinstance(node, cst.AugAssign) and isinstance(node.target, cst.Name):
        yield node.target.value, node


def _parameters(function: cst.CSTNode) -> Iterator[tuple[str, cst.BaseExpression | None]]:
    import libcst as cst

    if isinstance(function, cst.FunctionDef):
        params = function.params
        for each in (*params.posonly_params, *params.params, *params.kwonly_params):
            yield each.name.value, each.default


def _write(source: PythonSource, node: cst.CSTNode, value: str, *, name: str) -> str:
    literals = list(_literals(node))
    if len(literals) != 1:
        found = "several" if literals else "none"
        raise misfit(
            source.file,
            f"the one text literal that {name} (line {source.line(node)}) gets its value from",
            f"{found} in `{_shorten(source.code(node))}`",
            way_out=_USE_TEXT,
        )
    literal = literals[0]
    try:
        # Its lines may end in comments, and only parentheses hold them together.
        present = ast.literal_eval(f"({source.code(literal)}\n)")
    except (ValueError, SyntaxError):
        present = None
    if not isinstance(present, str):
        raise misfit(
            source.file,
            f"a plain text literal for {name}",
            f"`{_shorten(source.code(literal))}` on line {source.line(literal)}",
            way_out=_USE_TEXT,
        )
    if present == value:
        return source.text
    after = splice(source.text, [source.put(literal, quote_like(value, like=literal))])
    require_compiles(source.text, after, file=source.file)
    return after


def _literals(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The string literals that the value of an expression is made of."""
    import libcst as cst

    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString, cst.FormattedString)):
        yield node
    elif isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.Or):
        yield from _literals(node.right)
    elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Divide):
        yield from (*_literals(node.left), *_literals(node.right))
    elif isinstance(node, cst.IfExp):
        yield from (*_literals(node.body), *_literals(node.orelse))
    elif isinstance(node, (cst.Attribute, cst.NamedExpr)):
        yield from _literals(node.value)
    elif isinstance(node, cst.Lambda):
        yield from _literals(node.body)
    elif isinstance(node, cst.Call):
        yield from _literals_of_call(node)


def _literals_of_call(call: cst.Call) -> Iterator[cst.CSTNode]:
    import libcst as cst

    last = _dotted(call.func).rpartition(".")[2]
    positional = [a.value for a in call.args if a.keyword is None and not a.star]
    named = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    for default in ("default", "default_factory"):
        if default in named:
            yield from _literals(named[default])
            return
    if last.lower() == "field":
        positional = positional[:1]
    elif last in _LOOKUPS and positional and isinstance(positional[0], cst.SimpleString):
        # str("x") has the value itself in first place.
        positional = positional[:1] if _dotted(call.func) == "str" else positional[1:2]
    else:
        positional += list(named.values())
    for each in positional:
        yield from _literals(each)
    if isinstance(call.func, cst.Attribute):
        inner = list(_literals(call.func.value))
        # A method of a text computes something else from it: "{}/x.db".format(HOME).
        computed = isinstance(
            call.func.value, (cst.SimpleString, cst.ConcatenatedString, cst.FormattedString)
        )
        yield from inner * 2 if computed else inner


def _dotted(node: Any) -> str:
    from libcst.helpers import get_full_name_for_node

    return get_full_name_for_node(node) or ""


def quote_like(value: str, *, like: cst.CSTNode) -> str:
    """*value* as a literal with the prefix and quotes of *like*, where they can hold it."""
    import libcst as cst

    first = like.left if isinstance(like, cst.ConcatenatedString) else like
    if not isinstance(first, cst.SimpleString):
        return repr(value)
    quote = first.quote
    escaped = value.replace("\\", "\\\\").replace(quote[0], "\\" + quote[0])
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in escaped)
    raw = "r" in first.prefix.lower()
    literal = first.prefix + quote + (value if raw else escaped) + quote
    return literal if _evaluate(literal) == value else quote + escaped + quote


def _evaluate(literal: str) -> object:
    try:
        return ast.literal_eval(literal)
    except (SyntaxError, ValueError):
        return None


def _shorten(code: str) -> str:
    flat = " ".join(code.split())
    return mask_line(flat if len(flat) <= 60 else flat[:57] + "...")
