"""What a process of its own does to a file: `python writer_script.py ACT FILE [COUNT]`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from langgraph.checkpoint.base.id import uuid6

from unified_db import UnifiedAsyncSqliteSaver, UnifiedSqliteSaver


def make(step: int) -> dict[str, Any]:
    values = {"n": step}
    return {
        "v": 4,
        "id": str(uuid6(clock_seq=step)),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": {},
        "versions_seen": {},
        "updated_channels": None,
    }


async def write(saver: UnifiedAsyncSqliteSaver, thread_id: str, count: int) -> float:
    worst = 0.0
    for step in range(count):
        start = time.perf_counter()
        at = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        saved = await saver.aput(at, make(step), {"source": "loop", "step": step}, {})
        await saver.aput_writes(saved, [("n", step)], "task")
        worst = max(worst, time.perf_counter() - start)
    return worst


async def write_many(path: str, count: int) -> None:
    async with UnifiedAsyncSqliteSaver.from_conn_string(path) as saver:
        worst = await asyncio.gather(*(write(saver, f"{os.getpid()}-{n}", count) for n in range(4)))
        print(max(worst))


async def write_for_ever(path: str) -> None:
    async with UnifiedAsyncSqliteSaver.from_conn_string(path) as saver:
        print("ready", flush=True)
        await asyncio.gather(*(write(saver, f"t{n}", 10**9) for n in range(4)))


async def leave(path: str, how: str) -> None:
    """End with many writes under way and nobody to wait for them."""
    opened = UnifiedAsyncSqliteSaver.from_conn_string(path)
    saver = await opened.__aenter__()
    await saver.setup()
    at: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    big = {"channel_values": {"n": "x" * 10_000}}
    puts = (saver.aput(at, make(n) | big, {"source": "loop"}, {}) for n in range(500))  # type: ignore[arg-type]
    pending = [asyncio.ensure_future(put) for put in puts]
    await asyncio.sleep(0.002)
    if how == "exit":
        os._exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    assert pending


def fork(path: str) -> None:
    """Write before a fork, then in the child and in the parent, both through what they had."""
    with UnifiedSqliteSaver.from_conn_string(path) as saver:
        put(saver, "before")
        assert len(list(saver.list(None))) == 1
        child = os.fork()
        if child == 0:
            put(saver, "child")
            assert len(list(saver.list(None))) == 2
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        put(saver, "parent")
        print(len(list(saver.list(None))))


def put(saver: UnifiedSqliteSaver, thread_id: str) -> None:
    at = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    saver.put(at, make(0), {"source": "loop", "step": 0}, {})


if __name__ == "__main__":
    act, path, *rest = sys.argv[1:]
    if act == "many":
        asyncio.run(write_many(path, int(rest[0])))
    elif act == "for-ever":
        asyncio.run(write_for_ever(path))
    elif act == "leave":
        asyncio.run(leave(path, *rest))
    else:
        fork(path)
