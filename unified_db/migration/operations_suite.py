"""LangGraph's own operations on two files, timed by pytest-benchmark. Runs in the application's interpreter.

It is copied into a run's folder and started there by `operations`, so it imports nothing of
unify-db but the runtime, which is all of it that an application has. Both files are measured in
one process, in small turns, so that whatever else the machine does meets both alike.

The environment says what is measured:
    UNIFY_DB_BEFORE, UNIFY_DB_AFTER: the files, as "package.module.Class path".
    UNIFY_DB_SEED: decides which side comes first in each turn.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from random import Random
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

OPERATIONS = ("put", "get", "list", "resume")
SIDES = ("before", "after")
TURNS = 6
ROUNDS = 5
_LISTED = 10
_MESSAGES = 20


class WrongAnswerError(Exception):
    """An operation returned something else than was put."""


class Saver:
    """One saver on one file, used as a graph would; each operation is true where its answer is right.

    Args:
        name: "package.module.Class" of a saver, sync or async.
        stack: Closes it.
    """

    def __init__(self, name: str, path: str, stack: ExitStack, loop: asyncio.AbstractEventLoop) -> None:
        module, _, kind = name.rpartition(".")
        made = getattr(importlib.import_module(module), kind).from_conn_string(path)
        self._loop = loop
        self._is_async = hasattr(made, "__aenter__")
        self._saver: Any = self._open(made, stack) if self._is_async else stack.enter_context(made)
        self._thread: Any = {"configurable": {"thread_id": f"unify-db-{uuid.uuid4()}", "checkpoint_ns": ""}}
        self._config = self._thread
        self._newest = ""
        self._count = 0

    def put(self) -> bool:
        """Save one more checkpoint of the thread."""
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": ["How long is a message?"] * _MESSAGES}
        self._newest, self._count = checkpoint["id"], self._count + 1
        self._config = self._call(
            "put", self._config, checkpoint, {"source": "loop", "step": self._count}, {}
        )
        return bool(self._config["configurable"]["checkpoint_id"] == self._newest)

    def get(self) -> bool:
        """Read the newest checkpoint."""
        found = self._call("get_tuple", self._thread)
        messages = found.checkpoint["channel_values"]["messages"] if found else []
        return len(messages) == _MESSAGES and found.checkpoint["id"] == self._newest

    def list(self) -> bool:
        """Read the newest checkpoints."""
        found = self._read_all() if self._is_async else [*self._saver.list(self._thread, limit=_LISTED)]
        return len(found) == min(self._count, _LISTED) and found[0].checkpoint["id"] == self._newest

    def resume(self) -> bool:
        """Read the newest checkpoint and answer what it waits for."""
        latest = self._call("get_tuple", self._thread)
        if latest is None:
            return False
        self._call("put_writes", latest.config, [("messages", "An answer.")], str(uuid.uuid4()))
        return bool(latest.checkpoint["id"] == self._newest)

    def _call(self, method: str, *arguments: Any) -> Any:
        if self._is_async:
            return self._loop.run_until_complete(getattr(self._saver, f"a{method}")(*arguments))
        return getattr(self._saver, method)(*arguments)

    def _read_all(self) -> Any:
        async def read() -> Any:
            return [item async for item in self._saver.alist(self._thread, limit=_LISTED)]

        return self._loop.run_until_complete(read())

    def _open(self, made: Any, stack: ExitStack) -> Any:
        opened = AsyncExitStack()
        saver = self._loop.run_until_complete(opened.enter_async_context(made))
        stack.callback(lambda: self._loop.run_until_complete(opened.aclose()))
        return saver


def _cases() -> list[tuple[int, str, str]]:
    """(turn, operation, side) in the order of measuring; in a turn a random side comes first."""
    random = Random(os.environ.get("UNIFY_DB_SEED", ""))  # noqa: S311 -- an order, no secret
    return [(t, o, s) for t in range(TURNS) for o in OPERATIONS for s in random.sample(SIDES, len(SIDES))]


@pytest.fixture(scope="module")
def savers() -> Iterator[Callable[[str], Saver]]:
    """The saver of a side, opened when it is first asked for."""
    opened: dict[str, Saver] = {}
    _stay_on_one_core()
    with asyncio.Runner() as runner, ExitStack() as stack:

        def saver(side: str) -> Saver:
            if side not in opened:
                name, path = os.environ[f"UNIFY_DB_{side.upper()}"].split(" ", 1)
                opened[side] = Saver(name, path, stack, runner.get_loop())
            return opened[side]

        yield saver


def _stay_on_one_core() -> None:
    """Keep this process on one core, where the system can.

    An operation is handed from the event loop to a thread and back. Between two cores, one of which
    sleeps meanwhile, that takes four times as long in some processes as in others, for all their life.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@pytest.mark.parametrize(("turn", "operation", "side"), _cases())
def test_operation(
    benchmark: Any, savers: Callable[[str], Saver], turn: int, operation: str, side: str
) -> None:
    """One operation on one side, a few times."""
    work = getattr(savers(side), operation)

    def require_right_answer() -> None:
        if not work():
            raise WrongAnswerError

    benchmark.group = operation
    benchmark.extra_info.update(turn=turn, operation=operation, side=side)
    benchmark.pedantic(require_right_answer, rounds=ROUNDS, warmup_rounds=1)
