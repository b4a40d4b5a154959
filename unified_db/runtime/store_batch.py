"""What a batch of store operations does to a connection: LangGraph's own queries, in one trip.

The stock store's sync methods build and execute the queries, so results are what it gives. What
is different is when they run: embeddings are made before, never while a lock is held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langgraph.store.base import GetOp, ListNamespacesOp, Op, PutOp, SearchOp
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite import base as stock

# Releases before 3.1.2 match namespaces without a function of their own.
_NAMESPACE_FUNCTION: str | None = getattr(stock, "NS_MATCH_FUNCTION", None)

Vectors = Mapping[str, Sequence[float]]


class Batch:
    """Operations of one call to `batch`.

    Attributes:
        writes: True where something is stored, deleted, or has its time to live renewed.
        returns: True where somebody wants more than None back.
    """

    def __init__(self, store: Any, ops: Iterable[Op]) -> None:
        self._store = store
        grouped, self._count = stock._group_ops(ops)  # noqa: SLF001 - no public way to the same grouping
        self._gets: Any = grouped.get(GetOp, [])
        self._searches: Any = grouped.get(SearchOp, [])
        self._lists: Any = grouped.get(ListNamespacesOp, [])
        self._puts: Any = grouped.get(PutOp, [])
        renews = bool(store.ttl_config) and any(
            getattr(op, "refresh_ttl", False) for _, op in (*self._gets, *self._searches)
        )
        self.writes = bool(self._puts) or renews
        self.returns = bool(self._gets or self._searches or self._lists)

    def nothing(self) -> list[Any]:
        """The results of a batch that only stores."""
        return [None] * self._count

    def texts(self) -> list[str]:
        """What has to be embedded before the batch can run; each text once."""
        if not self._store.embeddings:
            return []
        found: dict[str, None] = {}
        if self._puts:
            _, request = self._store._prepare_batch_PUT_queries(self._puts)  # noqa: SLF001
            found.update((param[-1], None) for param in (request[1] if request else ()))
        if self._searches:
            _, requests = self._store._prepare_batch_search_queries(self._searches)  # noqa: SLF001
            found.update((query, None) for _, query in requests)
        return list(found)

    def run(self, conn: sqlite3.Connection, vectors: Vectors) -> list[Any]:
        """Execute everything in the caller's transaction, reads before writes, as in the stock store."""
        ready(conn, self._store)
        view: Any = _View(self._store, vectors)
        results = self.nothing()
        cursor = conn.cursor()
        cursor.row_factory = None
        if self._gets:
            SqliteStore._batch_get_ops(view, self._gets, results, cursor)  # noqa: SLF001
        if self._searches:
            SqliteStore._batch_search_ops(view, self._searches, results, cursor)  # noqa: SLF001
        if self._lists:
            SqliteStore._batch_list_namespaces_ops(view, self._lists, results, cursor)  # noqa: SLF001
        if self._puts:
            SqliteStore._batch_put_ops(view, self._puts, cursor)  # noqa: SLF001
        return results


class _View:
    """A store as its own sync methods see it, with embeddings that are made already."""

    def __init__(self, store: Any, vectors: Vectors) -> None:
        self._store = store
        self.embeddings = _Made(vectors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Made:
    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def embed_documents(self, texts: Sequence[str]) -> list[Sequence[float]]:
        return [self._vectors[text] for text in texts]


def sweep(conn: sqlite3.Connection) -> int:
    """Delete what has outlived its time; how many items."""
    sql = "DELETE FROM store WHERE expires_at IS NOT NULL AND expires_at < CURRENT_TIMESTAMP"
    return conn.execute(sql).rowcount


# --- Tables, functions and extensions --------------------------------------------------------------


def make_store_tables(conn: sqlite3.Connection, store: Any) -> None:
    """Bring the store's tables to the version of the installed LangGraph, inside the caller's transaction."""
    ready(conn, store)
    _migrate(conn, "store_migrations", store.MIGRATIONS)
    if store.index_config:
        _migrate(conn, "vector_migrations", store.VECTOR_MIGRATIONS)


def store_is_current(conn: sqlite3.Connection, store: Any) -> bool:
    """Whether `make_store_tables` has nothing to do. Reads only."""
    return _version(conn, "store_migrations") >= len(store.MIGRATIONS) - 1 and (
        not store.index_config or _version(conn, "vector_migrations") >= len(store.VECTOR_MIGRATIONS) - 1
    )


def _migrate(conn: sqlite3.Connection, table: str, migrations: Sequence[str]) -> None:
    conn.execute(f"CREATE TABLE IF NOT EXISTS {table} (v INTEGER PRIMARY KEY)")
    for version in range(_version(conn, table) + 1, len(migrations)):
        # Each is one statement; `executescript` would commit the transaction.
        conn.execute(migrations[version])
        conn.execute(f"INSERT INTO {table} (v) VALUES (?)", (version,))


def _version(conn: sqlite3.Connection, table: str) -> int:
    cursor = conn.cursor()
    cursor.row_factory = None
    if cursor.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
        return -1
    return int(cursor.execute(f"SELECT coalesce(max(v), -1) FROM {table}").fetchone()[0])


def ready(conn: sqlite3.Connection, store: Any) -> None:
    """Give *conn* the function and the extension that the store's queries need.

    A lent connection gets them once, with `setup`; ours remember what they have.
    """
    known: set[str] | None = getattr(conn, "known", None)
    wanted = "vectors" if store.index_config else "store"
    if known is None or wanted not in known:
        give_functions(conn, store)
    if known is not None:
        known.update({"store", wanted})


def give_functions(conn: sqlite3.Connection, store: Any) -> None:
    """Register the store's function, and load sqlite-vec where it searches by similarity."""
    if _NAMESPACE_FUNCTION is not None:
        conn.create_function(_NAMESPACE_FUNCTION, 2, stock._namespace_match, deterministic=True)  # noqa: SLF001
    if store.index_config:
        import sqlite_vec  # type: ignore[import-untyped]

        conn.enable_load_extension(True)
        sqlite_vec.load(conn)
        conn.enable_load_extension(False)
