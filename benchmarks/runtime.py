"""The runtime against LangGraph's own savers and stores, row by row.

    make bench-runtime                                       # all of it; writes docs/runtime-benchmark.*
    python -m pytest benchmarks/runtime.py --benchmark-only -k put    # a part of it

Both sides run in alternating rounds in one process, on files of their own with the same settings,
which are read back from the connections that write. `UNIFY_BENCH_SECONDS` shortens the run with
several processes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from benchmarks.sides import (
    INSERT_NOTE,
    STORES,
    BareLoop,
    Note,
    Stage,
    build_graph,
    fill_large,
    latencies,
    prepare,
    race,
    stock_engine,
    talk,
    thread,
)
from unified_db import UnifiedAsyncSqliteSaver, UnifiedDatabase

AT_ONCE = 64
SECONDS = float(os.environ.get("UNIFY_BENCH_SECONDS", "30"))

Stages = dict[str, Stage]


@pytest.fixture(autouse=True)
def _how(request: pytest.FixtureRequest, benchmark: Any) -> None:
    """Keep what a test says of itself, for the report."""
    benchmark.extra_info["how"] = " ".join((request.function.__doc__ or "").split())


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    """Both sides, open on a file each."""
    made = {side: Stage(side, tmp_path / f"{side}.sqlite") for side in ("stock", "ours")}
    yield made
    for stage in made.values():
        stage.close()


# --- One call of a saver -----------------------------------------------------------------------------


def test_put_many_at_once(benchmark: Any, stages: Stages) -> None:
    """64 LangGraph threads, each saving four times a checkpoint and then its pending writes."""
    names = itertools.count()

    async def work(saver: Any) -> None:
        turn = next(names)
        await asyncio.gather(*(talk(saver, f"{turn}-{n}", 4) for n in range(AT_ONCE)))

    sides = {side: lambda s=stage: s.run(work(s.saver)) for side, stage in stages.items()}
    race(
        benchmark,
        "put + put_writes, 64 threads at once",
        sides,
        aim={"ratio": 8},
        calls=AT_ONCE * 4,
        rounds=25,
    )


# A file system in memory, where an fsync costs nothing.
RAM = Path("/dev/shm")


@pytest.mark.parametrize("where", ["disk", "ram"])
def test_put_one_at_a_time(benchmark: Any, where: str, tmp_path: Path) -> None:
    """One LangGraph thread; each call is awaited before the next.

    The bare loop is sqlite3 in one thread that makes the same commits with rows of about the same
    size: no event loop, no second thread, nothing to serialize. The bare thread is the same loop in
    a thread of its own that an event loop hands each commit to and waits for: the least of what a
    saver can do that does not stop its loop.
    """
    if where == "disk":
        one_at_a_time(benchmark, tmp_path, "put + put_writes, one thread at a time")
    elif RAM.is_dir():
        with tempfile.TemporaryDirectory(dir=RAM) as folder:
            title = "the same in memory, where an fsync costs nothing"
            one_at_a_time(benchmark, Path(folder), title)
    else:
        pytest.skip(f"there is no {RAM}")


def one_at_a_time(benchmark: Any, folder: Path, work: str) -> None:
    """Both sides, and the commits alone."""
    stages = {side: Stage(side, folder / f"{side}.sqlite") for side in ("stock", "ours")}
    bare, behind = (BareLoop(folder / f"{name}.sqlite") for name in ("bare", "thread"))
    count = itertools.count()

    def both(side: str) -> Callable[[], Any]:
        stage = stages[side]
        return lambda: stage.run(talk(stage.saver, f"{next(count)}", 40))

    sides = {
        "stock": both("stock"),
        "bare": bare.run,
        "thread": lambda: stages["ours"].run(behind.run_in_thread()),
        "ours": both("ours"),
    }
    race(benchmark, work, sides, aim={"ratio": 1.5}, calls=40, rounds=61)
    for loop in (bare, behind):
        loop.close()
    for stage in stages.values():
        stage.close()


def test_get_many_at_once(benchmark: Any, stages: Stages) -> None:
    """64 LangGraph threads with three checkpoints each; the newest with its pending writes."""

    async def fill(saver: Any) -> None:
        await asyncio.gather(*(talk(saver, f"t{n}", 3) for n in range(AT_ONCE)))

    async def work(saver: Any) -> None:
        for _ in range(4):
            await asyncio.gather(*(saver.aget_tuple(thread(f"t{n}")) for n in range(AT_ONCE)))

    for stage in stages.values():
        stage.run(fill(stage.saver))
    sides = {side: lambda s=stage: s.run(work(s.saver)) for side, stage in stages.items()}
    race(benchmark, "get_tuple, 64 at once", sides, aim={"ratio": 2}, calls=AT_ONCE * 4, rounds=61)


def test_get_one_at_a_time(benchmark: Any, stages: Stages) -> None:
    """The newest checkpoint of one LangGraph thread, a hundred times in a row."""

    async def work(saver: Any) -> None:
        for _ in range(100):
            await saver.aget_tuple(thread("t"))

    for stage in stages.values():
        stage.run(talk(stage.saver, "t", 3))
    sides = {side: lambda s=stage: s.run(work(s.saver)) for side, stage in stages.items()}
    race(benchmark, "get_tuple, one at a time", sides, aim={"ratio": 1.3}, calls=100, rounds=61)


# --- A graph -----------------------------------------------------------------------------------------


def test_graph(benchmark: Any, stages: Stages, tmp_path: Path) -> None:
    """Five nodes in a row, 32 conversations at once, from START to END. `memory`: nothing is stored."""
    everyone = {**stages, "memory": Stage("memory", tmp_path)}
    graphs = {side: build_graph(stage.saver) for side, stage in everyone.items()}
    names = itertools.count()

    async def work(side: str) -> None:
        turn = next(names)
        given = {"messages": ["hello"]}
        await asyncio.gather(*(graphs[side].ainvoke(given, thread(f"{turn}-{n}")) for n in range(32)))

    sides = {side: lambda s=side: everyone[s].run(work(s)) for side in everyone}
    race(
        benchmark,
        "a graph of 5 nodes, 32 conversations at once",
        sides,
        aim={"ratio": 2},
        calls=32,
        rounds=21,
    )
    everyone["memory"].close()


# --- One file for the application and its graphs -----------------------------------------------------------


async def write_on_the_loop(
    engine: Engine, graphs: Callable[[int], Any], steps: int, found: dict[str, Any]
) -> None:
    """8 graph writers and 4 sync SQLAlchemy writers, all on the running loop."""

    async def application() -> None:
        for _ in range(steps):
            start = time.perf_counter()
            try:
                with engine.begin() as conn:
                    conn.execute(INSERT_NOTE)
            except Exception as error:  # noqa: BLE001 - counted by what it says
                found["errors"].append(str(error)[:60])
            found["times"].append(time.perf_counter() - start)
            await asyncio.sleep(0.001)

    async def graph(n: int) -> None:
        try:
            await graphs(n)
        except Exception as error:  # noqa: BLE001 - counted by what it says
            found["errors"].append(str(error)[:60])

    await asyncio.gather(*(graph(n) for n in range(8)), *(application() for _ in range(4)))


def mixed(
    benchmark: Any,
    work: str,
    stages: Stages,
    act: Callable[[Any, int], Any],
    *,
    steps: int,
    timeout_s: float,
    rounds: int,
) -> None:
    """Both sides of a mix of graph and sync writers, with what failed and the worst write."""
    engines = {side: stock_engine(stage.path, timeout_s=timeout_s) for side, stage in stages.items()}
    found: dict[str, Any] = {side: {"errors": [], "times": []} for side in stages}

    def once(side: str) -> None:
        stage = stages[side]
        stage.run(write_on_the_loop(engines[side], lambda n: act(stage.saver, n), steps, found[side]))

    sides = {side: lambda s=side: once(s) for side in stages}
    race(benchmark, work, sides, aim={"errors": 0, "worst_ms": 100}, rounds=rounds, warmup=0)
    for side, engine in engines.items():
        errors, times = found[side]["errors"], found[side]["times"]
        benchmark.extra_info["sides"][side].update(
            errors=len(errors), kinds=sorted(set(errors)), writes=latencies(times)
        )
        engine.dispose()


def test_sync_writers_on_the_loop(benchmark: Any, stages: Stages) -> None:
    """8 LangGraph threads save 6 times, 4 sync SQLAlchemy sessions write 6 times, busy timeout 5 s."""
    names = itertools.count()
    work = "8 graph writers + 4 sync SQLAlchemy writers on one loop"
    mixed(
        benchmark,
        work,
        stages,
        lambda saver, _n: talk(saver, f"t{next(names)}", 6),
        steps=6,
        timeout_s=5,
        rounds=1,
    )


def test_sync_writers_beside_a_store(benchmark: Any, tmp_path: Path) -> None:
    """8 tasks put 5 items each, 4 sync SQLAlchemy sessions write 5 times, busy timeout 1 s."""
    stages = {side: Stage(side, tmp_path / f"{side}.sqlite", STORES) for side in STORES}

    async def put(store: Any, n: int) -> None:
        for step in range(5):
            await store.aput(("users", str(n)), str(step), {"likes": "sunshine"})

    work = "8 store writers + 4 sync SQLAlchemy writers on one loop"
    mixed(benchmark, work, stages, put, steps=5, timeout_s=1, rounds=2)
    for stage in stages.values():
        stage.close()


def test_processes(benchmark: Any, tmp_path: Path) -> None:
    """4 processes with an event loop and 4 writers each save on one file without a pause."""
    found: dict[str, list[dict[str, Any]]] = {}

    def once(side: str) -> None:
        command = [sys.executable, "-m", "benchmarks.processes", side, str(tmp_path / f"{side}.sqlite")]
        running = [
            subprocess.Popen(
                [*command, str(n), str(SECONDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parent.parent,
            )
            for n in range(4)
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        # `communicate` sends the line that they wait for, to one after the other.
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found[side] = [json.loads(process.communicate()[0]) for process in running]

    sides = {side: lambda s=side: once(s) for side in ("stock", "ours")}
    work = f"4 processes x 4 writers on one file, {SECONDS:g} s"
    race(benchmark, work, sides, aim={"errors": 0}, rounds=1, warmup=0)
    for side, processes in found.items():
        errors = [e for process in processes for e in process["errors"]]
        times = [t for process in processes for t in process["times"]]
        benchmark.extra_info["sides"][side].update(
            errors=len(errors), kinds=sorted(set(errors)), writes=latencies(times)
        )


class Layout:
    """An application and its graphs, on one file or two."""

    def __init__(self, name: str, folder: Path, *, model_s: float) -> None:
        self.name = name
        folder.mkdir()
        path = folder / "application.sqlite"
        self._db = UnifiedDatabase(path) if name != "two files, stock" else None
        # As the user has it before the move: SQLAlchemy's own engine.
        self.engine = self._db.engine if self._db is not None else stock_engine(path, timeout_s=5)
        prepare(self.engine)
        self.stage = Stage(name.split(", ")[1], path if "one" in name else folder / "graph.sqlite")
        self._graph = build_graph(self.stage.saver, model_s=model_s)
        self.times: list[float] = []
        self.turns = 0

    def write(self) -> None:
        """One write of the application, timed."""
        start = time.perf_counter()
        with self.engine.begin() as conn:
            conn.execute(INSERT_NOTE)
        self.times.append(time.perf_counter() - start)

    async def round(self, writes: int) -> None:
        """Writes from a thread, as a web framework makes them, while 8 conversations go on."""
        ended = asyncio.Event()

        async def converse(n: int) -> None:
            while not ended.is_set():
                self.turns += 1
                await self._graph.ainvoke({"messages": ["hello"]}, thread(f"{n}-{self.turns}"))

        going = [asyncio.create_task(converse(n)) for n in range(8)]
        await asyncio.sleep(0.05)
        for _ in range(writes):
            await asyncio.to_thread(self.write)
            await asyncio.sleep(0.005)
        ended.set()
        await asyncio.gather(*going)

    def close(self) -> None:
        """Close both."""
        self.stage.close()
        self.engine.dispose()
        if self._db is not None:
            self._db.close()


@pytest.mark.parametrize("model_s", [0.0, 0.05], ids=["without-a-pause", "with-model-calls"])
def test_application_writes(benchmark: Any, model_s: float, tmp_path: Path) -> None:
    """A SQLAlchemy write in a thread every 5 ms, with 8 conversations going on.

    Two files with the stock saver and SQLAlchemy's own engine, as before the move; two files with
    ours; one file with ours; and with conversations that store nothing.
    """
    names = {
        "stock": "two files, stock",
        "two": "two files, ours",
        "memory": "one file, memory",
        "ours": "one file, ours",
    }
    layouts = {side: Layout(name, tmp_path / side, model_s=model_s) for side, name in names.items()}

    def once(layout: Layout) -> None:
        layout.stage.run(layout.round(25))

    for layout in layouts.values():
        once(layout)
        layout.times.clear()
        layout.turns = 0
    how = "model calls of 50 ms" if model_s else "no pause in them"
    work = f"an application's write beside 8 conversations, {how}"
    sides = {side: lambda la=layout: once(la) for side, layout in layouts.items()}
    race(benchmark, work, sides, aim={"of_two_files": 1.25}, rounds=10, warmup=0)
    for side, layout in layouts.items():
        benchmark.extra_info["sides"][side].update(writes=latencies(layout.times), turns=layout.turns)
        layout.close()


def test_transaction_around_a_model_call(benchmark: Any, tmp_path: Path) -> None:
    """Another writer every 10 ms while `transaction()` spans a graph with 5 model calls of 0.4 s."""
    with UnifiedDatabase(tmp_path / "one.sqlite") as db:
        prepare(db.engine)
        times: list[float] = []

        def write() -> None:
            start = time.perf_counter()
            with db.engine.begin() as conn:
                conn.execute(INSERT_NOTE)
            times.append(time.perf_counter() - start)

        async def beside(ended: asyncio.Event) -> None:
            while not ended.is_set():
                await asyncio.to_thread(write)
                await asyncio.sleep(0.01)

        async def work() -> None:
            graph = build_graph(UnifiedAsyncSqliteSaver(db), model_s=0.4)
            ended = asyncio.Event()
            other = asyncio.create_task(beside(ended))
            async with db.transaction() as session:
                session.add(Note(body="asked"))
                await graph.ainvoke({"messages": ["hello"]}, thread("t"))
            ended.set()
            await other

        title = "another writer beside a transaction around a graph with 2 s of model calls"
        race(
            benchmark, title, {"ours": lambda: asyncio.run(work())}, aim={"worst_ms": 100}, rounds=2, warmup=0
        )
        (found,) = db.threads()
        # Without it, nothing would have been in the transaction.
        assert found.checkpoints == 2 * 7
        benchmark.extra_info["sides"]["ours"].update(writes=latencies(times))


# --- Listing -------------------------------------------------------------------------------------------


def test_thread_listing(benchmark: Any, tmp_path: Path) -> None:
    """`db.threads()` on a file of 1 GB: 1,000 LangGraph threads, 32,000 checkpoints of 32 kB."""
    path = tmp_path / "large.sqlite"
    with UnifiedDatabase(path) as db:
        db.prepare_sync()
        fill_large(path, checkpoints=32_000, threads=1000, state=os.urandom(32 * 1024))
        assert len(db.threads()) == 1000
        work = "thread listing, 1 GB file with 32,000 checkpoints"
        race(benchmark, work, {"ours": db.threads}, aim={"median_ms": 50})
        benchmark.extra_info.update(bytes=path.stat().st_size)


if __name__ == "__main__":
    from benchmarks.report import run

    raise SystemExit(run(Path(__file__), sys.argv[1:]))
