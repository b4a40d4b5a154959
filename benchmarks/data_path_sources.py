"""The files that `data_path.py` measures with: checkpoints by LangGraph's own saver, an application's rows.

Made once for each size and kept; the same bytes of text on every machine, random enough that
nothing profits from repetition. Conversations grow: each checkpoint holds all messages so far.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GB = 1_000_000_000

_STEPS = 40  # checkpoints of one conversation
_AT_A_TIME = 8  # conversations that go on together, so that their rows lie interleaved
_MESSAGE_CHARS = 850

_APPLICATION = """
PRAGMA synchronous=OFF;
CREATE TABLE users (
  id INTEGER PRIMARY KEY, email VARCHAR(120) NOT NULL UNIQUE, name VARCHAR(80), created_at DATETIME NOT NULL
);
CREATE TABLE conversations (
  id VARCHAR(36) PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), title VARCHAR(200),
  created_at DATETIME NOT NULL
);
CREATE INDEX ix_conversations_user_id ON conversations (user_id);
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id VARCHAR(36) NOT NULL REFERENCES conversations (id),
  role VARCHAR(16) NOT NULL, content TEXT, tokens INTEGER, cost NUMERIC, created_at DATETIME NOT NULL
);
CREATE INDEX ix_messages_conversation_id ON messages (conversation_id, created_at);
CREATE TABLE events (kind VARCHAR(32), user_id INTEGER, weight FLOAT, at DATETIME);
CREATE INDEX ix_events_at ON events (at);
"""


@dataclass(frozen=True)
class Sources:
    """Two files of one size.

    Attributes:
        size_bytes: Of both together.
    """

    name: str
    application: Path
    checkpoints: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        """Both files."""
        return self.application, self.checkpoints

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return sum(p.stat().st_size for p in self.paths)


def make_sources(folder: Path, name: str, *, application_gb: float, checkpoints_gb: float) -> Sources:
    """The sources called *name* in *folder*, made now where they are not there yet."""
    home = folder / name
    made = Sources(name, home / "app.db", home / "checkpoints.sqlite")
    home.mkdir(parents=True, exist_ok=True)
    if not made.application.exists():
        _complete(made.application, _write_application, int(application_gb * GB))
    if not made.checkpoints.exists():
        _complete(made.checkpoints, _write_checkpoints, int(checkpoints_gb * GB))
    return made


def _complete(path: Path, write: Any, size_bytes: int) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial, check_same_thread=False, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=OFF")
        write(conn, size_bytes)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    partial.replace(path)


def _write_checkpoints(conn: sqlite3.Connection, size_bytes: int) -> None:
    from langgraph.checkpoint.sqlite import SqliteSaver

    saver = SqliteSaver(conn)
    saver.setup()
    chance = random.Random(size_bytes)
    while _size(conn) < size_bytes:
        conversations = [_converse(saver, chance) for _ in range(_AT_A_TIME)]
        for _ in range(_STEPS):
            for conversation in conversations:
                next(conversation)


def _converse(saver: Any, chance: random.Random) -> Iterator[None]:
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.base.id import uuid6

    config: Any = {"configurable": {"thread_id": _uuid(chance), "checkpoint_ns": ""}}
    messages: list[Any] = []
    for step in range(_STEPS):
        kind = AIMessage if step % 2 else HumanMessage
        message = kind(content=_text(chance, _MESSAGE_CHARS), id=_uuid(chance))
        messages.append(message)
        checkpoint = empty_checkpoint() | {
            "id": str(uuid6(clock_seq=step)),
            "channel_values": {"messages": list(messages), "turn": step},
            "channel_versions": {"messages": f"{step:032}", "turn": f"{step:032}"},
        }
        config = saver.put(config, checkpoint, {"source": "loop", "step": step, "parents": {}}, {})
        saver.put_writes(config, [("messages", message), ("turn", step)], _uuid(chance))
        yield


def _write_application(conn: sqlite3.Connection, size_bytes: int) -> None:
    conn.executescript(_APPLICATION)
    chance = random.Random(size_bytes)
    users = 0
    while _size(conn) < size_bytes:
        conn.execute("BEGIN")
        for _ in range(100):
            users += 1
            _write_user(conn, chance, users)
        conn.execute("COMMIT")


def _write_user(conn: sqlite3.Connection, chance: random.Random, user: int) -> None:
    moment = f"2026-{1 + user % 12:02}-{1 + user % 28:02} 12:{user % 60:02}:00.{user % 1000000:06}"
    conn.execute(
        "INSERT INTO users VALUES (?, ?, ?, ?)", (user, f"user{user}@example.org", _text(chance, 12), moment)
    )
    for _ in range(3):
        conversation = _uuid(chance)
        conn.execute(
            "INSERT INTO conversations VALUES (?, ?, ?, ?)", (conversation, user, _text(chance, 30), moment)
        )
        conn.executemany(
            "INSERT INTO messages (conversation_id, role, content, tokens, cost, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (conversation, ("user", "assistant")[i % 2], _text(chance, 90), i * 7, i / 3, moment)
                for i in range(12)
            ],
        )
    conn.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?)",
        [("click", user, chance.random() if i % 5 else None, moment) for i in range(20)],
    )


def _size(conn: sqlite3.Connection) -> int:
    return int(
        conn.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()[0]
    )


def _text(chance: random.Random, chars: int) -> str:
    return f"{chance.getrandbits(4 * chars):0{chars}x}"


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
