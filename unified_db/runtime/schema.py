"""LangGraph's tables for SQLAlchemy, so that a query can join an application's rows to them.

```python
threads = thread_summaries().subquery()
select(Conversation.title, threads.c.checkpoints).join(
    threads, threads.c.thread_id == Conversation.thread_id
)
```

The tables have a `MetaData` of their own: an application's `create_all` and Alembic do not see
them. LangGraph creates them; `metadata.create_all(engine)` makes the same ones.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    TIMESTAMP,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    case,
    func,
    select,
    text,
)

__all__ = ["checkpoints", "metadata", "store", "store_vectors", "thread_summaries", "writes"]

metadata = MetaData()

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("thread_id", Text, nullable=False),
    Column("checkpoint_ns", Text, nullable=False, server_default=""),
    Column("checkpoint_id", Text, nullable=False),
    Column("parent_checkpoint_id", Text),
    Column("type", Text),
    Column("checkpoint", LargeBinary),
    Column("metadata", LargeBinary, key="metadata_"),
    PrimaryKeyConstraint("thread_id", "checkpoint_ns", "checkpoint_id"),
)

writes = Table(
    "writes",
    metadata,
    Column("thread_id", Text, nullable=False),
    Column("checkpoint_ns", Text, nullable=False, server_default=""),
    Column("checkpoint_id", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("task_path", Text, nullable=False, server_default=""),
    Column("idx", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("type", Text),
    Column("value", LargeBinary),
    PrimaryKeyConstraint("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"),
)

_now = text("CURRENT_TIMESTAMP")

store = Table(
    "store",
    metadata,
    # The namespace, its parts joined with dots.
    Column("prefix", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("created_at", TIMESTAMP, server_default=_now),
    Column("updated_at", TIMESTAMP, server_default=_now),
    Column("expires_at", TIMESTAMP),
    Column("ttl_minutes", REAL),
    PrimaryKeyConstraint("prefix", "key"),
    Index("store_prefix_idx", "prefix"),
    Index("idx_store_expires_at", "expires_at", sqlite_where=text("expires_at IS NOT NULL")),
)

store_vectors = Table(
    "store_vectors",
    metadata,
    Column("prefix", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("field_name", Text, nullable=False),
    Column("embedding", LargeBinary),
    Column("created_at", TIMESTAMP, server_default=_now),
    Column("updated_at", TIMESTAMP, server_default=_now),
    PrimaryKeyConstraint("prefix", "key", "field_name"),
    ForeignKeyConstraint(["prefix", "key"], ["store.prefix", "store.key"], ondelete="CASCADE"),
)


def thread_summaries() -> Select[tuple[str, str | None, int, str, str]]:
    """Every LangGraph thread with its newest checkpoint, from the index alone: no blob is read.

    Returns:
        `thread_id`; `checkpoint_id`, the newest one of the graph itself (not of a subgraph);
        `checkpoints`, how many there are; `first_id` and `last_id`, of all namespaces. Times are in
        the ids: `unified_db.runtime.threads.time_of`.

    Reads the whole primary key: some 10 ms for 32,000 checkpoints.
    """
    own = case((checkpoints.c.checkpoint_ns == "", checkpoints.c.checkpoint_id))
    return select(
        checkpoints.c.thread_id,
        func.max(own).label("checkpoint_id"),
        func.count().label("checkpoints"),
        func.min(checkpoints.c.checkpoint_id).label("first_id"),
        func.max(checkpoints.c.checkpoint_id).label("last_id"),
    ).group_by(checkpoints.c.thread_id)
