"""Reads which routes a web application has: FastAPI, Starlette's routers, Flask and its blueprints.

Followed through `include_router` and `register_blueprint` with their prefixes. A prefix that is computed
cannot be told, and neither can the routes below it, so they are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from unified_db.migration.discovery.syntax import Module, Sources, call_name, constant, dotted_name, keyword

Framework = Literal["fastapi", "flask"]
Key = tuple[PurePosixPath, str]

_MADE_BY: dict[str, tuple[Framework, bool]] = {
    "FastAPI": ("fastapi", True),
    "APIRouter": ("fastapi", False),
    "Flask": ("flask", True),
    "Blueprint": ("flask", False),
}
_METHODS = frozenset({"get", "post", "put", "patch", "delete"})
_MOUNTS = {"include_router": "prefix", "register_blueprint": "url_prefix"}
_GUARD = re.compile(
    r"auth|login|user|token|jwt|verify|permission|secur|api_?key|credential|admin", re.IGNORECASE
)
_GIVEN_BY_FRAMEWORK = frozenset(
    {"Request", "Response", "BackgroundTasks", "HTTPConnection", "WebSocket", "SecurityScopes"}
)
_NO_PLAIN_ANSWER = re.compile(
    r"StreamingResponse|EventSourceResponse|RedirectResponse|redirect\(|FileResponse"
)
_PARAMETER = re.compile(r"[{<](?:[a-z]+:)?(\w+)(?::[a-z]+)?[}>]")


@dataclass(frozen=True)
class Route:
    """One route with the whole of its path; its parameters as `{name}`.

    Attributes:
        parameters: Names in the path.
        needs: Names of the required parameters of the query, header or body.
        guarded: What suggests that a caller has to prove who they are; else empty.
        plain: False where the answer is a stream, a file or a redirection.
        takes: What is needed, each with its type as it is written there.
    """

    method: str
    path: str
    place: str
    parameters: tuple[str, ...]
    needs: tuple[str, ...]
    guarded: str
    plain: bool
    takes: tuple[tuple[str, str], ...]
    status: int
    module: Module = field(repr=False)


@dataclass
class WebApplication:
    """An application object and where it is made.

    Attributes:
        name: The variable, or the function that makes and returns it (then `factory` is true).
    """

    framework: Framework
    module: Module
    name: str
    factory: bool
    has_openapi: bool = True
    routes: tuple[Route, ...] = ()


@dataclass
class _Router:
    framework: Framework
    module: Module
    name: str
    call: ast.Call
    is_application: bool
    maker: str = ""
    prefix: str | None = ""
    guarded: str = ""
    routes: list[Route] = field(default_factory=list)
    mounted: list[tuple[Key, str | None, str]] = field(default_factory=list)


def find_applications(sources: Sources) -> tuple[WebApplication, ...]:
    """The web applications of the tree with all routes that can be told, in the order of their files."""
    routers = {
        (r.module.file, r.name): r
        for module in sources.mentioning("FastAPI", "APIRouter", "Flask", "Blueprint")
        for r in _routers_of(module)
    }
    for module in {r.module.file: r.module for r in routers.values()}.values():
        _read_routes(module, routers)
        _read_mounts(module, routers, sources)
    return tuple(
        WebApplication(
            framework=r.framework,
            module=r.module,
            name=r.maker or r.name,
            factory=bool(r.maker),
            has_openapi=not _is_none(keyword(r.call, "openapi_url")),
            routes=tuple(_below(r, routers, prefix="", guarded=r.guarded, seen=frozenset())),
        )
        for r in routers.values()
        if r.is_application
    )


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _routers_of(module: Module) -> Iterator[_Router]:
    for scope, maker in _scopes(module.tree):
        for node in scope:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
                continue
            made = _MADE_BY.get(call_name(node.value))
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if made and isinstance(target, ast.Name):
                named = keyword(node.value, "prefix" if made[0] == "fastapi" else "url_prefix")
                yield _Router(
                    *(made[0], module, target.id, node.value),
                    is_application=made[1],
                    maker=maker,
                    prefix=_prefix(named, module),
                    guarded=_guard_of(node.value),
                )


def _scopes(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], str]]:
    """The statements of the module, and those of each of its functions with the function's name."""
    yield tree.body, ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield [n for n in ast.walk(node) if isinstance(n, ast.stmt)], node.name


def _prefix(node: ast.expr | None, module: Module) -> str | None:
    """The text of a prefix; None where it cannot be told."""
    if node is None:
        return ""
    value = constant(node, module)
    return value if isinstance(value, str) else None


# ---- routes --------------------------------------------------------------------------------------


def _read_routes(module: Module, routers: dict[Key, _Router]) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
                    router = routers.get((module.file, dotted_name(decorator.func.value)))
                    if router is not None:
                        router.routes += _routes_at(router, decorator, node)


