"""Exchanges an imported name for another one, in the import and wherever it is used.

Three ways to import are understood: the name itself (`from a.b import X`), the module that
holds it (`import a.b`, `from a import b`), and both under another name (`as`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db.migration.edits.python_source import PythonSource, require_compiles
from unified_db.migration.edits.texts import Splice, misfit, newline_of, splice

if TYPE_CHECKING:
    import libcst as cst
    from libcst.metadata import Access, Scope

_BY_HAND = "Change this file by hand first, or give the edit as kind 'text'."


@dataclass(frozen=True)
class _Dotted:
    """A dotted name, as the module and the name in it."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class _Import:
    """One name in an import statement that stands for the old name or for its module.

    Attributes:
        local: What the code calls it; `a.b` for `import a.b`.
        aliased: Imported with `as`.
        of_module: It stands for the module, and the old name is an attribute of it.
        uses: Where the code speaks of it.
    """

    statement: cst.Import | cst.ImportFrom
    index: int
    local: str
    aliased: bool
    of_module: bool
    scope: Scope
    uses: tuple[Access, ...]


def exchange_import(text: str, old: str, new: str, *, file: Path) -> str:
    """*text* with the dotted name *new* imported and used in place of *old*.

    An alias is kept, and then only the import changes. It is also brought in where the old bare
    name must go on existing: when it is in `__all__`, bound a second time, or not used here at all
    and so imported by others from here.

    Raises:
        EditError: Neither is imported, the old one comes with `*`, or the new name already means
            something else in this module.
    """
    names = (_Dotted(*old.rpartition(".")[::2]), _Dotted(*new.rpartition(".")[::2]))
    source = PythonSource(text, file)
    found = [i for i in _imports(source, names[0]) if not i.of_module or _own_uses(source, i, names[0])]
    _refuse_star(source, names[0])
    if not found:
        return _require_done(source, old, names[1])
    after = _exchange(source, found, *names)
    require_compiles(text, after, file=file)
    _require_bound(source, PythonSource(after, file), old)
    return after


def _exchange(source: PythonSource, found: list[_Import], old: _Dotted, new: _Dotted) -> str:
    bare = [i for i in found if not i.of_module and not i.aliased]
    keep_name = any(not _may_rename(source, i, bare) for i in bare)
    splices: list[Splice] = []
    changed: dict[Any, tuple[list[int], list[str]]] = {}
    for each in found:
        dropped, added = changed.setdefault(each.statement, ([], []))
        alias = f" as {each.local}" if each.aliased or (keep_name and not each.of_module) else ""
        if each.of_module:
            moves = _moves_whole(source, each, old)
            local = each.local if moves and each.aliased else new.module
            splices += _rename_attributes(source, each, old, f"{local}.{new.name}")
            added.append(f"import {new.module}{alias if moves else ''}")
            dropped += [each.index] if moves else []
        else:
            splices += [] if alias else _rename(source, each, old.name, new.name)
            added.append(f"from {new.module} import {new.name}{alias}")
            dropped.append(each.index)
        if not alias:
            _refuse_taken(source, new.module.partition(".")[0] if each.of_module else new.name, new)
    for statement, (dropped, added) in changed.items():
        splices += _rewrite(source, statement, dropped, list(dict.fromkeys(added)))
    return splice(source.text, splices)


def _imports(source: PythonSource, wanted: _Dotted) -> Iterator[_Import]:
    """Every import of *wanted* or of its module."""
    from libcst.metadata import ImportAssignment

    for scope in source.scopes:
        for assignment in scope.assignments:
            if isinstance(assignment, ImportAssignment):
                found = _recognise(assignment, wanted, scope)
                if found:
                    yield found


def _recognise(assignment: Any, wanted: _Dotted, scope: Scope) -> _Import | None:
    import libcst as cst
    from libcst.helpers import get_full_name_for_node

    statement = assignment.node
    if not isinstance(statement, (cst.Import, cst.ImportFrom)) or isinstance(statement.names, cst.ImportStar):
        return None
    prefix = _module_of(statement)
    for index, alias in enumerate(statement.names):
        name = get_full_name_for_node(alias.name) or ""
        full = f"{prefix}.{name}" if prefix.strip(".") else prefix + name
        of_module = full == wanted.module
        is_name = isinstance(statement, cst.ImportFrom) and full == f"{wanted.module}.{wanted.name}"
        local = alias.evaluated_alias or name
        if (of_module or is_name) and local == assignment.name:
            uses = tuple(assignment.references)
            return _Import(statement, index, local, alias.asname is not None, of_module, scope, uses)
    return None


