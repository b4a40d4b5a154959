"""Our savers against LangGraph's, in one run: same payloads, same file settings, same durability.

    python benchmarks/runtime.py                 # all of it, some minutes; writes docs/runtime-benchmark.*
    python -m pytest benchmarks/runtime.py -k put    # a part of it, only printed

Every time is the median of several rounds. Both sides use WAL and synchronous=FULL, which is
checked. `UNIFY_BENCH_SECONDS` shortens the run with several processes.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from sqlalchemy import create_engine, text

from unified_db import UnifiedAsyncSqliteSaver, UnifiedDatabase

SIDES = ("stock", "ours")
AT_ONCE = 64
ROUNDS = 9
SECONDS = float(os.environ.get("UNIFY_BENCH_SECONDS", "30"))
DOCS = Path(__file__).parent.parent / "docs"

Open = Callable[[str], Any]


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
    return {"configurable": {"thread_id": name, "checkpoint_ns": ""}}


async def talk(saver: Any, name: str, steps: int) -> None:
    """Save *steps* checkpoints, each with the pending writes of one task."""
    for step in range(steps):
        made = await saver.aput(thread(name), checkpoint(step), {"source": "loop", "step": step}, {})
        await saver.aput_writes(
            made, [("messages", "Sunny."), ("step", step)], "task", "~__pregel_pull, agent"
        )


class State(TypedDict):
    messages: Annotated[list[str], operator.add]


def build_graph(saver: Any) -> Any:
    """Five nodes in a row, each adding a message."""
    graph = StateGraph(State)
    names = ["plan", "search", "read", "answer", "check"]

    def node(name: str) -> Any:
        async def say(_state: State) -> dict[str, Any]:
            return {"messages": [name]}

        return say

    for name, before in zip(names, [START, *names], strict=False):
        graph.add_node(name, node(name))
        graph.add_edge(before, name)
    return graph.compile(checkpointer=saver)


# --- Both sides --------------------------------------------------------------------------------------


class Stage:
    """An event loop, and a saver that is open on it."""

    def __init__(self, side: str, path: Path) -> None:
        self.path = path
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.saver = self.run(self._open(side))

    async def _open(self, side: str) -> Any:
        if side == "memory":
            return InMemorySaver()
        kind = AsyncSqliteSaver if side == "stock" else UnifiedAsyncSqliteSaver
        saver = await self._stack.enter_async_context(kind.from_conn_string(str(self.path)))
        await saver.setup()
        await check_settings(saver, self.path)
        return saver

    def run(self, work: Awaitable[Any]) -> Any:
        return self._runner.run(work)  # type: ignore[arg-type]

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


async def check_settings(saver: Any, path: Path) -> None:
    """Both sides write with synchronous=FULL to a file in WAL mode."""
    lane = getattr(saver, "_lane", None)
    if lane is None:
        found = await (await saver.conn.execute("PRAGMA synchronous")).fetchone()
    else:
        from unified_db.runtime.work import Call

        found = await lane.write(Call(lambda conn: conn.execute("PRAGMA synchronous").fetchone()))
    assert found[0] == 2
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.fixture(params=SIDES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(request.param, tmp_path / "bench.sqlite")
    yield stage
    stage.close()


def describe(benchmark: Any, work: str, aim: str, per_round: int = 1) -> None:
    benchmark.group = work
    benchmark.extra_info.update(aim=aim, per_round=per_round)


# --- Speed -------------------------------------------------------------------------------------------


def test_put_many_at_once(benchmark: Any, stage: Stage) -> None:
    describe(benchmark, "put + put_writes, 64 threads at once", "8 x", AT_ONCE * 4)
    names = iter(range(10**9))

    async def work() -> None:
        turn = next(names)
        await asyncio.gather(*(talk(stage.saver, f"{turn}-{n}", 4) for n in range(AT_ONCE)))

    benchmark.pedantic(lambda: stage.run(work()), rounds=ROUNDS, warmup_rounds=2)


def test_put_one_at_a_time(benchmark: Any, stage: Stage) -> None:
    describe(benchmark, "put + put_writes, one thread at a time", "1.5 x", 40)
    benchmark.pedantic(lambda: stage.run(talk(stage.saver, "one", 40)), rounds=ROUNDS, warmup_rounds=2)


def test_get_many_at_once(benchmark: Any, stage: Stage) -> None:
    describe(benchmark, "get_tuple, 64 at once", "2 x", AT_ONCE * 4)

    async def fill() -> None:
        await asyncio.gather(*(talk(stage.saver, f"t{n}", 3) for n in range(AT_ONCE)))

    async def work() -> None:
        for _ in range(4):
            await asyncio.gather(*(stage.saver.aget_tuple(thread(f"t{n}")) for n in range(AT_ONCE)))

    stage.run(fill())
    benchmark.pedantic(lambda: stage.run(work()), rounds=ROUNDS, warmup_rounds=2)


def test_get_one_at_a_time(benchmark: Any, stage: Stage) -> None:
    describe(benchmark, "get_tuple, one at a time", "1.3 x", 100)

    async def work() -> None:
        for _ in range(100):
            await stage.saver.aget_tuple(thread("t"))

    stage.run(talk(stage.saver, "t", 3))
    benchmark.pedantic(lambda: stage.run(work()), rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.parametrize("side", [*SIDES, "memory"])
def test_graph(benchmark: Any, side: str, tmp_path: Path) -> None:
    describe(benchmark, "a graph of 5 nodes, 32 conversations at once", "2 x", 32)
    stage = Stage(side, tmp_path / "bench.sqlite")
    graph, names = build_graph(stage.saver), iter(range(10**9))

    async def work() -> None:
        turn = next(names)
        await asyncio.gather(
            *(graph.ainvoke({"messages": ["hello"]}, thread(f"{turn}-{n}")) for n in range(32))
        )

    benchmark.pedantic(lambda: stage.run(work()), rounds=ROUNDS, warmup_rounds=1)
    stage.close()


# --- Locks -------------------------------------------------------------------------------------------


def test_sync_writers_on_the_loop(benchmark: Any, stage: Stage) -> None:
    """8 graph writers and 4 sync SQLAlchemy writers on one loop, on one file."""
    describe(benchmark, "8 graph + 4 sync SQLAlchemy writers on one loop", "0 errors, worst write < 100 ms")
    engine = create_engine(f"sqlite:///{stage.path}", connect_args={"timeout": 5})
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE notes (body TEXT)"))
    times: list[float] = []
    errors: list[str] = []

    async def application() -> None:
        for _ in range(20):
            start = time.perf_counter()
            try:
                with engine.begin() as conn:
                    conn.execute(text("INSERT INTO notes VALUES ('hello')"))
            except Exception as error:  # noqa: BLE001 - counted
                errors.append(type(error).__name__)
            times.append(time.perf_counter() - start)
            await asyncio.sleep(0.001)

    async def graph(n: int) -> None:
        try:
            await talk(stage.saver, f"t{n}", 20)
        except Exception as error:  # noqa: BLE001 - counted
            errors.append(type(error).__name__)

    async def work() -> None:
        await asyncio.gather(*(graph(n) for n in range(8)), *(application() for _ in range(4)))

    benchmark.pedantic(lambda: stage.run(work()), rounds=1)
    benchmark.extra_info.update(errors=len(errors), worst_ms=max(times) * 1000)
    engine.dispose()


PROCESS = """
import asyncio, sys, time
sys.path.insert(0, {here!r})
from runtime import AsyncSqliteSaver, UnifiedAsyncSqliteSaver, checkpoint, thread

