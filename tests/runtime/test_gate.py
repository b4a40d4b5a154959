"""Writers of a process take turns: in order, nobody forgotten, no turn kept by who has gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.runtime.support import lock_is_free, table
from unified_db import UnifiedDatabase
from unified_db.runtime.engines import raw_connection_of
from unified_db.runtime.gate import BlockedHolderError, Gate, Turn
from unified_db.runtime.work import Call

INSERT = text("INSERT INTO notes VALUES ('x')")


@pytest.fixture
def db(path: Path) -> Iterator[UnifiedDatabase]:
    with UnifiedDatabase(path, busy_timeout_s=1.0) as database:
        with database.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (body)"))
        yield database


def start(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.001)


def gate_is_free(db: UnifiedDatabase) -> bool:
    """Whether the gate can be had at once; `lock_is_free` asks SQLite, which knows nothing of it."""
    gate, turn = db.lane.writer.gate, Turn()
    entered = gate.enter(turn, 0)
    gate.leave(turn)
    return entered


# --- The gate alone ------------------------------------------------------------------------------


def test_turns_come_in_order_of_arrival() -> None:
    gate, first, came = Gate(), Turn(), []
    assert gate.enter(first, 1)

    def take(n: int) -> None:
        turn = Turn()
        assert gate.enter(turn, 10)
        came.append(n)
        gate.leave(turn)

    threads = []
    for n in range(20):
        threads.append(start(lambda n=n: take(n)))
        until(lambda n=n: len(gate._waiting) == n + 1)
    gate.leave(first)
    for thread in threads:
        thread.join(10)
    assert came == list(range(20))


def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    gate, first, late = Gate(), Turn(), Turn()
    assert gate.enter(first, 1)
    assert not gate.enter(late, 0.05)
    gate.leave(first)
    assert gate.enter(Turn(), 0)


def test_leaving_twice_takes_nothing_from_the_next_one() -> None:
    gate, first, second = Gate(), Turn(), Turn()
    assert gate.enter(first, 1)
    gate.leave(first)
    assert gate.enter(second, 1)
    gate.leave(first)
    assert not gate.enter(Turn(), 0)


def test_what_would_stop_the_holders_loop_is_refused_at_once() -> None:
    loop = asyncio.new_event_loop()
    gate = Gate()
    assert gate.enter(Turn(needs=loop, place="app.py:7"), 1)
    with pytest.raises(BlockedHolderError, match=r"app\.py:7"):
        gate.enter(Turn(blocks=loop), 10)
    loop.close()


def test_who_stops_a_loop_goes_before_those_who_need_it() -> None:
    """The other order would stop both: the one who needs the loop gets the lock and cannot go on."""
    loop = asyncio.new_event_loop()
    gate, first = Gate(), Turn()
    came: list[str] = []
    assert gate.enter(first, 1)

    def take(name: str, turn: Turn) -> None:
        assert gate.enter(turn, 10)
        came.append(name)
        gate.leave(turn)

    threads = []
    turns = {"other": Turn(), "needs": Turn(needs=loop), "blocks": Turn(needs=loop, blocks=loop)}
    for n, (name, turn) in enumerate(turns.items()):
        threads.append(start(lambda name=name, turn=turn: take(name, turn)))
        until(lambda n=n: len(gate._waiting) == n + 1)
    gate.leave(first)
    for thread in threads:
        thread.join(10)
    assert came == ["other", "blocks", "needs"]
    loop.close()


def test_ending_a_transaction_inside_the_gate_is_harmless() -> None:
    """Collecting garbage ends forgotten transactions at any moment, so also inside of `enter`."""
    gate, first = Gate(), Turn()
    assert gate.enter(first, 1)

    original = gate._place_for

    def place_for(turn: Turn) -> int:
        gate.leave(first)
        return original(turn)

    gate._place_for = place_for  # type: ignore[method-assign]
    assert gate.enter(Turn(), 5)


def test_ctrl_c_while_waiting_leaves_no_ghost_in_the_queue() -> None:
    gate, first = Gate(), Turn()
    assert gate.enter(first, 1)

    def interrupt() -> None:
        until(lambda: len(gate._waiting) == 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = start(interrupt)
    with pytest.raises(KeyboardInterrupt):
        gate.enter(Turn(), 10)
    thread.join()
    assert gate._waiting == []
    gate.leave(first)
    assert gate.enter(Turn(), 0)


def test_many_threads_with_ever_so_short_patience_lose_no_turn() -> None:
    gate, inside, worst, done = Gate(), 0, 0, []

    def work(seed: int) -> None:
        nonlocal inside, worst
        for n in range(200):
            turn = Turn()
            if gate.enter(turn, (seed * 7 + n) % 5 * 0.0002):
                inside += 1
                worst = max(worst, inside)
                if n % 10 == 0:
                    time.sleep(0.0001)
                inside -= 1
                gate.leave(turn)
        done.append(seed)

    threads = [start(lambda n=n: work(n)) for n in range(8)]
    for thread in threads:
        thread.join(30)
    assert (len(done), worst) == (8, 1)
    assert gate._waiting == []
    assert gate.enter(Turn(), 0)


# --- Engines and the writer ------------------------------------------------------------------------


def test_the_writer_waits_for_a_transaction_of_an_engine(db: UnifiedDatabase) -> None:
    came: list[str] = []

    def write() -> None:
        db.lane.write_sync(Call(lambda conn: conn.execute("INSERT INTO notes VALUES ('writer')")))
        came.append("writer")

    with db.engine.begin() as conn:
        conn.execute(INSERT)
        thread = start(write)
        until(lambda: len(db.lane.writer.gate._waiting) == 1)
        came.append("engine")
    thread.join(10)
    assert came == ["engine", "writer"]
    assert gate_is_free(db)


def test_an_engine_gets_its_turn_among_a_writers_jobs(db: UnifiedDatabase) -> None:
    """A writer that is never idle comes back to the gate behind whoever waits there."""
    ended = threading.Event()
    batches = 0

    def count(_conn: sqlite3.Connection) -> None:
        nonlocal batches
        batches += 1

    def write() -> None:
        while not ended.is_set():
            db.lane.write_sync(Call(count))

    gate, before = db.lane.writer.gate, 0
    take_or_queue = gate._take_or_queue

    def note_when_queued(turn: Turn) -> bool:
        nonlocal before
        taken = take_or_queue(turn)
        if turn.connection is not None:
            before = batches
        return taken

    gate._take_or_queue = note_when_queued  # type: ignore[method-assign]
    threads = [start(write) for _ in range(8)]
    until(lambda: batches > 50)
    waited: list[int] = []
    for _ in range(50):
        with db.engine.begin() as conn:
            conn.execute(INSERT)
            waited.append(batches - before)
    ended.set()
    for thread in threads:
        thread.join(10)
    # Once it is in the queue, no more than the batch whose turn it is: a job of each thread.
    assert max(waited) <= len(threads)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "END"])
def test_an_end_that_comes_as_a_statement_gives_the_turn_back(db: UnifiedDatabase, end: str) -> None:
    with db.engine.connect() as conn:
        raw = conn.connection.cursor()
        raw.execute("INSERT INTO notes VALUES ('x')")
        assert not gate_is_free(db)
        raw.execute(end)
        assert gate_is_free(db)


def test_a_with_block_of_the_driver_gives_the_turn_back(db: UnifiedDatabase) -> None:
    connection = db.engine.connect()
    raw = raw_connection_of(connection)
    with raw:
        raw.execute("INSERT INTO notes VALUES ('kept')")
    assert gate_is_free(db)
    with contextlib.suppress(ZeroDivisionError), raw:
        raw.execute("INSERT INTO notes VALUES ('gone')")
        raise ZeroDivisionError
    assert gate_is_free(db)
    connection.close()
    assert table(db.path, "notes") == [("kept",)]


def test_a_transaction_that_sqlite_ends_itself_gives_the_turn_back(db: UnifiedDatabase) -> None:
    with db.engine.connect() as conn:
        raw = conn.connection.cursor()
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count={pages + 2}")
        raw.execute("INSERT INTO notes VALUES ('small')")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            raw.execute("INSERT INTO notes VALUES (zeroblob(1000000))")
        assert gate_is_free(db)
        assert lock_is_free(db.path)
    assert table(db.path, "notes") == []


def test_a_connection_that_is_dropped_in_its_transaction_keeps_nobody_out(db: UnifiedDatabase) -> None:
    fairy = db.engine.raw_connection()
    raw: Any = fairy.driver_connection
    fairy.detach()
    raw.execute("INSERT INTO notes VALUES ('gone')")
    assert not gate_is_free(db)
    del raw, fairy
    gc.collect()
    with db.engine.begin() as conn:
        conn.execute(INSERT)
    assert table(db.path, "notes") == [("x",)]


def test_a_transaction_whose_end_nobody_noticed_keeps_nobody_out(db: UnifiedDatabase) -> None:
    """The driver commits by itself when its isolation level is taken away."""
    connection = db.engine.connect()
    raw = raw_connection_of(connection)
    raw.execute("INSERT INTO notes VALUES ('kept')")
    sqlite3.Connection.commit(raw)
    db.lane.write_sync(Call(lambda conn: conn.execute("INSERT INTO notes VALUES ('next')")))
    connection.close()
    assert table(db.path, "notes") == [("kept",), ("next",)]


def test_autocommit_takes_a_turn_for_each_statement(db: UnifiedDatabase) -> None:
    came: list[str] = []

    def write() -> None:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(INSERT)
            came.append("autocommit")
            assert gate_is_free(db)
            conn.execute(INSERT)

    with db.engine.begin() as conn:
        conn.execute(INSERT)
        thread = start(write)
        until(lambda: len(db.lane.writer.gate._waiting) == 1)
        came.append("engine")
    thread.join(10)
    assert came == ["engine", "autocommit"]
    assert len(table(db.path, "notes")) == 3
    assert gate_is_free(db)


def test_an_error_at_the_first_write_gives_the_turn_back(db: UnifiedDatabase) -> None:
    with db.engine.connect() as conn:
        with pytest.raises(Exception, match="no such table"):
            conn.execute(text("INSERT INTO nowhere VALUES (1)"))
        conn.rollback()
        assert gate_is_free(db)


def test_waiting_for_this_process_and_for_others_counts_together(path: Path) -> None:
    """Somebody here keeps the gate for most of the busy timeout, then another process keeps the lock."""
    with UnifiedDatabase(path, busy_timeout_s=6.0) as db:
        with db.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (body)"))
        gate, turn = db.lane.writer.gate, Turn()
        assert gate.enter(turn, 1)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(3.0, gate.leave, [turn]).start()
        begun = time.monotonic()
        with db.engine.connect() as conn, pytest.raises(Exception, match=r"waited 6 s"):
            conn.execute(INSERT)
        # One timeout after the other would be 9 s.
        assert time.monotonic() - begun < 8.5
        with db.engine.connect() as conn:
            assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() == 6000
        other.close()
        assert gate_is_free(db)


async def test_sync_and_asyncio_sessions_on_one_loop_never_stop_each_other(path: Path) -> None:
    """A sync write that queued behind an asyncio session's would wait for the loop it stops."""
    async with UnifiedDatabase(path, busy_timeout_s=2.0) as db:
        with db.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (body)"))
        refused = 0

        async def asynchronous() -> None:
            for _ in range(30):
                async with AsyncSession(db.async_engine) as session:
                    await session.execute(INSERT)
                    await session.commit()

        async def synchronous() -> None:
            nonlocal refused
            for _ in range(30):
                try:
                    with db.engine.begin() as conn:
                        conn.execute(INSERT)
                except OperationalError as error:
                    if "would stop the loop" not in str(error):
                        raise
                    refused += 1
                await asyncio.sleep(0)

        async def busy() -> None:
            for _ in range(100):
                await db.lane.write(Call(lambda conn: conn.execute("INSERT INTO notes VALUES ('w')")))

        await asyncio.gather(*(asynchronous() for _ in range(3)), synchronous(), busy())
        assert len(table(path, "notes")) == 90 + 30 - refused + 100
        assert gate_is_free(db)


