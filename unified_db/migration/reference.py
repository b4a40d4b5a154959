"""The reference of `unify.toml`, made from the model that reads it; run as a program it prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from unified_db.migration.config import MigrationConfig

_TYPES = {"Path": "path", "str": "text", "bool": "true or false", "int": "number", "float": "number"}


def reference_markdown() -> str:
    """docs/configuration.md: every section and key with type, default and meaning."""
    lines = [
        "# unify.toml",
        "",
        "Made from the model by `make docs`; do not edit. An unknown key is an error.",
    ]
    for name, field in MigrationConfig.model_fields.items():
        if name != "file":
            lines += _section(name, field)
    return "\n".join(lines) + "\n"


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    model, repeated = _model_of(field.annotation)
    yield ""
    yield f"## `[[{name}]]`" if repeated else f"## `[{name}]`"
    yield ""
    yield (model.__doc__ or "").strip().splitlines()[0]
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    nested: list[tuple[str, FieldInfo]] = []
    for key, item in model.model_fields.items():
        if _is_model(item.annotation):
            nested.append((f"{name}.{key}", item))
            continue
        meaning = (item.description or "").replace("|", "\\|")
        yield f"| `{key}` | {_type(item.annotation)} | {_default(item)} | {meaning} |"
    for path, item in nested:
        yield from _section(path, item)


def _is_model(annotation: Any) -> bool:
    return _model_of(annotation)[0] is not None


def _model_of(annotation: Any) -> tuple[type[BaseModel] | Any, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    inner = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return (inner[0], True) if inner else (None, False)


def _type(annotation: Any) -> str:
    arguments = [a for a in get_args(annotation) if a not in (type(None), ...)]
    if arguments and all(isinstance(a, str) for a in arguments):
        return ", ".join(f"`{a}`" for a in arguments)
    if annotation is timedelta:
        return 'duration ("90s", "24h")'
    name = getattr(annotation, "__name__", "")
    if name in ("dict", "tuple"):
        return {"dict": "table", "tuple": "list of texts"}[name]
    if arguments:
        return _type(arguments[0])
    return _TYPES.get(name, name)


def _default(item: FieldInfo) -> str:
    value = item.get_default(call_default_factory=True)
    if item.is_required() or value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, timedelta):
        return f"`{value.total_seconds() / 3600:g}h`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
