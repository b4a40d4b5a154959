"""Rows of LangGraph's tables to and from its objects, and the queries that find them.

Nothing here opens a connection, waits or commits. What is written is what the stock savers
write, column by column, and every row that a release since 1.0 wrote can be read.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from unified_db.runtime.work import Insert, Rows

PUT = Insert(
    "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, "
    "parent_checkpoint_id, type, checkpoint, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)",
    "checkpoints",
)
_PUT_WRITES = (
    "INSERT OR {conflict} INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, "
    "task_path, idx, channel, type, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Special channels have fixed places that a later write replaces; an ordinary write that is there
# already came from an earlier attempt of the same task.
REPLACE_WRITES = Insert(_PUT_WRITES.format(conflict="REPLACE"), "writes")
IGNORE_WRITES = Insert(_PUT_WRITES.format(conflict="IGNORE"), "writes")

# One query, so that a checkpoint and its pending writes are of one moment and come in one trip.
_GET = """
SELECT * FROM (
    SELECT 0, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata, NULL
    FROM checkpoints WHERE thread_id = ?1 AND checkpoint_ns = ?2 {which}
)
UNION ALL
SELECT 1, task_id, channel, type, value, {task_path}, idx FROM writes
WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = {id}
"""
_NEWEST = "ORDER BY checkpoint_id DESC LIMIT 1"
_NEWEST_ID = "(SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1 AND checkpoint_ns = ?2)"

GET_NEWEST, GET_NEWEST_OLD = (
    _GET.format(which=_NEWEST, task_path=path, id=_NEWEST_ID) for path in ("task_path", "''")
)
GET_ONE, GET_ONE_OLD = (
    _GET.format(which="AND checkpoint_id = ?3", task_path=path, id="?3") for path in ("task_path", "''")
)

_PLAIN_KEY = re.compile(r"[a-zA-Z0-9_.-]+")


class Place(NamedTuple):
    """The key of a checkpoint."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str


class StoredCheckpoint(NamedTuple):
    """A row of `checkpoints`, serialized."""

    place: Place
    parent_id: str | None
    type: str
    checkpoint: bytes
    metadata: bytes | str | None


class StoredWrite(NamedTuple):
    """A row of `writes`, serialized."""

    task_id: str
    channel: str
    type: str
    value: bytes
    task_path: str
    idx: int


def place_of(config: RunnableConfig) -> Place:
    """The checkpoint that *config* names; an empty id stands for the newest one."""
    configurable = config["configurable"]
    return Place(
        str(configurable["thread_id"]),
        configurable.get("checkpoint_ns") or "",
        get_checkpoint_id(config) or "",
    )


def config_of(place: Place, **more: Any) -> RunnableConfig:
    """The configuration that names *place*."""
    return {"configurable": {**place._asdict(), **more}}


# --- To rows -----------------------------------------------------------------------------------


def checkpoint_row(
    config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, serde: SerializerProtocol
) -> Rows:
    """What `put` writes."""
    configurable = config["configurable"]
    type_, blob = serde.dumps_typed(checkpoint)
    stored = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False)
    row = (
        str(configurable["thread_id"]),
        configurable["checkpoint_ns"],
        checkpoint["id"],
        configurable.get("checkpoint_id"),
        type_,
        blob,
        stored.encode("utf-8", "ignore"),
    )
    return Rows(PUT, (row,))


