"""The writer leaves neither a lock nor half a row, whatever happens to those who use it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.runtime.support import checkpoint, config, lock_is_free, metadata, table
from unified_db import UnifiedAsyncSqliteSaver, UnifiedDatabase
from unified_db.errors import DatabaseClosedError, DatabaseMovedError, UsageError, WriteLockHeldError
from unified_db.runtime.connections import FileSettings
from unified_db.runtime.lanes import FileLane, close_file, open_file
from unified_db.runtime.work import Call, Insert, Rows

SCRIPT = Path(__file__).parent / "writer_script.py"
INSERT = Insert("INSERT INTO notes VALUES (?)", "notes")


def note(text_: str) -> Rows:
    return Rows(INSERT, [(text_,)])


def fail(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO notes VALUES ('half')")
    raise ZeroDivisionError("the caller's own")


@pytest.fixture
def busy_timeout_s() -> float:
    return 0.3


@pytest.fixture
def lane(path: Path, busy_timeout_s: float) -> Iterator[FileLane]:
    lane = open_file(path, FileSettings(busy_timeout_s=busy_timeout_s))
    lane.write_sync(Call(lambda conn: conn.execute("CREATE TABLE notes (text PRIMARY KEY)")))
    yield lane
    close_file(lane)


async def test_writers_that_wait_together_share_commits(lane: FileLane) -> None:
    begun: list[str] = []
    await lane.write(Call(lambda conn: conn.set_trace_callback(begun.append)))
    await asyncio.gather(*(lane.write(note(str(n))) for n in range(200)))
    await lane.write(Call(lambda conn: conn.set_trace_callback(None)))
    assert sum(s.startswith("BEGIN") for s in begun) < 20
    assert len(table(lane.path, "notes")) == 200


async def test_only_the_caller_who_caused_an_error_sees_it(lane: FileLane) -> None:
    works = [note("a"), Call(fail), note("b"), note("a"), note("c")]
    found = await asyncio.gather(*(lane.write(work) for work in works), return_exceptions=True)
    assert [type(f) for f in found] == [
        type(None),
        ZeroDivisionError,
        type(None),
        sqlite3.IntegrityError,
        type(None),
    ]
    assert table(lane.path, "notes") == [("a",), ("b",), ("c",)]
    assert lock_is_free(lane.path)


async def test_results_go_to_those_who_asked(lane: FileLane) -> None:
    found = await asyncio.gather(*(lane.write(note(str(n)), Call(lambda _c, n=n: n)) for n in range(20)))
    assert found == list(range(20))


async def test_what_is_cancelled_before_it_begins_is_never_written(lane: FileLane) -> None:
    going = threading.Event()
    blocking = asyncio.create_task(lane.write(Call(lambda _c: going.wait(5))))
    await asyncio.sleep(0.02)
    waiting = [asyncio.create_task(lane.write(note(str(n)))) for n in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    going.set()
    await asyncio.gather(blocking, *waiting, return_exceptions=True)
    assert waiting[1].cancelled()
    assert table(lane.path, "notes") == [("0",), ("2",)]
    assert lock_is_free(lane.path)


async def test_what_is_cancelled_while_it_runs_is_written_whole(lane: FileLane) -> None:
    going, begun = threading.Event(), threading.Event()

    def slow(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO notes VALUES ('first half')")
        begun.set()
        going.wait(5)
        conn.execute("INSERT INTO notes VALUES ('second half')")

    writing = asyncio.create_task(lane.write(Call(slow)))
    await asyncio.to_thread(begun.wait, 5)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    going.set()
    await lane.write(note("next"))
    assert len(table(lane.path, "notes")) == 3


def test_a_loop_that_closes_under_a_write_hurts_nobody(lane: FileLane) -> None:
    going = threading.Event()

    async def leave() -> None:
        writing = asyncio.ensure_future(lane.write(Call(lambda _c: going.wait(5))))
        asyncio.ensure_future(lane.write(note("dropped")))  # noqa: RUF006 - nobody waits for it
        await asyncio.sleep(0.02)
        writing.remove_done_callback(print)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with contextlib.suppress(RuntimeError):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    going.set()
    lane.write_sync(note("after"))
    assert ("after",) in table(lane.path, "notes")
    assert lock_is_free(lane.path)


async def test_several_loops_use_one_writer(lane: FileLane) -> None:
    def another_loop(n: int) -> None:
        async def write() -> None:
            await asyncio.gather(*(lane.write(note(f"{n}-{k}")) for k in range(20)))

        asyncio.run(write())

    await asyncio.gather(*(asyncio.to_thread(another_loop, n) for n in range(4)))
    assert len(table(lane.path, "notes")) == 80


async def test_a_lock_that_another_process_holds_is_waited_for_then_named(lane: FileLane) -> None:
    with closing(sqlite3.connect(lane.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(lane.write(note(str(n)))) for n in range(3)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(f) for f in found] == [WriteLockHeldError] * 3
        assert "waited 0.3 s" in str(found[0])
        assert isinstance(found[0], sqlite3.OperationalError)
        # A reader waits for nobody.
        assert await lane.read(lambda conn: conn.execute("SELECT count(*) FROM notes").fetchone()) == (0,)
        other.execute("ROLLBACK")
    await lane.write(note("after"))
    assert table(lane.path, "notes") == [("after",)]


@pytest.mark.parametrize("busy_timeout_s", [30.0])
async def test_what_comes_while_the_lock_is_waited_for_shares_that_commit(lane: FileLane) -> None:
    begun: list[str] = []
    await lane.write(Call(lambda conn: conn.set_trace_callback(begun.append)))
    with closing(sqlite3.connect(lane.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(lane.write(note("first")))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(lane.write(note(str(n)))) for n in range(20)]
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
    await asyncio.gather(first, *others)
    await lane.write(Call(lambda conn: conn.set_trace_callback(None)))
    # The first one's, and that of the call which ends the trace.
    assert sum(s.startswith("BEGIN") for s in begun) == 2
    assert len(table(lane.path, "notes")) == 21


@pytest.mark.parametrize("busy_timeout_s", [4.0])
async def test_each_job_has_a_patience_of_its_own(lane: FileLane) -> None:
    """A job that was given later is not given up with the one that it waited behind."""
    with closing(sqlite3.connect(lane.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        early = asyncio.create_task(lane.write(note("early")))
        await asyncio.sleep(2.5)
        late = asyncio.create_task(lane.write(note("late")))
        with pytest.raises(WriteLockHeldError):
            await early
        other.execute("ROLLBACK")
    await late
    assert table(lane.path, "notes") == [("late",)]


async def test_a_full_disk_leaves_neither_a_lock_nor_half_a_row(lane: FileLane) -> None:
    def limit(conn: sqlite3.Connection) -> None:
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        conn.execute(f"PRAGMA max_page_count={pages + 2}")

    await lane.write(Call(limit))
    works = [note("small"), note("x" * 1_000_000), note("tiny")]
    found = await asyncio.gather(*(lane.write(work) for work in works), return_exceptions=True)
    assert [type(f) for f in found] == [type(None), sqlite3.OperationalError, type(None)]
    assert "full" in str(found[1])
    assert lock_is_free(lane.path)
    assert table(lane.path, "notes") == [("small",), ("tiny",)]


async def test_a_job_that_only_looks_changes_nothing(lane: FileLane) -> None:
    count = Call(lambda conn: conn.execute("SELECT count(*) FROM notes").fetchone()[0])
    assert await lane.write(note("a"), count, ending="ROLLBACK") == 1
    assert await lane.write(count) == 0


def test_two_names_of_a_file_share_one_writer(lane: FileLane, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(lane.path)
    other = open_file(link)
    assert other is lane
    close_file(other)
    lane.write_sync(note("still open"))


def test_two_hard_links_of_a_file_are_refused(lane: FileLane, tmp_path: Path) -> None:
    """Each name would have a WAL of its own, and SQLite destroy the file."""
    link = tmp_path / "link.sqlite"
    link.hardlink_to(lane.path)
    with pytest.raises(UsageError, match="two names of one file"):
        open_file(link)
    lane.write_sync(note("still open"))


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved"])
async def test_a_file_that_is_not_where_it_was_is_named_not_written_into_the_void(
    path: Path, tmp_path: Path, how: str
) -> None:
    async with UnifiedDatabase(path) as db:
        saver = UnifiedAsyncSqliteSaver(db)
        await saver.aput(config(), checkpoint(), metadata(), {})
        with db.engine.connect() as conn:
            conn.execute(text("SELECT 1"))
        _take_away(path, tmp_path, how)
        with pytest.raises(DatabaseMovedError, match="is not the file that was opened"):
            await saver.aput(config(), checkpoint(), metadata(), {})
        with pytest.raises(DatabaseMovedError):
            await saver.aget_tuple(config())
        # SQLAlchemy 2.1 wraps what a pool raises, as every release does for a statement.
        with pytest.raises((sqlite3.OperationalError, OperationalError), match="is not the file"):
            db.engine.connect()
        with pytest.raises((sqlite3.OperationalError, OperationalError), match="is not the file"):
            async with db.transaction() as session:
                await session.execute(text("SELECT 1"))
        async with UnifiedDatabase(path) as again:
            assert [c async for c in UnifiedAsyncSqliteSaver(again).alist(None)] == []


def _take_away(path: Path, folder: Path, how: str) -> None:
    if how == "moved":
        path.rename(folder / "elsewhere.sqlite")
        return
    for file in folder.glob(f"{path.name}*"):
        file.unlink()
    if how == "replaced":
        sqlite3.connect(path).close()


def test_a_closed_file_says_so(path: Path) -> None:
    lane = open_file(path)
    lane.write_sync(Call(lambda conn: conn.execute("CREATE TABLE notes (text)")))
    lane.read_sync(lambda conn: conn.execute("SELECT 1").fetchone())
    close_file(lane)
    with pytest.raises(DatabaseClosedError, match="was closed"):
        lane.write_sync(note("late"))
    with pytest.raises(DatabaseClosedError, match="was closed"):
        lane.read_sync(lambda conn: conn.execute("SELECT 1"))
    # The last connection brought the WAL into the file.
    assert not path.with_name(path.name + "-wal").exists()


def test_readers_cannot_write(lane: FileLane) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        lane.read_sync(lambda conn: conn.execute("INSERT INTO notes VALUES ('x')"))


async def test_sync_writers_on_the_loop_meet_no_lock_error(path: Path) -> None:
    """The mix that takes the stock saver ten seconds and two lock errors, and an application 55 s."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 5})
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE notes (text)"))

    async def graph_like(saver: UnifiedAsyncSqliteSaver, n: int) -> None:
        for step in range(10):
            saved = await saver.aput(config(f"t{n}"), checkpoint(step=step), metadata(step), {})
            await saver.aput_writes(saved, [("c", step)], "task")

    async def application(n: int) -> None:
        for step in range(10):
            with engine.begin() as conn:
                conn.execute(text("INSERT INTO notes VALUES (:t)"), {"t": f"{n}-{step}"})
            await asyncio.sleep(0)

    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        await asyncio.gather(*(graph_like(saver, n) for n in range(8)), *(application(n) for n in range(4)))
        assert len([c async for c in saver.alist(None)]) == 80
    engine.dispose()
    assert len(table(path, "notes")) == 40