def _routes_at(
    router: _Router, decorator: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[Route]:
    verb = dotted_name(decorator.func).rpartition(".")[2]
    first = decorator.args[0] if decorator.args else keyword(decorator, "path") or keyword(decorator, "rule")
    path = constant(first, router.module)
    if not isinstance(path, str):
        return
    if verb in _METHODS:
        methods = [verb.upper()]
    elif verb in {"route", "api_route"}:
        listed = keyword(decorator, "methods")
        methods = [str(constant(e, router.module)).upper() for e in getattr(listed, "elts", ())] or ["GET"]
    else:
        return
    names = tuple(_PARAMETER.findall(path))
    takes = tuple(_needs(function, names)) if router.framework == "fastapi" else ()
    for method in methods:
        yield Route(
            method=method,
            path=_PARAMETER.sub(r"{\1}", path),
            place=f"{router.module.file}:{function.lineno}",
            parameters=names,
            needs=tuple(name for name, _ in takes),
            guarded=_guard_of(decorator) or _guard_on(function),
            plain=not _NO_PLAIN_ANSWER.search(ast.unparse(function)),
            takes=takes,
            status=_status(keyword(decorator, "status_code"), router.module),
            module=router.module,
        )


def _needs(
    function: ast.FunctionDef | ast.AsyncFunctionDef, in_path: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Parameters that a caller has to give and that are not in the path, each with its type."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    gap = len(positional) - len(arguments.defaults)
    defaults = [*([None] * gap), *arguments.defaults, *arguments.kw_defaults]
    for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        given = dotted_name(argument.annotation).rpartition(".")[2] in _GIVEN_BY_FRAMEWORK
        if argument.arg in in_path or given or "Depends(" in annotation or "Security(" in annotation:
            continue
        required = default is None or (
            isinstance(default, ast.Call) and bool(default.args) and _is_ellipsis(default.args[0])
        )
        if required and argument.arg != "self":
            yield argument.arg, annotation


def _status(node: ast.expr | None, module: Module) -> int:
    """The status of a good answer; `status.HTTP_201_CREATED` says its number, too."""
    value = constant(node, module)
    named = re.search(r"HTTP_(\d{3})", dotted_name(node))
    return value if isinstance(value, int) else int(named[1]) if named else 200


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _guard_on(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """What of the function's own decorators and parameters looks like a check of the caller."""
    for decorator in function.decorator_list:
        name = dotted_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if _GUARD.search(name.rpartition(".")[2]):
            return name
    arguments = function.args
    annotations = [a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return _guard_in(*annotations, *arguments.defaults, *arguments.kw_defaults)


def _guard_of(call: ast.Call) -> str:
    return _guard_in(keyword(call, "dependencies"))


def _guard_in(*nodes: ast.expr | None) -> str:
    for node in nodes:
        for inner in ast.walk(node) if node is not None else ():
            if call_name(inner) in {"Depends", "Security"} and isinstance(inner, ast.Call):
                asked = dotted_name(inner.args[0]) if inner.args else ""
                if call_name(inner) == "Security" or _GUARD.search(asked):
                    return asked or "Security"
    return ""


# ---- routers below routers -----------------------------------------------------------------------


def _read_mounts(module: Module, routers: dict[Key, _Router], sources: Sources) -> None:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        option = _MOUNTS.get(node.func.attr)
        parent = routers.get((module.file, dotted_name(node.func.value)))
        if option and parent is not None:
            child = _find_router(node.args[0], module, routers, sources)
            if child is not None:
                parent.mounted.append((child, _mount_prefix(node, option, module), _guard_of(node)))


def _mount_prefix(call: ast.Call, option: str, module: Module) -> str | None:
    return _prefix(keyword(call, option), module)


def _find_router(
    node: ast.expr, module: Module, routers: dict[Key, _Router], sources: Sources, *, hops: int = 5
) -> Key | None:
    """Which router *node* is: one of the module, one imported by name, or one of an imported module."""
    head, _, rest = dotted_name(node).partition(".")
    if (module.file, head) in routers and not rest:
        return module.file, head
    if head not in module.imports or not hops:
        return None
    home, name = module.imports[head]
    joint = "" if home.endswith(".") else "."
    dotted, _, variable = f"{home}{joint}{'.'.join(p for p in (name, rest) if p)}".rpartition(".")
    # Of `from . import users` the dots are the whole of the home, and one of them the joint.
    found = sources.find(dotted if dotted.strip(".") else home, near=module)
    if found is None:
        return None
    # Not made there, so perhaps handed on by a package's __init__.py.
    return _find_router(ast.Name(variable), found, routers, sources, hops=hops - 1)


def _below(
    router: _Router, routers: dict[Key, _Router], *, prefix: str, guarded: str, seen: frozenset[Key]
) -> Iterator[Route]:
    key = (router.module.file, router.name)
    if key in seen or router.prefix is None:
        return
    # Flask puts url_prefix of register_blueprint in the place of the blueprint's own.
    here = prefix if router.framework == "flask" and prefix else prefix + router.prefix
    for route in router.routes:
        path = "/" + (here + route.path).lstrip("/")
        names = tuple(_PARAMETER.findall(path))
        yield replace(route, path=path, parameters=names, guarded=route.guarded or guarded)
    for child, mount, guard in router.mounted:
        if mount is not None and child in routers:
            yield from _below(
                routers[child],
                routers,
                prefix=here + mount,
                guarded=guarded or guard or routers[child].guarded,
                seen=seen | {key},
            )
