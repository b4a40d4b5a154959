"""Checkpoints, and looks at a file, for the tests of the runtime."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base.id import uuid6


def checkpoint(values: dict[str, Any] | None = None, *, step: int = 0) -> dict[str, Any]:
    """A checkpoint as a graph makes it, with an id of its own that sorts behind earlier ones."""
    values = {"messages": ["hello"]} if values is None else values
    return {
        "v": 4,
        "id": str(uuid6(clock_seq=step)),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, "00000000000000000000000000000001.0"),
        "versions_seen": {},
        "updated_channels": None,
    }


def config(thread_id: str = "t", ns: str = "", checkpoint_id: str | None = None) -> dict[str, Any]:
    """The configuration of a thread, or of one of its checkpoints."""
    found = {"thread_id": thread_id, "checkpoint_ns": ns}
    return {"configurable": found | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def metadata(step: int = 0, **more: Any) -> dict[str, Any]:
    return {"source": "loop", "step": step, "parents": {}, **more}


def table(path: Path, name: str) -> list[tuple[Any, ...]]:
    """All rows of a table, its columns in one order whatever the file has."""
    conn = sqlite3.connect(path)
    try:
        columns = sorted(row[1] for row in conn.execute(f"PRAGMA table_info({name})"))
        return sorted(conn.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall(), key=repr)
    finally:
        conn.close()


def lock_is_free(path: Path) -> bool:
    conn = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        conn.close()
    return True
