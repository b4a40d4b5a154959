"""Names of the libraries that open SQLite files: LangGraph's savers and stores, ours, engines, drivers."""

from __future__ import annotations

from typing import NamedTuple

from unified_db.migration.discovery.finds import Role


class Opener(NamedTuple):
    """What a call of a library's name opens.

    Attributes:
        argument: The names that the path or URL may be passed by.
    """

    role: Role
    is_async: bool
    argument: tuple[str, ...]


_SAVERS: dict[str, Opener] = {
    "langgraph.checkpoint.sqlite.SqliteSaver": Opener("checkpoints", False, ("conn",)),
    "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver": Opener("checkpoints", True, ("conn",)),
    "langgraph.store.sqlite.SqliteStore": Opener("store", False, ("conn",)),
    "langgraph.store.sqlite.base.SqliteStore": Opener("store", False, ("conn",)),
    "langgraph.store.sqlite.AsyncSqliteStore": Opener("store", True, ("conn",)),
    "langgraph.store.sqlite.aio.AsyncSqliteStore": Opener("store", True, ("conn",)),
}
# What each is exchanged for.
REPLACEMENTS: dict[str, str] = {name: f"unified_db.Unified{name.rpartition('.')[2]}" for name in _SAVERS}
_OURS: dict[str, Opener] = {
    "UnifiedSqliteSaver": Opener("checkpoints", False, ("conn",)),
    "UnifiedAsyncSqliteSaver": Opener("checkpoints", True, ("conn",)),
    "UnifiedSqliteStore": Opener("store", False, ("conn",)),
    "UnifiedAsyncSqliteStore": Opener("store", True, ("conn",)),
}
_HOMES = (
    "unified_db",
    "unified_db.runtime.saver",
    "unified_db.runtime.sync_saver",
    "unified_db.runtime.store",
)
SAVERS: dict[str, Opener] = _SAVERS | {f"{h}.{n}": o for h in _HOMES for n, o in _OURS.items()}
_URL = ("url", "name_or_url")
ENGINES: dict[str, Opener] = {
    "sqlalchemy.create_engine": Opener("engine", False, _URL),
    "sqlalchemy.engine.create_engine": Opener("engine", False, _URL),
    "sqlalchemy.create_async_engine": Opener("engine", True, _URL),
    "sqlalchemy.ext.asyncio.create_async_engine": Opener("engine", True, _URL),
    "sqlalchemy.ext.asyncio.engine.create_async_engine": Opener("engine", True, _URL),
    "sqlmodel.create_engine": Opener("engine", False, _URL),
    "sqlmodel.ext.asyncio.create_async_engine": Opener("engine", True, _URL),
    "databases.Database": Opener("engine", True, _URL),
    "langchain_community.utilities.SQLDatabase.from_uri": Opener("engine", False, ("database_uri",)),
    "langchain_community.utilities.sql_database.SQLDatabase.from_uri": Opener(
        "engine", False, ("database_uri",)
    ),
    "sqlite_utils.Database": Opener("engine", False, ("filename_or_conn",)),
}
CONNECTIONS: dict[str, Opener] = {
    "sqlite3.connect": Opener("engine", False, ("database",)),
    "sqlite3.dbapi2.connect": Opener("engine", False, ("database",)),
    "pysqlite3.connect": Opener("engine", False, ("database",)),
    "aiosqlite.connect": Opener("engine", True, ("database",)),
    "aiosqlite.core.connect": Opener("engine", True, ("database",)),
    "apsw.Connection": Opener("engine", False, ("filename",)),
    "unified_db.UnifiedDatabase": Opener("engine", True, ("path",)),
    "unified_db.runtime.database.UnifiedDatabase": Opener("engine", True, ("path",)),
}
FROM_STRING = ".from_conn_string"
OPENERS: dict[str, Opener] = (
    SAVERS
    | {f"{name}{FROM_STRING}": o._replace(argument=("conn_string",)) for name, o in SAVERS.items()}
    | ENGINES
    | CONNECTIONS
)
