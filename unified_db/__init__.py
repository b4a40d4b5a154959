"""unify-db's runtime: one SQLite file for an application's rows and its LangGraph checkpoints.

The names below are imported on first use: the command starts in a fraction of the time that
LangGraph takes to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_db.runtime.database import UnifiedDatabase
    from unified_db.runtime.saver import UnifiedAsyncSqliteSaver, UnifiedSqliteSaver
    from unified_db.runtime.store import UnifiedAsyncSqliteStore, UnifiedSqliteStore

__all__ = [
    "UnifiedAsyncSqliteSaver",
    "UnifiedAsyncSqliteStore",
    "UnifiedDatabase",
    "UnifiedSqliteSaver",
    "UnifiedSqliteStore",
]

_HOMES = {
    "UnifiedDatabase": "unified_db.runtime.database",
    "UnifiedAsyncSqliteSaver": "unified_db.runtime.saver",
    "UnifiedAsyncSqliteStore": "unified_db.runtime.store",
    "UnifiedSqliteSaver": "unified_db.runtime.saver",
    "UnifiedSqliteStore": "unified_db.runtime.store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
