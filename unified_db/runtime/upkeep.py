"""Deleting, copying and pruning LangGraph threads, as functions of a connection in a transaction.

A `DeltaChannel` keeps its value as a chain of writes back to a snapshot, so pruning a thread, or
deleting one of its runs, leaves the ancestors that the remaining checkpoints are rebuilt from.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from unified_db.runtime.work import Call

_COUNTERS = "$.counters_since_delta_snapshot"
# A number that JSON has no word for (NaN) makes a row's metadata no JSON to SQLite before 3.42.
_METADATA = "CASE WHEN json_valid(CAST(metadata AS TEXT)) THEN CAST(metadata AS TEXT) ELSE '{}' END"
_BY_PLACE = "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"

Namespace = tuple[str, str]


def delete_thread(thread_id: str) -> Call:
    """Delete everything of a thread."""

    def run(conn: sqlite3.Connection) -> None:
        for table in ("checkpoints", "writes"):
            conn.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,))

    return Call(run)


def copy_thread(source: str, target: str) -> Call:
    """Copy everything of thread *source* to *target*: the whole chain, so no channel is cut off."""

    def run(conn: sqlite3.Connection) -> None:
        for table in ("checkpoints", "writes"):
            cursor = conn.execute("SELECT name FROM pragma_table_info(?)", (table,))
            columns = [row[0] for row in cursor if row[0] != "thread_id"]
            names = ", ".join(f'"{name}"' for name in columns)
            conn.execute(
                f"INSERT OR REPLACE INTO {table} (thread_id, {names}) "
                f"SELECT ?, {names} FROM {table} WHERE thread_id = ?",
                (target, source),
            )

    return Call(run)


def prune(thread_ids: Sequence[str], strategy: str, serde: SerializerProtocol) -> Call:
    """Keep the newest checkpoint of each namespace, and what its delta channels need; or nothing.

    Raises:
        ValueError: *strategy* is neither "keep_latest" nor "delete".
    """
    if strategy not in ("keep_latest", "delete"):
        raise ValueError(f'strategy is {strategy!r}; it must be "keep_latest" or "delete"')

    def run(conn: sqlite3.Connection) -> None:
        for thread_id in thread_ids:
            if strategy == "delete":
                delete_thread(str(thread_id)).function(conn)
                continue
            for namespace, ids in _ids_by_namespace(conn, str(thread_id)).items():
                newest = max(ids)
                _delete_unneeded(conn, namespace, ids - {newest}, {newest}, serde)

    return Call(run)


def delete_for_runs(run_ids: Sequence[str], serde: SerializerProtocol) -> Call:
    """Delete what runs wrote, save for what delta channels of the remaining checkpoints need."""

    def run(conn: sqlite3.Connection) -> None:
        doomed: dict[Namespace, set[str]] = defaultdict(set)
        for run_id in run_ids:
            sql = (
                "SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints "
                f"WHERE json_extract({_METADATA}, '$.run_id') = ?"
            )
            for thread_id, ns, checkpoint_id in conn.execute(sql, (str(run_id),)):
                doomed[thread_id, ns].add(checkpoint_id)
        for namespace, ids in doomed.items():
            remaining = _ids_by_namespace(conn, namespace[0])[namespace] - ids
            _delete_unneeded(conn, namespace, ids, remaining, serde)

    return Call(run)


def _ids_by_namespace(conn: sqlite3.Connection, thread_id: str) -> Mapping[Namespace, set[str]]:
    found: dict[Namespace, set[str]] = defaultdict(set)
    sql = "SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?"
    for ns, checkpoint_id in conn.execute(sql, (thread_id,)):
        found[thread_id, ns].add(checkpoint_id)
    return found


def _delete_unneeded(
    conn: sqlite3.Connection,
    namespace: Namespace,
    doomed: set[str],
    remaining: Iterable[str],
    serde: SerializerProtocol,
) -> None:
    needed = _ancestors_of_deltas(conn, namespace, remaining, serde)
    places = [(*namespace, checkpoint_id) for checkpoint_id in doomed - needed]
    for table in ("checkpoints", "writes"):
        conn.executemany(f"DELETE FROM {table} {_BY_PLACE}", places)


# --- Delta channels ------------------------------------------------------------------------------


def _ancestors_of_deltas(
    conn: sqlite3.Connection, namespace: Namespace, heads: Iterable[str], serde: SerializerProtocol
) -> set[str]:
    """The ancestors that the delta channels of *heads* are rebuilt from; most threads have none."""
    deltas = _delta_channels(conn, namespace)
    if not deltas:
        return set()
    values_of = _reader_of_values(conn, namespace, serde)
    needed: set[str] = set()
    for head in heads:
        found = values_of(head)
        if found is None:
            continue
        channels, parent = found
        missing = deltas - channels
        walked = {head}
        while missing and parent and parent not in walked:
            walked.add(parent)
            found = values_of(parent)
            if found is None:
                break
            needed.add(parent)
            channels, parent = found
            missing = missing - channels
    return needed


def _delta_channels(conn: sqlite3.Connection, namespace: Namespace) -> frozenset[str]:
    """Channels that LangGraph counted updates of since their last snapshot: delta channels only."""
    sql = (
        f"SELECT json_extract({_METADATA}, ?) FROM checkpoints "
        f"WHERE thread_id = ? AND checkpoint_ns = ? AND json_type({_METADATA}, ?) = 'object'"
    )
    names: set[str] = set()
    for (counters,) in conn.execute(sql, (_COUNTERS, *namespace, _COUNTERS)):
        names.update(json.loads(counters))
    return frozenset(names)


def _reader_of_values(
    conn: sqlite3.Connection, namespace: Namespace, serde: SerializerProtocol
) -> Callable[[str], tuple[frozenset[str], str | None] | None]:
    """A function that gives the channels with a value, and the parent, of a checkpoint."""
    sql = f"SELECT type, checkpoint, parent_checkpoint_id FROM checkpoints {_BY_PLACE}"
    known: dict[str, tuple[frozenset[str], str | None] | None] = {}

    def values_of(checkpoint_id: str) -> tuple[frozenset[str], str | None] | None:
        if checkpoint_id not in known:
            row = conn.execute(sql, (*namespace, checkpoint_id)).fetchone()
            known[checkpoint_id] = None if row is None else (_channels(serde, row), row[2])
        return known[checkpoint_id]

    return values_of


def _channels(serde: SerializerProtocol, row: Sequence[Any]) -> frozenset[str]:
    return frozenset(serde.loads_typed((row[0], row[1])).get("channel_values") or ())
