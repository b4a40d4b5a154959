"""What an application gets besides: tables to join, a thread listing, and Alembic that keeps quiet."""

from __future__ import annotations

import sqlite3
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.sqlite import SqliteStore
from sqlalchemy import create_engine, inspect, select, text

from tests.runtime.support import checkpoint, config, metadata
from unified_db import UnifiedDatabase, UnifiedSqliteSaver, UnifiedSqliteStore
from unified_db.runtime import schema
from unified_db.runtime.threads import time_of

ENV = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
{imports}

target = MetaData()
Table("notes", target, Column("id", Integer, primary_key=True))
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=target{options})
    with context.begin_transaction():
        context.run_migrations()
"""


def columns_of(path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
    """Name, type, NOT NULL and place in the key of each column, by table."""
    with closing(sqlite3.connect(path)) as conn:
        names = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted((c[1], c[2].upper(), c[3], c[5]) for c in conn.execute(f"PRAGMA table_info({name})"))
            for name in names
            if name in schema.metadata.tables
        }


def test_the_tables_are_those_that_langgraph_makes(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.sqlite", tmp_path / "ours.sqlite"
    with SqliteSaver.from_conn_string(str(theirs)) as saver:
        saver.setup()
    with SqliteStore.from_conn_string(str(theirs)) as store:
        store.setup()
    with UnifiedDatabase(ours) as db:
        UnifiedSqliteSaver(db).setup()
        UnifiedSqliteStore(db).setup()
    described = tmp_path / "described.sqlite"
    engine = create_engine(f"sqlite:///{described}")
    schema.metadata.create_all(engine)
    indexes = {i["name"] for i in inspect(engine).get_indexes("store")}
    engine.dispose()
    made = columns_of(theirs)
    if not any(c[0] == "task_path" for c in made["writes"]):
        made["writes"] = columns_of(ours)["writes"]
    assert columns_of(ours) == made
    assert {k: v for k, v in columns_of(described).items() if k in made} == made
    assert indexes == {"store_prefix_idx", "idx_store_expires_at"}


def test_a_query_joins_rows_to_their_threads(path: Path) -> None:
    with UnifiedDatabase(path) as db:
        saver = UnifiedSqliteSaver(db)
        for step in range(3):
            last = saver.put(config("t1"), checkpoint(step=step), metadata(step), {})
        saver.put(config("t1", "sub"), checkpoint(), metadata(), {})
        with db.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (thread_id TEXT, body TEXT)"))
            conn.execute(text("INSERT INTO notes VALUES ('t1', 'hello'), ('t2', 'no thread')"))
            threads = schema.thread_summaries().subquery()
            notes = text("SELECT body, thread_id FROM notes").columns(body=None, thread_id=None).subquery()  # type: ignore[arg-type]
            joined = select(notes.c.body, threads.c.checkpoints, threads.c.checkpoint_id).join(
                threads, threads.c.thread_id == notes.c.thread_id
            )
            assert conn.execute(joined).all() == [("hello", 4, last["configurable"]["checkpoint_id"])]


async def test_threads_are_listed_newest_first(path: Path) -> None:
    before = datetime.now(UTC)
    async with UnifiedDatabase(path) as db:
        saver = UnifiedSqliteSaver(db)
        assert await db.athreads() == []
        for thread_id in ("a", "b", "a", "c"):
            saved = saver.put(config(thread_id), checkpoint(), metadata(), {})
        saver.put(config("b", "sub"), checkpoint(), metadata(), {})
        found = await db.athreads()
        assert [(t.thread_id, t.checkpoints) for t in found] == [("b", 2), ("c", 1), ("a", 2)]
        assert found[1].checkpoint_id == saved["configurable"]["checkpoint_id"]
        assert db.threads(limit=1, offset=1) == [found[1]]
    for thread in found:
        assert thread.created_at is not None
        assert thread.updated_at is not None
        # LangGraph's clock may run ahead by some ticks when ids are made in a row.
        assert before - timedelta(seconds=1) <= thread.created_at <= thread.updated_at
        assert thread.updated_at <= datetime.now(UTC) + timedelta(seconds=1)


def test_listing_threads_reads_the_index_alone(path: Path) -> None:
    from unified_db.runtime import threads

    with UnifiedDatabase(path) as db:
        db.prepare_sync()
        plan = db.lane.read_sync(
            lambda conn: conn.execute("EXPLAIN QUERY PLAN " + threads._THREADS, (-1, 0)).fetchall()
        )
    assert "USING COVERING INDEX" in plan[0][3]


@pytest.mark.parametrize("name", ["", "no-uuid", "6f7e1f5e-4d0c-4a7b-9f1b-0d6f0f0f0f0f"])
def test_other_ids_hold_no_time(name: str) -> None:
    assert time_of(name) is None


@pytest.mark.parametrize("way", ["include_object", "include_name", None])
def test_alembic_check_finds_nothing_to_do(path: Path, tmp_path: Path, way: str | None) -> None:
    command = pytest.importorskip("alembic.command")
    from alembic.config import Config
    from alembic.util.exc import AutogenerateDiffsDetected

    with UnifiedDatabase(path) as db:
        UnifiedSqliteSaver(db).setup()
        UnifiedSqliteStore(db).setup()
        with db.engine.begin() as conn:
            conn.execute(text("CREATE TABLE notes (id INTEGER NOT NULL PRIMARY KEY)"))
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(
        ENV.format(
            imports=f"from unified_db.runtime.alembic import {way}" if way else "",
            options=f", {way}={way}" if way else "",
        )
    )
    settings = Config(stdout=(output := StringIO()))
    settings.set_main_option("script_location", str(scripts))
    settings.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    if way is None:
        with pytest.raises(AutogenerateDiffsDetected, match="remove_table"):
            command.check(settings)
        return
    with redirect_stdout(output):
        command.check(settings)
    assert "No new upgrade operations detected" in output.getvalue()


def test_a_table_of_the_applications_own_is_still_compared() -> None:
    from sqlalchemy import Column, Integer, MetaData, Table

    from unified_db.runtime.alembic import include_object

    shop = Table("store", MetaData(), Column("id", Integer, primary_key=True), Column("city", Integer))
    assert include_object(shop, "store", "table", True, None)
    assert include_object(schema.store, "store", "table", True, schema.store)
    assert not include_object(schema.store, "store", "table", True, None)
    assert include_object(schema.checkpoints.c.type, "type", "column", True, None)