async def test_a_task_that_is_cancelled_while_it_waits_keeps_no_turn(path: Path) -> None:
    async with UnifiedDatabase(path, busy_timeout_s=5.0) as db:
        with db.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (body)"))
        gate, turn = db.lane.writer.gate, Turn()
        assert gate.enter(turn, 1)

        async def write() -> None:
            async with AsyncSession(db.async_engine) as session:
                await session.execute(INSERT)
                await session.commit()

        task = asyncio.create_task(write())
        await asyncio.to_thread(until, lambda: bool(gate._waiting))
        task.cancel()
        await asyncio.sleep(0.01)
        gate.leave(turn)
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.lane.write(Call(lambda conn: conn.execute("INSERT INTO notes VALUES ('next')")))
        assert table(path, "notes") == [("next",)]


FORK = """
import os, sys
from sqlalchemy import text
from unified_db import UnifiedDatabase
from unified_db.runtime.engines import raw_connection_of
from unified_db.runtime.gate import Turn

db = UnifiedDatabase(sys.argv[1], busy_timeout_s=5)
write = text("INSERT INTO notes VALUES ('x')")
with db.engine.begin() as conn:
    conn.execute(text("CREATE TABLE notes (body)"))
    parents = raw_connection_of(conn)
db.lane.writer.run_sync()
turn = Turn()
# As a thread has it that is about to begin. Nobody in the child will ever leave.
assert db.lane.writer.gate.enter(turn, 1)
child = os.fork()
if child == 0:
    try:
        with db.engine.begin() as conn:
            conn.execute(write)
            assert raw_connection_of(conn) is not parents
        db.lane.writer.run_sync()
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
db.lane.writer.gate.leave(turn)
with db.engine.begin() as conn:
    conn.execute(write)
with db.engine.connect() as conn:
    print(code, conn.execute(text("SELECT count(*) FROM notes")).scalar())
"""


