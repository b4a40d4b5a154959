"""What `get_delta_channel_history` answers: the writes of a channel back to its last stored value.

The chain of parents is followed, not the order of ids: a fork's siblings do not take part, and
ids are in order only within one process. (LangGraph calls this part beta.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from unified_db.runtime.readers import snapshot
from unified_db.runtime.rows import Place, StoredWrite, pending_writes

_STEP = (
    "SELECT parent_checkpoint_id, type, checkpoint FROM checkpoints "
    "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
)
_NEWEST = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?"
_WRITES = (
    "SELECT task_id, channel, type, value, {task_path}, idx FROM writes "
    "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
)


@dataclass
class _Channel:
    writes_newest_first: list[Any] = field(default_factory=list)
    seed: list[Any] = field(default_factory=list)


def read_history(
    conn: sqlite3.Connection,
    place: Place,
    channels: Sequence[str],
    serde: SerializerProtocol,
    *,
    has_task_path: bool,
) -> Mapping[str, Any]:
    """The history of *channels* at *place*, read as of one moment.

    Returns:
        For each channel `writes`, oldest first, and `seed`, the stored value before them, where
        there is one.

    Decodes one checkpoint after the other until every channel has its seed.
    """
    found = {channel: _Channel() for channel in channels}
    with snapshot(conn):
        _walk(conn, place, found, serde, has_task_path=has_task_path)
    return {
        name: {
            "writes": channel.writes_newest_first[::-1],
            **({"seed": channel.seed[0]} if channel.seed else {}),
        }
        for name, channel in found.items()
    }


def _walk(
    conn: sqlite3.Connection,
    place: Place,
    found: dict[str, _Channel],
    serde: SerializerProtocol,
    *,
    has_task_path: bool,
) -> None:
    cursor = conn.cursor()
    cursor.row_factory = None
    if not place.checkpoint_id:
        newest = cursor.execute(_NEWEST, place[:2]).fetchone()[0]
        place = place._replace(checkpoint_id=newest or "")
    # The target's own writes are still pending, and its own values are what is being asked for.
    row = cursor.execute(_STEP, place).fetchone()
    seeking = set(found)
    walked = {place.checkpoint_id}
    writes_sql = _WRITES.format(task_path="task_path" if has_task_path else "''")
    while row is not None and row[0] and row[0] not in walked and seeking:
        place = place._replace(checkpoint_id=row[0])
        walked.add(row[0])
        row = cursor.execute(_STEP, place).fetchone()
        if row is None:
            return
        stored = [StoredWrite(*w) for w in cursor.execute(writes_sql, place) if w[1] in seeking]
        for write in reversed(pending_writes(stored, serde)):
            found[write[1]].writes_newest_first.append(write)
        values = serde.loads_typed((row[1], row[2])).get("channel_values") or {}
        for name in seeking & values.keys():
            found[name].seed.append(values[name])
            seeking.discard(name)
