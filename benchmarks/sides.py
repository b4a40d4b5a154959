"""What is compared: LangGraph's savers and ours with the same payloads, files and durability.

Not here: what is measured (`runtime.py`) and how it is shown (`report.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import sqlite3
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.store.sqlite.aio import AsyncSqliteStore
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unified_db import UnifiedAsyncSqliteSaver, UnifiedAsyncSqliteStore
from unified_db.runtime.work import Call

SAVERS = {"stock": AsyncSqliteSaver, "ours": UnifiedAsyncSqliteSaver}
STORES = {"stock": AsyncSqliteStore, "ours": UnifiedAsyncSqliteStore}
# What every connection that writes must answer: journal_mode, synchronous (2 is FULL), wal_autocheckpoint.
SETTINGS = ("wal", 2, 1000)
_PRAGMAS = ("journal_mode", "synchronous", "wal_autocheckpoint")

INSERT_NOTE = text("INSERT INTO notes (body) VALUES ('hello')")


class Base(DeclarativeBase):
    """The application's models."""


class Note(Base):
    """The application's row."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


# --- Payloads --------------------------------------------------------------------------------------


def checkpoint(step: int) -> dict[str, Any]:
    """A small state: two short messages and a counter."""
    return {
        "v": 4,
        "id": str(uuid6(clock_seq=step)),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": {"messages": ["What is the weather like?", "Sunny."], "step": step},
        "channel_versions": {"messages": f"{step:032}.0", "step": f"{step:032}.0"},
        "versions_seen": {"agent": {"messages": f"{step:032}.0"}},
        "updated_channels": None,
    }


def thread(name: str) -> dict[str, Any]:
    """The configuration of a LangGraph thread."""
    return {"configurable": {"thread_id": name, "checkpoint_ns": ""}}


async def talk(saver: Any, name: str, steps: int) -> None:
    """Save *steps* checkpoints, each with the pending writes of one task."""
    for step in range(steps):
        made = await saver.aput(thread(name), checkpoint(step), {"source": "loop", "step": step}, {})
        await saver.aput_writes(
            made, [("messages", "Sunny."), ("step", step)], "task", "~__pregel_pull, agent"
        )


class State(TypedDict):
    """What the graph keeps."""

    messages: Annotated[list[str], operator.add]


def build_graph(saver: Any, *, model_s: float = 0.0) -> Any:
    """Five nodes in a row, each adding a message after *model_s* seconds."""
    graph = StateGraph(State)
    names = ["plan", "search", "read", "answer", "check"]

    def node(name: str) -> Any:
        async def say(_state: State) -> dict[str, Any]:
            if model_s:
                await asyncio.sleep(model_s)
            return {"messages": [name]}

        return say

    for name, before in zip(names, [START, *names], strict=False):
        graph.add_node(name, node(name))
        graph.add_edge(before, name)
    return graph.compile(checkpointer=saver)


# --- Settings ----------------------------------------------------------------------------------------


def settings_of(conn: sqlite3.Connection) -> tuple[Any, ...]:
    """What a connection answers to `SETTINGS`."""
    return tuple(conn.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS)


async def require_settings(saver: Any) -> None:
    """Raise unless the connection that *saver* or store writes with is set as `SETTINGS` says."""
    lane = getattr(saver, "_lane", None)
    if lane is None:
        found = await saver.conn._execute(lambda: settings_of(saver.conn._conn))
    else:
        # Outside of a transaction, in the writer's thread.
        found = await lane.write(Call(settings_of), ending="ROLLBACK")
    require_equal(found)


def require_equal(found: tuple[Any, ...]) -> None:
    """Raise unless *found* is `SETTINGS`."""
    if tuple(found) != SETTINGS:
        raise RuntimeError(f"the sides are not alike: {_PRAGMAS} are {found}, not {SETTINGS}")


def stock_engine(path: Path, *, timeout_s: float) -> Engine:
    """SQLAlchemy as an application has it, on a file in WAL mode."""
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": timeout_s, "check_same_thread": False}
    )
    event.listen(engine, "connect", lambda conn, _record: conn.execute("PRAGMA journal_mode=WAL"))
    prepare(engine)
    return engine


def prepare(engine: Engine) -> None:
    """Make the application's table, and see that its connections are set like the savers'."""
    Base.metadata.create_all(engine)
    with engine.connect() as conn:
        require_equal(tuple(conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in _PRAGMAS))


# --- Both sides --------------------------------------------------------------------------------------


class Stage:
    """An event loop, and a saver or store that is open on it."""

    def __init__(self, side: str, path: Path, kinds: Mapping[str, Any] = SAVERS) -> None:
        """Open *path* with a saver of *kinds*; `memory` stores nothing at all."""
        self.path = path
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.saver = self.run(self._open(kinds[side])) if side in kinds else InMemorySaver()

    async def _open(self, kind: Any) -> Any:
        # The stock store leaves a file as it is.
        with closing(sqlite3.connect(self.path)) as conn:
            conn.execute("PRAGMA journal_mode=WAL")
        saver = await self._stack.enter_async_context(kind.from_conn_string(str(self.path)))
        await saver.setup()
        await require_settings(saver)
        return saver

    def run(self, work: Awaitable[Any]) -> Any:
        """The result of *work*, on this stage's loop."""
        return self._runner.run(work)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the saver and the loop."""
        self.run(self._stack.aclose())
        self._runner.close()


class BareLoop:
    """The commits of `talk` with nothing else: `sqlite3` and rows of about the same size."""

    def __init__(self, path: Path) -> None:
        self._conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._conn.execute("PRAGMA journal_mode=WAL")
        require_equal(settings_of(self._conn))
        self._conn.execute("CREATE TABLE checkpoints (a, b, c, d, PRIMARY KEY (a, b))")
        self._conn.execute("CREATE TABLE writes (a, b, c, d, PRIMARY KEY (a, b, c))")
        self._count = itertools.count()
        self._jobs: SimpleQueue[tuple[Callable[[], None], asyncio.Future[None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _commits(self) -> Iterator[Callable[[], None]]:
        for _ in range(40):
            n = next(self._count)
            for table, rows in (("checkpoints", 1), ("writes", 2)):
                values = [("one", f"{n:036}", str(row), b"x" * 300 * (3 - rows)) for row in range(rows)]
                yield partial(self._commit, table, values)

    def _commit(self, table: str, values: list[tuple[Any, ...]]) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        self._conn.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", values)
        self._conn.execute("COMMIT")

    def run(self) -> None:
        """40 times both commits, in the calling thread."""
        for commit in self._commits():
            commit()

    async def run_in_thread(self) -> None:
        """As `run`; the thread makes each commit, and the event loop waits for it before the next."""
        loop = asyncio.get_running_loop()
        for commit in self._commits():
            future: asyncio.Future[None] = loop.create_future()
            self._jobs.put((commit, future))
            await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            commit, future = job
            commit()
            future.get_loop().call_soon_threadsafe(future.set_result, None)

    def close(self) -> None:
        """End the thread and close the file."""
        self._jobs.put(None)
        self._thread.join()
        self._conn.close()


def race(
    benchmark: Any,
    work: str,
    sides: Mapping[str, Callable[[], Any]],
    *,
    aim: Mapping[str, float],
    calls: int = 1,
    rounds: int = 11,
    warmup: int = 2,
) -> None:
    """Time *sides* in alternating rounds, so that whatever else the machine does hits them alike.

    pytest-benchmark times `ours`; the others run in its set-up before each round and are timed in
    the same way. Each side's rounds are kept in `extra_info`.

    Args:
        benchmark: pytest-benchmark's fixture.
        work: What the row is called.
        sides: What one round of each side is.
        aim: What is to be reached; see `report.Row`.
        calls: How many calls a round makes; times are given for one.
        rounds: How many are counted.
        warmup: How many are not.
    """
    times: dict[str, list[float]] = {side: [] for side in sides}

    def timed(side: str) -> None:
        start = time.perf_counter()
        sides[side]()
        times[side].append((time.perf_counter() - start) / calls)

    rest = [side for side in sides if side != "ours"]

    def others() -> None:
        # Whoever comes first pays for what the one before left to the disk, so they take turns.
        rest.extend(rest[:1])
        del rest[:1]
        for side in rest:
            timed(side)

    benchmark.group = work
    for _ in range(warmup):
        others()
        timed("ours")
    for kept in times.values():
        kept.clear()
    benchmark.pedantic(lambda: timed("ours"), setup=others, rounds=rounds)
    found = {
        side: {"median_ms": statistics.median(kept) * 1000, "rounds_ms": [t * 1000 for t in kept]}
        for side, kept in times.items()
    }
    benchmark.extra_info.update(aim=dict(aim), calls=calls, sides=found)


def latencies(times: list[float]) -> dict[str, float]:
    """Median, 99th percentile and worst of *times*, in ms."""
    ordered = sorted(times)
    return {
        "median_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "worst_ms": ordered[-1] * 1000,
        "count": len(ordered),
    }


def fill_large(path: Path, *, checkpoints: int, threads: int, state: bytes) -> None:
    """Add *checkpoints* rows to a file that has LangGraph's tables."""
    rows = (
        (f"conversation-{n % threads:04}", "", str(uuid6(clock_seq=n)), None, "msgpack", state, b"{}")
        for n in range(checkpoints)
    )
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA synchronous=OFF")
        conn.executemany("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        conn.commit()