def test_a_fork_inherits_neither_a_turn_nor_a_connection(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(path)]
    done = subprocess.run(
        command,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.split(), done.returncode) == (["0", "2"], 0), done.stderr
    assert lock_is_free(path)


INTERRUPTED = """
import os, random, signal, sys, threading, time
from sqlalchemy import text
from unified_db import UnifiedDatabase

db = UnifiedDatabase(sys.argv[1], busy_timeout_s=20)
with db.engine.begin() as conn:
    conn.execute(text("CREATE TABLE notes (body)"))
ended = False

def beside():
    while not ended:
        db.lane.writer.run_sync()

threads = [threading.Thread(target=beside) for _ in range(2)]
for thread in threads:
    thread.start()
interrupts, armed = 0, False
random.seed(3)

def on_interrupt(_number, frame):
    # Everywhere but in this script's own loop, which has to count them.
    if armed and frame.f_code.co_name != "<module>":
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, on_interrupt)

def insert():
    with db.engine.begin() as conn:
        conn.execute(text("INSERT INTO notes VALUES ('x')"))

def interrupt():
    while not ended:
        time.sleep(random.uniform(0.0005, 0.004))
        os.kill(os.getpid(), signal.SIGINT)

attack = threading.Thread(target=interrupt)
attack.start()
armed, end = True, time.monotonic() + 3
while time.monotonic() < end:
    try:
        insert()
    except BaseException:
        interrupts += 1
armed, ended = False, True
attack.join()
for thread in threads:
    thread.join()
waited = time.monotonic()
db.lane.writer.run_sync()
with db.engine.begin() as conn:
    conn.execute(text("INSERT INTO notes VALUES ('last')"))
print(interrupts > 100, time.monotonic() - waited < 5)
"""


def test_ctrl_c_at_any_moment_leaves_the_gate_passable(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(path)]
    done = subprocess.run(
        command,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.stdout.split() == ["True", "True"], done.stderr[-3000:]
    assert lock_is_free(path)
