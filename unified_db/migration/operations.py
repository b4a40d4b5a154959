"""LangGraph's own operations on the old checkpoint file and on the unified file, timed side by side.

On copies, with threads of our own beside those that are there, so that no value of the
application is touched. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from unified_db.migration.load import SIDES, Answer, Side, Tally

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

OPERATIONS = ("put", "get", "list", "resume")
_LISTED = 10
_MESSAGES = 20


def measure_operations(old: Path, unified: Path, tally: Tally, *, rounds: int, seed: int) -> None:
    """Put, get, list and resume *rounds* times on both files, interleaved in random order.

    *old* is used through LangGraph's stock saver, *unified* through ours, both freshly opened.
    An operation that raises or returns something else than was put counts as an error.
    """
    # A caller may sit in an event loop itself, where another cannot be run.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _measure(old, unified, tally, rounds=rounds, random=Random(seed))).result()  # noqa: S311 -- an order


async def _measure(old: Path, unified: Path, tally: Tally, *, rounds: int, random: Random) -> None:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from unified_db import UnifiedAsyncSqliteSaver

    async with (
        AsyncSqliteSaver.from_conn_string(str(old)) as before,
        UnifiedAsyncSqliteSaver.from_conn_string(str(unified)) as after,
    ):
        users: dict[Side, _User] = {"before": _User(before), "after": _User(after)}
        for number in range(rounds + 1):
            for operation in OPERATIONS:
                for side in random.sample(SIDES, 2):
                    answer = await _time(getattr(users[side], operation))
                    # The first round opens, sets up and fills caches.
                    if number or answer.problem:
                        tally.add(side, operation, 1, answer)


async def _time(operation: Callable[[], Awaitable[bool]]) -> Answer:
    begun = time.perf_counter()
    try:
        correct = await operation()
    except Exception as error:  # noqa: BLE001 -- whatever it raises, it is what the gate wants to know
        return Answer(0.0, type(error).__name__)
    return Answer((time.perf_counter() - begun) * 1000, "" if correct else "another answer than was put")


class _User:
    """Uses one saver as a graph would; each method is one operation, true where its answer is right."""

    def __init__(self, saver: AsyncSqliteSaver) -> None:
        self._saver = saver
        self._thread: Any = {"configurable": {"thread_id": f"unify-db-{uuid.uuid4()}", "checkpoint_ns": ""}}
        self._config: Any = self._thread
        self._newest = ""
        self._count = 0

    async def put(self) -> bool:
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": ["How long is a message?"] * _MESSAGES}
        self._newest, self._count = checkpoint["id"], self._count + 1
        self._config = await self._saver.aput(
            self._config, checkpoint, {"source": "loop", "step": self._count}, {}
        )
        return bool(self._config["configurable"]["checkpoint_id"] == self._newest)

    async def get(self) -> bool:
        found = await self._saver.aget_tuple(self._thread)
        return (
            found is not None
            and found.checkpoint["id"] == self._newest
            and len(found.checkpoint["channel_values"]["messages"]) == _MESSAGES
        )

    async def list(self) -> bool:
        found = [item async for item in self._saver.alist(self._thread, limit=_LISTED)]
        return len(found) == min(self._count, _LISTED) and found[0].checkpoint["id"] == self._newest

    async def resume(self) -> bool:
        latest = await self._saver.aget_tuple(self._thread)
        if latest is None:
            return False
        await self._saver.aput_writes(latest.config, [("messages", "An answer.")], str(uuid.uuid4()))
        return bool(latest.checkpoint["id"] == self._newest)
