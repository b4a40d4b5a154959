"""A request that writes, as a proposal to a person: a POST route with what its model says it takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from pydantic import JsonValue

from unified_db.migration.discovery.finds import RequestFind
from unified_db.migration.discovery.routes import Route, WebApplication
from unified_db.migration.discovery.syntax import Module, Sources, constant, dotted_name

_TALKS = re.compile(r"chat|message|ask|invoke|conversation|thread|talk|say|query|run|answer", re.IGNORECASE)
_NEVER = re.compile(r"login|logout|auth|token|upload|webhook|admin|reset|delete|register", re.IGNORECASE)
_NAMES_THREAD = re.compile(r"thread|session|conversation|chat_?id", re.IGNORECASE)
_PLAIN: dict[str, JsonValue] = {"int": 1, "float": 1.0, "bool": False, "dict": {}, "list": []}


def propose_write(application: WebApplication | None, sources: Sources) -> RequestFind | None:
    """A POST route with values that should do; never sure, and None where its values cannot be told.

    Every text that may name a thread, or else the first one, holds {uuid}: no request touches what is
    there.
    """
    if application is None:
        return None
    routes = [
        r
        for r in application.routes
        if r.method == "POST" and not r.guarded and not _NEVER.search(r.path) and len(r.parameters) <= 1
    ]
    for route in sorted(routes, key=lambda r: (not _TALKS.search(r.path), len(r.parameters))):
        request = _fill(route, sources)
        if request is not None:
            return request
    return None


def _fill(route: Route, sources: Sources) -> RequestFind | None:
    path, query, body = route.path, [], None
    for name in route.parameters:
        path = path.replace(f"{{{name}}}", "bench-{uuid}")
    for name, annotation in route.takes:
        model = _find_class(annotation, route.module, sources)
        if model is not None:
            body = _body_of(*model)
            if body is None:
                return None
            continue
        value = _value(name, annotation)
        if value is None or isinstance(value, dict | list):
            return None
        query.append(f"{name}={str(value).lower() if isinstance(value, bool) else value}")
    path += f"?{'&'.join(query)}" if query else ""
    if "{uuid}" not in f"{path}{body}":
        body = _mark(body)
        if body is None:
            return None
    name = "-".join(p for p in route.path.split("/") if p and not p.startswith("{")) or "write"
    return RequestFind(
        name=name,
        method="POST",
        path=path,
        why=f"{route.place} has the route",
        sure=False,
        body=body,
        status=route.status,
    )


def _mark(body: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    """*body* with {uuid} in its first text; None where it has none."""
    for key, value in (body or {}).items():
        if isinstance(value, str):
            return {**(body or {}), key: f"{value} {{uuid}}"}
    return None


def _body_of(model: ast.ClassDef, module: Module) -> dict[str, JsonValue] | None:
    found: dict[str, JsonValue] = {}
    for name, annotation, default in _fields(model):
        if default is not None and not _NAMES_THREAD.search(name):
            continue
        value = _value(name, annotation, module)
        if value is None:
            return None
        found[name] = value
    return found


def _fields(model: ast.ClassDef) -> Iterator[tuple[str, str, ast.expr | None]]:
    for node in model.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation), _default(node.value)


def _default(node: ast.expr | None) -> ast.expr | None:
    """What stands for a missing value: `Field(...)` without one, and `Field(min_length=1)`, are none."""
    if not isinstance(node, ast.Call) or dotted_name(node.func) not in {"Field", "pydantic.Field"}:
        return node
    named = next((k.value for k in node.keywords if k.arg in {"default", "default_factory"}), None)
    first = node.args[0] if node.args else named
    return None if isinstance(first, ast.Constant) and first.value is ... else first


def _value(name: str, annotation: str, module: Module | None = None) -> JsonValue | None:
    """A value of that type; None where nobody can tell one."""
    kind = re.sub(r"Annotated\[([^,\]]+),.*\]", r"\1", annotation)
    kind = re.sub(r"Optional\[(.*)\]", r"\1", kind).split("|")[0].strip()
    if kind == "str":
        return "bench-{uuid}" if _NAMES_THREAD.search(name) else "hello"
    if kind.startswith("Literal[") and module is not None:
        first = ast.parse(kind, mode="eval").body
        chosen = (
            first.slice.elts[0]
            if isinstance(first, ast.Subscript) and isinstance(first.slice, ast.Tuple)
            else getattr(first, "slice", None)
        )
        return constant(chosen, module)
    return _PLAIN.get(kind.split("[")[0])


def _find_class(annotation: str, module: Module, sources: Sources) -> tuple[ast.ClassDef, Module] | None:
    """The model that *annotation* names, with its module; None for a plain type."""
    own = next((n for n in module.tree.body if isinstance(n, ast.ClassDef) and n.name == annotation), None)
    if own is not None:
        return own, module
    home, name = module.imports.get(annotation, ("", ""))
    found = sources.find(home, near=module) if name else None
    if found is None:
        return None
    made = next((n for n in found.tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    return (made, found) if made is not None else None