async def write(saver, name, end, found):
    step = 0
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            made = await saver.aput(thread(name), checkpoint(step), {{"source": "loop", "step": step}}, {{}})
            await saver.aput_writes(made, [("step", step)], "task")
        except Exception:
            found["errors"] += 1
        found["worst"] = max(found["worst"], time.perf_counter() - start)
        found["count"] += 1
        step += 1

async def main(side, path, name, seconds):
    kind = AsyncSqliteSaver if side == "stock" else UnifiedAsyncSqliteSaver
    found = {{"errors": 0, "worst": 0.0, "count": 0}}
    async with kind.from_conn_string(path) as saver:
        await saver.setup()
        end = time.monotonic() + seconds
        await asyncio.gather(*(write(saver, f"{{name}}-{{n}}", end, found) for n in range(4)))
    print(found["count"], found["errors"], found["worst"])

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
"""


@pytest.mark.parametrize("side", SIDES)
def test_processes(benchmark: Any, side: str, tmp_path: Path) -> None:
    """4 processes with 4 writers each on one file."""
    describe(benchmark, f"4 processes x 4 writers on one file, {SECONDS:g} s", "0 errors")
    path = tmp_path / "bench.sqlite"
    script = PROCESS.format(here=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    found: list[list[str]] = []

    def work() -> None:
        command = [sys.executable, "-c", script, side, str(path)]
        running = [
            subprocess.Popen(
                [*command, str(n), str(SECONDS)], stdout=subprocess.PIPE, text=True, env=environment
            )
            for n in range(4)
        ]
        found.extend(process.communicate()[0].split() for process in running)

    benchmark.pedantic(work, rounds=1)
    benchmark.extra_info.update(
        writes=sum(int(f[0]) for f in found),
        errors=sum(int(f[1]) for f in found),
        worst_ms=max(float(f[2]) for f in found) * 1000,
    )


@pytest.mark.parametrize("layout", ["two files, stock", "two files, ours", "one file, ours"])
def test_application_writes(benchmark: Any, layout: str, tmp_path: Path) -> None:
    """A SQLAlchemy write in a thread, as a web framework makes it, with 8 conversations going on."""
    describe(benchmark, "an application's write beside 8 conversations", "median within 1.25 of two files")
    application = tmp_path / "application.sqlite"
    db = UnifiedDatabase(application)
    with db.engine.begin() as conn:
        conn.execute(text("CREATE TABLE notes (body TEXT)"))
    one = layout.startswith("one")
    stage = Stage("stock" if "stock" in layout else "ours", application if one else tmp_path / "graph.sqlite")
    graph, times = build_graph(stage.saver), []
    ended = asyncio.Event()

    def write() -> None:
        start = time.perf_counter()
        with db.engine.begin() as conn:
            conn.execute(text("INSERT INTO notes VALUES ('hello')"))
        times.append(time.perf_counter() - start)

    async def converse(n: int) -> None:
        turn = 0
        while not ended.is_set():
            await graph.ainvoke({"messages": ["hello"]}, thread(f"{n}-{turn}"))
            turn += 1

    async def work() -> None:
        going = [asyncio.create_task(converse(n)) for n in range(8)]
        for _ in range(400):
            await asyncio.to_thread(write)
            await asyncio.sleep(0.005)
        ended.set()
        await asyncio.gather(*going)

    benchmark.pedantic(lambda: stage.run(work()), rounds=1)
    times.sort()
    benchmark.extra_info.update(
        median_ms=statistics.median(times) * 1000, p99_ms=times[int(len(times) * 0.99)] * 1000
    )
    stage.close()
    db.close()


# --- Listing -------------------------------------------------------------------------------------------


def test_thread_listing(benchmark: Any, tmp_path: Path) -> None:
    """A file of 1 GB with 32,000 checkpoints of 1,000 threads."""
    describe(benchmark, "thread listing, 1 GB with 32,000 checkpoints", "< 50 ms")
    path = tmp_path / "large.sqlite"
    with UnifiedDatabase(path) as db:
        db.prepare_sync()
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("PRAGMA synchronous=OFF")
            state = os.urandom(32 * 1024)
            rows = (
                (
                    f"conversation-{step % 1000:04}",
                    "",
                    str(uuid6(clock_seq=step)),
                    None,
                    "msgpack",
                    state,
                    b"{}",
                )
                for step in range(32_000)
            )
            conn.executemany("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            conn.commit()
        found = benchmark.pedantic(db.threads, rounds=ROUNDS, warmup_rounds=1)
        assert len(found) == 1000
        benchmark.extra_info.update(bytes=path.stat().st_size)


# --- The report ----------------------------------------------------------------------------------------


def reduce(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What is kept of pytest-benchmark's JSON: nothing of the machine."""
    return [
        {
            "work": b["group"],
            "side": next(iter((b["params"] or {"side": "ours"}).values())),
            "median_s": b["stats"]["median"],
            "min_s": b["stats"]["min"],
            "max_s": b["stats"]["max"],
            "rounds": b["stats"]["rounds"],
            **b["extra_info"],
        }
        for b in found["benchmarks"]
    ]


