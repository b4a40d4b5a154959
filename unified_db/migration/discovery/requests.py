"""Requests that the benchmark could send: GET routes whose every value is known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml

from unified_db.migration.discovery.finds import RequestFind
from unified_db.migration.discovery.routes import Route, WebApplication
from unified_db.migration.discovery.syntax import Sources
from unified_db.sqlite import quote_name

_MOST = 8
_DOCUMENT = re.compile(r"^(?:openapi|swagger)\.(?:json|ya?ml)$", re.IGNORECASE)
_NOT_ASKED = re.compile(r"log_?out|sign_?out|docs$|redoc$|openapi|favicon|/static|metrics$", re.IGNORECASE)


def find_requests(
    sources: Sources, application: WebApplication | None, *, ready: str, threads: Sequence[str]
) -> tuple[RequestFind, ...]:
    """GET routes that can be asked as they are, at most eight; the ready path alone where there is none.

    Args:
        sources: The application's files, where an OpenAPI document may lie.
        application: Whose routes they are.
        ready: The path that answers once the server is ready.
        threads: Columns that name threads, as "table.column": they fill in a route's `{thread_id}`.
    """
    found: dict[str, RequestFind] = {}
    for route in application.routes if application else ():
        request = _of_route(route, threads)
        if request is not None:
            found.setdefault(request.path, request)
    for request in _of_documents(sources):
        found.setdefault(request.path, request)
    if ready and ready not in found and not any(r.sure for r in found.values()):
        why = "the path that answers once the server is ready"
        found[ready] = RequestFind(name=_name(ready), method="GET", path=ready, why=why, sure=True)
    chosen = sorted(found.values(), key=lambda r: not r.sure)[:_MOST]
    return tuple(_with_own_names(chosen))


def _of_route(route: Route, threads: Sequence[str]) -> RequestFind | None:
    if route.method != "GET" or route.needs or not route.plain or _NOT_ASKED.search(route.path):
        return None
    values, sure = "", not route.guarded
    if route.parameters:
        values, known = _values(route.parameters, threads)
        if not values:
            return None
        sure = sure and known
    why = f"{route.place} has the route"
    why += f", which asks who calls ({route.guarded})" if route.guarded else ""
    return RequestFind(
        name=_name(route.path),
        method="GET",
        path=route.path,
        why=why,
        sure=sure,
        values=values,
        status=route.status,
    )


def _values(parameters: tuple[str, ...], threads: Sequence[str]) -> tuple[str, bool]:
    """A SELECT for the one parameter that names a thread, and whether it surely does."""
    if len(parameters) != 1 or not threads:
        return "", False
    name = parameters[0]
    table, _, column = threads[0].rpartition(".")
    if name != column and not re.search(r"thread|conversation|session|chat", name, re.IGNORECASE):
        return "", False
    chosen = quote_name(column) if _needs_quotes(column) else column
    alias = "" if name == column else f" AS {name}"
    source = quote_name(table) if _needs_quotes(table) else table
    return f"SELECT {chosen}{alias} FROM {source} LIMIT 50", name == column


def _needs_quotes(name: str) -> bool:
    return not re.fullmatch(r"[A-Za-z_]\w*", name)


def _of_documents(sources: Sources) -> Iterator[RequestFind]:
    for file in sources.files:
        if _DOCUMENT.match(file.name):
            document = _read(sources, file)
            for path, operations in (document.get("paths") or {}).items():
                operation = operations.get("get") if isinstance(operations, dict) else None
                if isinstance(operation, dict) and "{" not in path and not _NOT_ASKED.search(path):
                    secured = bool(operation.get("security", document.get("security")))
                    asked = [*operations.get("parameters", ()), *operation.get("parameters", ())]
                    if not any(isinstance(p, dict) and p.get("required") for p in asked):
                        why = f"{file} describes it"
                        yield RequestFind(
                            name=_name(path), method="GET", path=path, why=why, sure=not secured
                        )


def _read(sources: Sources, file: PurePosixPath) -> dict[str, Any]:
    text = sources.text(file)
    try:
        document = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("paths"), dict) else {}


def _name(path: str) -> str:
    parts = [p for p in path.split("/") if p and not p.startswith("{")]
    named = [p for p in parts if p.lower() not in {"api", "v1", "v2", "v3"}]
    return "-".join(named or parts) or "root"


def _with_own_names(requests: Sequence[RequestFind]) -> Iterator[RequestFind]:
    taken: set[str] = set()
    for request in requests:
        name, number = request.name, 2
        while name in taken:
            name, number = f"{request.name}-{number}", number + 1
        taken.add(name)
        yield request.model_copy(update={"name": name})