def _module_of(statement: cst.Import | cst.ImportFrom) -> str:
    """`a.b` of `from a.b import X`, with the leading dots of a relative import; "" of `import`."""
    import libcst as cst
    from libcst.helpers import get_full_name_for_node

    if isinstance(statement, cst.Import):
        return ""
    name = get_full_name_for_node(statement.module) if statement.module else ""
    return "." * len(statement.relative) + (name or "")


def _own_uses(source: PythonSource, found: _Import, old: _Dotted) -> list[tuple[cst.CSTNode, Access]]:
    """(node to replace, access) for each use of the old name through its imported module."""
    import libcst as cst

    own: list[tuple[cst.CSTNode, Access]] = []
    for access in found.uses:
        parent = source.parents.get(access.node)
        if isinstance(access.node, cst.BaseString):
            if re.search(_pattern(f"{found.local}.{old.name}"), source.code(access.node)):
                own.append((access.node, access))
        elif (
            isinstance(parent, cst.Attribute)
            and parent.value is access.node
            and parent.attr.value == old.name
        ):
            own.append((parent, access))
    return own


def _moves_whole(source: PythonSource, found: _Import, old: _Dotted) -> bool:
    """True where the import of the module serves nothing but the old name."""
    own = {id(access) for _, access in _own_uses(source, found, old)}
    if any(id(access) not in own for access in found.uses) or _is_exported(source, found):
        return False
    # `import a.b` also binds `a`, through which other submodules may be reached.
    shorter = [a for a in found.scope.assignments if getattr(a, "node", None) is found.statement]
    return all(
        a.name == found.local or not a.references
        for a in shorter
        if a.name == found.local or found.local.startswith(f"{a.name}.")
    )


def _rename_attributes(source: PythonSource, found: _Import, old: _Dotted, new: str) -> Iterator[Splice]:
    import libcst as cst

    pattern = _pattern(f"{found.local}.{old.name}")
    for node, _ in _own_uses(source, found, old):
        is_text = isinstance(node, cst.BaseString)
        yield source.put(node, re.sub(pattern, new, source.code(node)) if is_text else new)


def _rename(source: PythonSource, found: _Import, old: str, new: str) -> Iterator[Splice]:
    import libcst as cst

    for access in found.uses:
        is_text = isinstance(access.node, cst.BaseString)
        code = source.code(access.node)
        yield source.put(access.node, re.sub(_pattern(old), new, code) if is_text else new)


def _pattern(dotted: str) -> str:
    return rf"(?<![\w.]){re.escape(dotted)}(?!\w)"


def _may_rename(source: PythonSource, found: _Import, bare: list[_Import]) -> bool:
    """True where every use means this import, and nobody else needs the bare name from here."""
    statements = {id(i.statement) for i in bare}

    def is_ours(assignment: object) -> bool:
        return id(getattr(assignment, "node", None)) in statements

    if not found.uses or _is_exported(source, found):
        return False
    bound = found.scope.assignments[found.local]
    return all(is_ours(a) for a in bound) and all(is_ours(r) for use in found.uses for r in use.referents)


def _is_exported(source: PythonSource, found: _Import) -> bool:
    """True where `__all__` names it."""
    import libcst as cst
    from libcst import matchers as m

    names: set[object] = set()
    targets = m.Assign(targets=[m.AtLeastN(m.AssignTarget(m.Name("__all__")), n=1)])
    for node in m.findall(
        source.module, targets | m.AugAssign(m.Name("__all__")) | m.AnnAssign(m.Name("__all__"))
    ):
        names |= {
            s.evaluated_value for s in m.findall(node, m.SimpleString()) if isinstance(s, cst.SimpleString)
        }
    return found.local in names


def _refuse_star(source: PythonSource, old: _Dotted) -> None:
    import libcst as cst
    from libcst import matchers as m

    for node in m.findall(source.module, m.ImportFrom(names=m.ImportStar())):
        if isinstance(node, cst.ImportFrom) and _module_of(node) == old.module:
            raise misfit(
                source.file,
                f"an import of {old.name}",
                f"`{source.code(node)}` on line {source.line(node)}, which hides what it imports",
                way_out=_BY_HAND,
            )