def saved_config(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    """What `put` returns."""
    configurable = config["configurable"]
    return {
        "configurable": {
            "thread_id": configurable["thread_id"],
            "checkpoint_ns": configurable["checkpoint_ns"],
            "checkpoint_id": checkpoint["id"],
        }
    }


def write_rows(
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task: tuple[str, str],
    serde: SerializerProtocol,
) -> Rows:
    """What `put_writes` writes; *task* is the task's id and path."""
    configurable = config["configurable"]
    key = (
        str(configurable["thread_id"]),
        str(configurable["checkpoint_ns"]),
        str(configurable["checkpoint_id"]),
        *task,
    )
    special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
    rows = [
        (*key, WRITES_IDX_MAP.get(channel, place), channel, *serde.dumps_typed(value))
        for place, (channel, value) in enumerate(writes)
    ]
    return Rows(REPLACE_WRITES if special else IGNORE_WRITES, rows)


# --- From rows ---------------------------------------------------------------------------------


def find_checkpoint(
    conn: sqlite3.Connection, place: Place, *, has_task_path: bool = True
) -> tuple[StoredCheckpoint, list[StoredWrite]] | None:
    """The checkpoint at *place*, or the newest one there, with its pending writes.

    One query, so both are of one moment.
    """
    if place.checkpoint_id:
        sql, params = (GET_ONE if has_task_path else GET_ONE_OLD), tuple(place)
    else:
        sql, params = (GET_NEWEST if has_task_path else GET_NEWEST_OLD), place[:2]
    cursor = conn.cursor()
    cursor.row_factory = None
    rows = cursor.execute(sql, params).fetchall()
    found = next((row for row in rows if row[0] == 0), None)
    if found is None:
        return None
    _, checkpoint_id, parent_id, type_, blob, metadata, _ = found
    stored = StoredCheckpoint(place._replace(checkpoint_id=checkpoint_id), parent_id, type_, blob, metadata)
    return stored, [StoredWrite(*row[1:]) for row in rows if row[0] == 1]


def checkpoint_exists(conn: sqlite3.Connection, place: Place) -> bool:
    """Whether there is a checkpoint at *place*."""
    sql = "SELECT 1 FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
    return conn.execute(sql, place).fetchone() is not None


def checkpoint_tuple(
    stored: StoredCheckpoint,
    writes: Iterable[StoredWrite],
    serde: SerializerProtocol,
    *,
    config: RunnableConfig | None = None,
) -> CheckpointTuple:
    """Decode a checkpoint and its pending writes.

    Args:
        stored: Its row.
        writes: Rows of `writes`, in any order.
        serde: What they were written with.
        config: What the caller asked with, where it named the checkpoint: given back as it is.
    """
    place = stored.place
    return CheckpointTuple(
        config if config is not None else config_of(place),
        cast("Checkpoint", serde.loads_typed((stored.type, stored.checkpoint))),
        load_metadata(stored.metadata),
        config_of(place._replace(checkpoint_id=stored.parent_id)) if stored.parent_id else None,
        pending_writes(writes, serde),
    )


def load_metadata(metadata: bytes | str | None) -> CheckpointMetadata:
    """The metadata of a checkpoint; empty where the column is."""
    return cast("CheckpointMetadata", json.loads(metadata) if metadata is not None else {})


def pending_writes(writes: Iterable[StoredWrite], serde: SerializerProtocol) -> list[PendingWrite]:
    """Decode *writes* in the order in which a live run applies them: by path, task and index."""
    in_order = sorted(writes, key=lambda w: (w.task_path, w.task_id, w.idx))
    return [(w.task_id, w.channel, serde.loads_typed((w.type, w.value))) for w in in_order]


# --- WHERE -------------------------------------------------------------------------------------


class Where(NamedTuple):
    """Terms to be joined with AND, and their parameters."""

    terms: list[str]
    params: list[Any]

    @property
    def sql(self) -> str:
        """`WHERE ...`, or nothing."""
        return "WHERE " + " AND ".join(self.terms) if self.terms else ""


def search_where(
    config: RunnableConfig | None, filter_: dict[str, Any] | None, before: RunnableConfig | None
) -> Where:
    """Which checkpoints a listing asks for. Keys and values of *filter_* are parameters, never text."""
    where = Where([], [])
    if config is not None:
        configurable = config["configurable"]
        _require(where, "thread_id = ?", str(configurable["thread_id"]))
        if (ns := configurable.get("checkpoint_ns")) is not None:
            _require(where, "checkpoint_ns = ?", ns)
        if checkpoint_id := get_checkpoint_id(config):
            _require(where, "checkpoint_id = ?", checkpoint_id)
    for key, value in (filter_ or {}).items():
        _require_metadata(where, key, value)
    if before is not None:
        _require(where, "checkpoint_id < ?", get_checkpoint_id(before))
    return where


def _require(where: Where, term: str, *params: Any) -> None:
    where.terms.append(term)
    where.params.extend(params)


def _require_metadata(where: Where, key: str, value: Any) -> None:
    operator, wanted = _compared(value)
    if _PLAIN_KEY.fullmatch(key):
        # As the stock savers have it: a dot leads into nested objects.
        _require(where, f"json_extract(CAST(metadata AS TEXT), ?) {operator} ?", f"$.{key}", wanted)
    else:
        # Other keys are looked for as they are; SQLite's paths cannot quote every character.
        each = "(SELECT value FROM json_each(CAST(metadata AS TEXT)) WHERE key = ?)"
        _require(where, f"{each} {operator} ?", key, wanted)


def _compared(value: Any) -> tuple[str, Any]:
    if value is None:
        return "IS", None
    if isinstance(value, (str, int, float)):
        return "=", value
    if isinstance(value, (dict, list)):
        # json_extract gives objects and lists without spaces, and characters as they are stored.
        return "=", json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "=", str(value)
