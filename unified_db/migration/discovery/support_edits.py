"""Edits around the switch: the requirement for our runtime, and what keeps Alembic off LangGraph's tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import libcst as cst

from unified_db.migration.discovery.finds import EditProposal
from unified_db.migration.discovery.modules import Module, dotted_name
from unified_db.migration.discovery.tree import Tree

_REQUIREMENTS = re.compile(r"requirements[\w.-]*\.(?:txt|in)$")
_LANGGRAPH = re.compile(r"^\s*langgraph(?:-checkpoint-sqlite)?\b", re.MULTILINE | re.IGNORECASE)
_DEPENDENCY = re.compile(
    r"""^(?P<indent>[ \t]*)(?P<quote>["'])langgraph(?:-checkpoint-sqlite)?\b[^"'\n]*(?P=quote)
        (?P<comma>,?).*$""",
    re.MULTILINE | re.VERBOSE,
)
_IMPORT = "from unified_db.runtime.alembic import include_object"


def requirements(tree: Tree) -> Iterator[EditProposal]:
    """A line for our runtime in each list of requirements that has LangGraph."""
    named = [f for f in sorted(tree.files) if _REQUIREMENTS.search(PurePosixPath(f).name)]
    lists = [f for f in named if _LANGGRAPH.search(tree.text(f) or "")] or named[:1]
    for file in lists:
        yield EditProposal(
            file=file,
            kind="requirement",
            why="the application imports unify-db's runtime from then on",
            sure=True,
        )
    if not lists:
        yield from _project(tree)


def _project(tree: Tree) -> Iterator[EditProposal]:
    """The same in the dependencies of `pyproject.toml`; a lock beside it is for a person to renew."""
    for file in sorted(f for f in tree.files if PurePosixPath(f).name == "pyproject.toml"):
        found = _DEPENDENCY.search(tree.text(file) or "")
        if found is not None and found["comma"]:
            line = found[0]
            added = f"{found['indent']}{found['quote']}unify-db{found['quote']},"
            yield EditProposal(
                file=file,
                kind="text",
                old=line.strip(),
                new=f"{line.strip()}\n{added}",
                why="the application imports unify-db's runtime from then on: name the place that it is "
                "installed from, and renew the lock file if there is one",
                sure=False,
            )


def alembic(tree: Tree) -> Iterator[EditProposal]:
    """`include_object` in each `env.py`, without which autogenerate drops LangGraph's tables."""
    pattern = re.compile(r"context\.configure\(")
    for file in tree.mentioning(pattern):
        module = tree.module(file) if PurePosixPath(file).name == "env.py" else None
        if module is not None:
            yield from _of_environment(module)


def _of_environment(module: Module) -> Iterator[EditProposal]:
    calls = [c for c in module.calls if dotted_name(c.func) == "context.configure"]
    taken = [c for c in calls if _passes(c, "include_object")]
    if taken:
        code = module.source.code(taken[0])
        if "unified_db" not in module.source.text:
            yield EditProposal(
                file=module.file,
                kind="text",
                old=code,
                new=code,
                why="it has an include_object of its own: join it with the one of "
                "unified_db.runtime.alembic by `and`, or autogenerate drops LangGraph's tables",
                sure=False,
            )
        return
    why = "without it autogenerate would drop LangGraph's tables, which no model describes"
    anchor = _last_import(module)
    if not calls or anchor is None:
        return
    yield EditProposal(
        file=module.file, kind="text", old=anchor, new=f"{anchor}\n{_IMPORT}", why=why, sure=True
    )
    for code in dict.fromkeys(module.source.code(c) for c in calls):
        call = next(c for c in calls if module.source.code(c) == code)
        yield EditProposal(
            file=module.file, kind="text", old=code, new=_with_option(module, call), why=why, sure=True
        )


def _passes(call: cst.Call, name: str) -> bool:
    return any(a.keyword is not None and a.keyword.value == name for a in call.args)


def _last_import(module: Module) -> str | None:
    """The last import at the top of a module, on lines of its own."""
    found: str | None = None
    for line in module.root.body:
        small = line.body[0] if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1 else None
        if isinstance(small, (cst.Import, cst.ImportFrom)):
            future = (
                isinstance(small, cst.ImportFrom)
                and dotted_name(small.module or cst.Name("x")) == "__future__"
            )
            found = found if future else module.source.code(small)
    return found


def _with_option(module: Module, call: cst.Call) -> str:
    """The code of a call with one more argument, laid out as the last one is."""
    option = "include_object=include_object"
    code = module.source.code(call)
    begin = module.source.span(call)[0]
    if not call.args:
        return f"{code[:-1]}{option})"
    last = call.args[-1]
    end = module.source.span(last.value)[1] - begin
    start = module.source.span(last)[0] - begin
    gap = re.search(r"\n[ \t]*\Z", code[:start])
    separator = gap[0] if gap is not None else " "
    return f"{code[:end]},{separator}{option}{code[end:]}"