# --- Processes -----------------------------------------------------------------------------------


def run(act: str, path: Path, *more: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, str(SCRIPT), act, str(path), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_several_processes_write_one_file(path: Path) -> None:
    running = [run("many", path, "25") for _ in range(3)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ended
    assert len(table(path, "checkpoints")) == len(table(path, "writes")) == 300


def test_a_fork_opens_a_writer_of_its_own(path: Path) -> None:
    process = run("fork", path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == "3"
    assert lock_is_free(path)


@pytest.mark.parametrize("how", ["return", "exit", "interrupt"])
def test_an_interpreter_that_ends_with_work_pending_leaves_whole_rows(path: Path, how: str) -> None:
    process = run("leave", path, how)
    process.communicate(timeout=60)
    assert process.returncode == {"return": 0, "exit": 3, "interrupt": -signal.SIGINT}[how]
    assert lock_is_free(path)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute(
            "SELECT count(*) FROM checkpoints WHERE length(checkpoint) < 10000"
        ).fetchone() == (0,)


async def test_readers_that_come_and_go_let_the_wal_start_again(path: Path) -> None:
    """A reader that stayed would pin its snapshot, and the WAL would grow for as long."""
    wal = path.with_name(path.name + "-wal")
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(path)) as saver:
        for step in range(40):
            await saver.aput(config(), checkpoint(step=step), metadata(step), {})
        listing = saver.alist(config())
        await anext(listing)
        for step in range(600):
            big = checkpoint({"blob": "x" * 20_000}, step=step)
            await saver.aput(config("u"), big, metadata(step), {})
            await saver.aget_tuple(config("u"))
        # 600 states of 20 kB are 12 MB; SQLite brings the WAL into the file at 4 MB.
        size = await asyncio.to_thread(lambda: wal.stat().st_size)
        await listing.aclose()
    assert size < 6_000_000


def test_kill_leaves_neither_a_lock_nor_half_a_row(path: Path) -> None:
    process = run("for-ever", path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while True:
        with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as conn:
            if conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0] > 50:
                break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert lock_is_free(path)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        saved: Any = conn.execute("SELECT thread_id, checkpoint_id FROM checkpoints ORDER BY 1, 2").fetchall()
        written = conn.execute("SELECT thread_id, checkpoint_id FROM writes ORDER BY 1, 2").fetchall()
    # Each writer was somewhere between a checkpoint and its writes.
    assert len(saved) - 4 <= len(written) <= len(saved)
    assert set(written) <= set(saved)
