"""What merging two files does to an application that keeps LangGraph's stock saver; writes docs/lock-up.md.

A request of the application is what most chat backends do: a row through sync SQLAlchemy, a graph
through the async saver, a row with the answer; all on one event loop, several requests at a time.
Measured on two files as before a move, on one file with the import left as it was, and on one file
with ours. `make bench-lock-up` runs it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.sides import INSERT_NOTE, Stage, build_graph, prepare, stock_engine, thread
from unified_db import UnifiedDatabase

PAGE = Path(__file__).parent.parent / "docs" / "lock-up.md"
REQUESTS, AT_A_TIME, MODEL_S = 48, 8, 0.002
ROUNDS = 3
# What sqlite3 and SQLAlchemy wait for a lock where nobody says otherwise.
BUSY_TIMEOUT_S = 5.0
_VERSIONS = ("langgraph", "langgraph-checkpoint-sqlite", "aiosqlite", "SQLAlchemy")


@dataclass(frozen=True)
class Outcome:
    """How the requests of one side went; seconds of each, and of all together."""

    name: str
    failed: int
    times_s: tuple[float, ...]
    total_s: float

    def __add__(self, other: Outcome) -> Outcome:
        """Two rounds of one side."""
        both = self.times_s + other.times_s
        return Outcome(self.name, self.failed + other.failed, both, self.total_s + other.total_s)


def measure(name: str, stage: Stage, engine: Engine) -> Outcome:
    """Send all requests to one side."""
    graph = build_graph(stage.saver, model_s=MODEL_S)
    times: list[float] = []
    failures: list[str] = []

    async def request(number: int, gate: asyncio.Semaphore) -> None:
        async with gate:
            start = time.perf_counter()
            try:
                _write(engine)
                await graph.ainvoke({"messages": ["hello"]}, thread(f"request-{number}"))
                _write(engine)
            except Exception as error:  # noqa: BLE001 - counted, and told by what it says
                failures.append(str(error))
            times.append(time.perf_counter() - start)

    async def all_requests() -> None:
        gate = asyncio.Semaphore(AT_A_TIME)
        await asyncio.gather(*(request(n, gate) for n in range(REQUESTS)))

    start = time.perf_counter()
    stage.run(all_requests())
    total = time.perf_counter() - start
    others = [f for f in failures if "locked" not in f]
    if others:
        raise RuntimeError(f"{name} failed otherwise than by a lock: {others[0][:200]}")
    return Outcome(name, len(failures), tuple(times), total)


def _write(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(INSERT_NOTE)


def two_files(folder: Path) -> Outcome:
    """As the application has it before a move."""
    return _stock("two files, LangGraph's saver (before)", folder / "app.sqlite", folder / "graph.sqlite")


def merged_alone(folder: Path) -> Outcome:
    """One file, and nothing else changed."""
    return _stock("one file, LangGraph's saver (merged alone)", folder / "one.sqlite", folder / "one.sqlite")


def _stock(name: str, application: Path, graphs: Path) -> Outcome:
    stage, engine = Stage("stock", graphs), stock_engine(application, timeout_s=BUSY_TIMEOUT_S)
    try:
        return measure(name, stage, engine)
    finally:
        stage.close()
        engine.dispose()


def with_ours(folder: Path) -> Outcome:
    """One file with our saver, and our engine on it."""
    path = folder / "ours.sqlite"
    with UnifiedDatabase(path) as db:
        prepare(db.engine)
        stage = Stage("ours", path)
        try:
            return measure("one file, unify-db's saver (after)", stage, db.engine)
        finally:
            stage.close()


SIDES: tuple[Callable[[Path], Outcome], ...] = (two_files, merged_alone, with_ours)


_PAGE = """\
# What merging alone does

Made by `make bench-lock-up` (`benchmarks/lock_up.py`), {made}.

{requests} requests, {at_a_time} at a time on one event loop. Each writes a row through sync SQLAlchemy, runs
a graph of 5 nodes through the async saver, and writes a row again. Files are in WAL mode, and a writer waits
for a lock for {timeout:g} s, as `sqlite3` does by default. The sides took turns, {rounds} rounds each. The
machine's load was {load:.1f} from other work, beside all sides alike.

{table}

The stock saver executes a statement in one trip through the event loop and commits in another. A sync write
that comes between the two waits for the lock, and while it waits the loop cannot make the trip that would
free it. So it waits for nothing, for all of its time, and all other requests with it. How often one comes
between is chance, so the figures of the second row differ from run to run.
"""


def render(outcomes: list[Outcome]) -> str:
    """The page."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS)
    machine = f"{os.cpu_count()} cores, Linux {platform.machine()}, Python {platform.python_version()}"
    return _PAGE.format(
        made=f"{datetime.now(UTC):%Y-%m-%d}. {machine}, SQLite {sqlite3.sqlite_version}, {versions}",
        requests=REQUESTS,
        rounds=ROUNDS,
        load=os.getloadavg()[0],
        at_a_time=AT_A_TIME,
        timeout=BUSY_TIMEOUT_S,
        table="\n".join(table(outcomes)),
    )


def table(outcomes: list[Outcome]) -> list[str]:
    """The table's lines, as the page and the README have them."""
    lines = [
        '| | "database is locked" | median request | worst request | all requests of a round |',
        "|---|---|---|---|---|",
    ]
    for one in outcomes:
        median_s, worst_s = statistics.median(one.times_s), max(one.times_s)
        times = f"{median_s:.2f} s | {worst_s:.2f} s | {one.total_s / ROUNDS:.1f} s"
        lines.append(f"| {one.name} | {one.failed} of {len(one.times_s)} requests | {times} |")
    return lines


def main() -> None:
    """Measure all sides and write the page."""
    found: dict[str, Outcome] = {}
    for _ in range(ROUNDS):
        for side in SIDES:
            with tempfile.TemporaryDirectory() as folder:
                one = side(Path(folder))
            found[one.name] = found[one.name] + one if one.name in found else one
    page = render(list(found.values()))
    PAGE.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