def table(kept: list[dict[str, Any]]) -> str:
    """A Markdown table: both sides and their ratio, or what else was counted."""
    lines = ["| work | aim | stock | ours | found |", "|---|---|---|---|---|"]
    for work in dict.fromkeys(b["work"] for b in kept):
        sides = {b["side"]: b for b in kept if b["work"] == work}
        lines.append(f"| {work} | {next(iter(sides.values()))['aim']} | {' | '.join(row(sides))} |")
    return "\n".join(lines)


def row(sides: dict[str, dict[str, Any]]) -> tuple[str, str, str]:
    """The last three cells of a work's line."""
    ours = sides.get("ours") or sides["one file, ours"]
    if "errors" in ours:
        cells = [f"{s['errors']} errors, worst {s['worst_ms']:.0f} ms" for s in (sides["stock"], ours)]
        extra = [f"{s['writes']:,} writes" for s in (sides["stock"], ours) if "writes" in s]
        took = f"{sides['stock']['median_s']:.1f} s -> {ours['median_s']:.2f} s"
        return cells[0], cells[1], " against ".join(extra) or took
    if "median_ms" in ours:
        two = sides["two files, stock"]
        cells = [f"{s['median_ms']:.2f} ms, p99 {s['p99_ms']:.1f} ms" for s in (two, ours)]
        beside = sides["two files, ours"]
        also = f"two files with our saver: {beside['median_ms']:.2f} ms, p99 {beside['p99_ms']:.1f} ms"
        return cells[0], cells[1], f"{ours['median_ms'] / two['median_ms']:.2f} of two files ({also})"
    if "stock" not in sides:
        return "", f"{ours['median_s'] * 1000:.1f} ms", f"{ours['bytes'] / 1e9:.2f} GB"
    times = [s["median_s"] / s["per_round"] * 1000 for s in (sides["stock"], ours)]
    found = f"{times[0] / times[1]:.1f} x"
    if "memory" in sides:
        least = sides["memory"]["median_s"] / ours["per_round"] * 1000
        found += f" (with nothing stored at all: {least:.2f} ms, {times[0] / least:.1f} x)"
    return f"{times[0]:.3f} ms", f"{times[1]:.3f} ms", found


def main() -> int:
    """Run everything, print the table and keep it under docs/."""
    raw = DOCS / ".runtime-benchmark-raw.json"
    DOCS.mkdir(exist_ok=True)
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--benchmark-only",
        "--benchmark-quiet",
        f"--benchmark-json={raw}",
    ]
    code = pytest.main([__file__, *options, *sys.argv[1:]])
    if code == 0:
        kept = reduce(json.loads(raw.read_text()))
        (DOCS / "runtime-benchmark.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(f"\n{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {sys.platform}\n")
        print(table(kept))
    raw.unlink(missing_ok=True)
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
