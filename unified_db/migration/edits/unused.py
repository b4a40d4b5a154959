"""Takes away imports and constants of a Python module that an edit has left unused.

Only what the module itself used before the edit and nobody uses after it: what was unused before may be
there for others, and is left alone.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unified_db.migration.edits.python_imports import drop_name
from unified_db.migration.edits.python_source import PythonSource, require_compiles
from unified_db.migration.edits.texts import Splice, splice

if TYPE_CHECKING:
    import libcst as cst

# What computes a path or reads a setting, and does nothing else.
_HARMLESS = re.compile(r"(?:pathlib\.)?(?:Pure)?(?:Posix)?Path|os\.path\.\w+|os\.getenv|os\.environ\.get|str")
_KEEP = re.compile(r"#\s*noqa|#\s*type:|__all__")


@dataclass(frozen=True)
class _Binding:
    """A name that a statement of the module's own level binds.

    Attributes:
        index: Which of the names of an import statement it is; None for a constant.
    """

    name: str
    statement: cst.CSTNode
    index: int | None = None


def drop_unused(
    before: str, after: str, *, file: Path, used_elsewhere: Callable[[str], bool]
) -> tuple[str, tuple[str, ...]]:
    """*after* without what it no longer uses of what *before* used, and the names that went.

    Args:
        before: The module before its edits.
        after: The module with them.
        file: For messages.
        used_elsewhere: Whether another file of the application uses a name of this module.

    Raises:
        EditError: One of the two is no Python source.

    Left alone are imports with a remark for a linter, in `try` or `if`, from `__future__` or with `*`, and
    constants whose value does more than to compute a path or to read a setting.
    """
    used = _used_names(PythonSource(before, file))
    dropped: list[str] = []
    # A constant that goes may have been the last to use an import.
    while True:
        source = PythonSource(after, file)
        idle = [
            b
            for b in _bindings(source)
            if b.name in used and b.name not in _used_names(source) and not used_elsewhere(b.name)
        ]
        if not idle:
            require_compiles(before, after, file=file)
            return after, tuple(dropped)
        dropped += [b.name for b in idle]
        after = splice(after, _splices(source, idle))


def _used_names(source: PythonSource) -> set[str]:
    """Names bound at the module's level that code or `__all__` speaks of."""
    top = source.scopes[0].globals if source.scopes else None
    used = {a.name for a in (top.assignments if top else ()) if a.references}
    exported = re.findall(r"__all__[^=]*=\s*[\[(]([^\])]*)[\])]", source.text)
    return used | {name for listed in exported for name in re.findall(r"\w+", listed)}


def _bindings(source: PythonSource) -> Iterable[_Binding]:
    import libcst as cst

    counts: dict[str, int] = {}
    for scope in source.scopes[:1]:
        for assignment in scope.globals.assignments:
            counts[assignment.name] = counts.get(assignment.name, 0) + 1
    for line in source.module.body:
        if not isinstance(line, cst.SimpleStatementLine) or len(line.body) != 1:
            continue
        if _KEEP.search(_whole_line(source, line)):
            continue
        for binding in _bound_by(source, line.body[0]):
            if counts.get(binding.name.partition(".")[0], 0) <= 1:
                yield binding


def _whole_line(source: PythonSource, line: cst.CSTNode) -> str:
    start, end = source.span(line)
    rest = re.compile(r"[^\r\n]*").match(source.text, end)
    return source.text[start : rest.end() if rest else end]


def _bound_by(source: PythonSource, statement: cst.CSTNode) -> Iterable[_Binding]:
    import libcst as cst
    from libcst.helpers import get_full_name_for_node

    if isinstance(statement, (cst.Import, cst.ImportFrom)):
        module = statement.module if isinstance(statement, cst.ImportFrom) else None
        if isinstance(statement.names, cst.ImportStar) or (
            module is not None and get_full_name_for_node(module) == "__future__"
        ):
            return
        for index, alias in enumerate(statement.names):
            local = alias.evaluated_alias or get_full_name_for_node(alias.name) or ""
            # `import a as a` says that it is for others; `import a.b` binds only `a`, for submodules too.
            if local and "." not in local and alias.evaluated_alias != alias.evaluated_name:
                yield _Binding(local, statement, index)
    elif isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
        if isinstance(target, cst.Name) and _is_harmless(source.code(statement.value)):
            yield _Binding(target.value, statement)
    elif (
        isinstance(statement, cst.AnnAssign)
        and isinstance(statement.target, cst.Name)
        and statement.value is not None
        and _is_harmless(source.code(statement.value))
    ):
        yield _Binding(statement.target.value, statement)


def _is_harmless(code: str) -> bool:
    """True where computing the expression *code* does nothing else."""
    try:
        tree = ast.parse(f"({code}\n)", mode="eval")
    except SyntaxError:
        return False
    allowed = (ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.BinOp, ast.Subscript, ast.Slice)
    others = (ast.Call, ast.keyword, ast.JoinedStr, ast.FormattedValue, ast.operator, ast.expr_context)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not _is_harmless_call(node.func):
            return False
        if not isinstance(node, (*allowed, *others, ast.UnaryOp, ast.unaryop)):
            return False
    return True


def _is_harmless_call(function: ast.expr) -> bool:
    if _HARMLESS.fullmatch(ast.unparse(function)):
        return True
    # A method of a path that is computed in place, such as Path(__file__).resolve().
    inner = function.value if isinstance(function, ast.Attribute) else None
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    return isinstance(inner, ast.Call) and _is_harmless_call(inner.func)


def _splices(source: PythonSource, idle: Iterable[_Binding]) -> Iterable[Splice]:
    statements: dict[cst.CSTNode, list[_Binding]] = {}
    for binding in idle:
        statements.setdefault(binding.statement, []).append(binding)
    for statement, bindings in statements.items():
        gone = sorted((b.index for b in bindings if b.index is not None), reverse=True)
        names = getattr(statement, "names", ())
        if gone and len(gone) < len(names):
            code = source.code(statement)
            for index in gone:
                code = drop_name(code, index)
            yield source.put(statement, code)
        else:
            start, end = source.span(statement)
            rest = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)?").match(source.text, end)
            yield Splice(start, rest.end() if rest else end, "")


def is_used_by(text: str, module: str, name: str) -> bool:
    """True where the Python source *text* uses *name* of the module whose last name is *module*.

    Also where it cannot be read. By import, as an attribute, or in a text, as tests name what they patch.
    """
    if name not in text:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the application's own strings
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return True
    owners = {module, *_other_names(tree, module)}
    return any(_uses(node, owners, module, name) for node in ast.walk(tree))


def _other_names(tree: ast.AST, module: str) -> Iterable[str]:
    """What *module* is called where it is imported under another name."""
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            if alias.asname and alias.name.rpartition(".")[2] == module:
                yield alias.asname


def _uses(node: ast.AST, owners: set[str], module: str, name: str) -> bool:
    if isinstance(node, ast.ImportFrom):
        from_it = (node.module or "").rpartition(".")[2] == module
        return from_it and any(alias.name in (name, "*") for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr == name and ast.unparse(node.value).rpartition(".")[2] in owners
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value == name or f"{module}.{name}" in node.value
    return False