def _refuse_taken(source: PythonSource, name: str, new: _Dotted) -> None:
    """Raise where *name* is bound to anything but an import of *new* or of its package."""
    import libcst as cst

    for scope in source.scopes:
        for assignment in scope.assignments[name]:
            node = getattr(assignment, "node", None)
            is_import = isinstance(node, (cst.Import, cst.ImportFrom)) and _imports_from(node, new)
            if node is not None and not is_import:
                raise misfit(
                    source.file,
                    f"the name {name} to be free for {new.module}.{new.name}",
                    f"that it means something else on line {source.line(node)}",
                    way_out=_BY_HAND,
                )


def _imports_from(statement: cst.Import | cst.ImportFrom, new: _Dotted) -> bool:
    import libcst as cst
    from libcst.helpers import get_full_name_for_node

    root = new.module.partition(".")[0]
    if isinstance(statement, cst.ImportFrom):
        return _module_of(statement) == new.module
    return any((get_full_name_for_node(a.name) or "").partition(".")[0] == root for a in statement.names)


def _require_done(source: PythonSource, old: str, new: _Dotted) -> str:
    """The text as it is, where the new name is imported already."""
    if any(not i.of_module or _own_uses(source, i, new) for i in _imports(source, new)):
        return source.text
    name = old.rpartition(".")[2]
    used = source.text.count(name)
    raise misfit(
        source.file,
        f"an import of {old}",
        f"neither it nor {new.module}.{new.name}"
        + (f", though the text has {name} {used} times" if used else ""),
        way_out="Name the module that this file imports it from.",
    )


def _require_bound(before: PythonSource, after: PythonSource, old: str) -> None:
    """Raise where the edit left a name without meaning that had one."""
    lost = _unbound(after) - _unbound(before)
    if lost:
        raise misfit(
            before.file,
            f"an edit that takes {old} away whole",
            f"that {', '.join(sorted(lost))} would be left without an import",
            way_out=_BY_HAND,
        )


def _unbound(source: PythonSource) -> set[str]:
    import libcst as cst

    nodes = [a.node for s in source.scopes for a in s.accesses if not a.referents]
    return {n.value for n in nodes if isinstance(n, cst.Name)}


def _rewrite(
    source: PythonSource, statement: cst.Import | cst.ImportFrom, dropped: list[int], added: list[str]
) -> list[Splice]:
    """The splices that take names out of an import statement and put new statements where it was."""
    import libcst as cst

    start, end = source.span(statement)
    line = source.parents[statement]
    alone = isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1
    indent = re.search(r"[^\r\n]*\Z", source.text[:start])
    join = newline_of(source.text) + (indent[0] if indent else "") if alone else "; "
    if isinstance(statement.names, cst.ImportStar) or len(dropped) == len(statement.names):
        return [Splice(start, end, join.join(added))]
    code = source.text[start:end]
    for index in sorted(dropped, reverse=True):
        code = drop_name(code, index)
    # A comment behind the old import stays behind it.
    rest = re.compile(r"[^\r\n]*").match(source.text, end) if alone else None
    after = rest.end() if rest else end
    new = "".join(join + each for each in added)
    return [Splice(start, after, code + source.text[end:after] + new)]


def drop_name(code: str, index: int) -> str:
    """An import statement without its name number *index*, of at least two."""
    import libcst as cst
    from libcst import matchers as m

    source = PythonSource(code, Path("import"))
    spans = [
        source.span(a) for a in m.findall(source.module, m.ImportAlias()) if isinstance(a, cst.ImportAlias)
    ]
    spans.sort()
    start, end = spans[index]
    if index + 1 < len(spans):
        return code[:start] + code[spans[index + 1][0] :]
    gap = code[spans[index - 1][1] : start]
    newline = re.search(r"(?:\r\n|\r|\n)[^\r\n]*\Z", gap)
    if ")" not in code[end:] or not newline:
        return code[: spans[index - 1][1]] + code[end:]
    # On a line of its own: it goes with its comma and comment, the line before keeps its own.
    tail = re.compile(r"[^\S\r\n]*,?[^\S\r\n]*(?:#[^\r\n]*)?").match(code, end)
    return code[: start - len(newline[0])] + code[tail.end() if tail else end :]
