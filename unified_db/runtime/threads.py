"""Which LangGraph threads there are, and when they were last used, without reading a state."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

# Reads the primary key's index from end to end and nothing of the table: states stay where they are.
_THREADS = """
SELECT thread_id, max(CASE WHEN checkpoint_ns = '' THEN checkpoint_id END), count(*),
       min(checkpoint_id), max(checkpoint_id) AS newest
FROM checkpoints GROUP BY thread_id ORDER BY newest DESC, thread_id LIMIT ? OFFSET ?
"""

# The Gregorian reform, from which the times in a UUID are counted.
_UUID_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
_TIME_ORDERED = 6


@dataclass(frozen=True)
class ThreadSummary:
    """A LangGraph thread.

    Attributes:
        thread_id: Its id.
        checkpoint_id: Its newest checkpoint; None where only subgraphs have any.
        checkpoints: How many it has, subgraphs included.
        first_id: Its first checkpoint, of the graph or a subgraph.
        last_id: Its last one.
    """

    thread_id: str
    checkpoint_id: str | None
    checkpoints: int
    first_id: str
    last_id: str

    @property
    def created_at(self) -> datetime | None:
        """When its first checkpoint was made; None for ids that hold no time."""
        return time_of(self.first_id)

    @property
    def updated_at(self) -> datetime | None:
        """When its last checkpoint was made; None for ids that hold no time."""
        return time_of(self.last_id)


def list_threads(
    conn: sqlite3.Connection, *, limit: int | None = None, offset: int = 0
) -> list[ThreadSummary]:
    """The threads of a database, the most recently used first."""
    rows = conn.execute(_THREADS, (-1 if limit is None else limit, offset))
    return [ThreadSummary(*row) for row in rows]


def time_of(checkpoint_id: str) -> datetime | None:
    """When a checkpoint was made: LangGraph's ids are UUIDs of version 6, which begin with the time."""
    try:
        made = UUID(checkpoint_id)
    except ValueError:
        return None
    if made.version != _TIME_ORDERED:
        return None
    ticks = (made.int >> 80) << 12 | (made.int >> 64) & 0xFFF
    return _UUID_EPOCH + timedelta(microseconds=ticks // 10)
