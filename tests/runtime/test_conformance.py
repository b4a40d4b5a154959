"""The public conformance suite of LangGraph's checkpointers, in full."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from unified_db import UnifiedAsyncSqliteSaver, UnifiedDatabase, UnifiedSqliteSaver

conformance = pytest.importorskip("langgraph.checkpoint.conformance")
report_module = pytest.importorskip("langgraph.checkpoint.conformance.report")

Factory = Callable[[Path], Any]


async def own_file(folder: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    async with UnifiedAsyncSqliteSaver.from_conn_string(str(folder / "own.sqlite")) as saver:
        yield saver


async def lent_connection(folder: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    async with aiosqlite.connect(folder / "lent.sqlite") as conn:
        yield UnifiedAsyncSqliteSaver(conn)


async def lent_memory(_folder: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    async with aiosqlite.connect(":memory:") as conn:
        yield UnifiedAsyncSqliteSaver(conn)


async def database(folder: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    async with UnifiedDatabase(folder / "app.sqlite") as db:
        yield UnifiedAsyncSqliteSaver(db)


async def inside_a_transaction(folder: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    """Nothing of what the suite saves is in the file while it looks at it."""
    async with UnifiedDatabase(folder / "app.sqlite") as db, db.transaction():
        yield UnifiedAsyncSqliteSaver(db)


async def sync_database(folder: Path) -> AsyncIterator[Any]:
    with UnifiedDatabase(folder / "app.sqlite") as db:
        yield _AsAsync(UnifiedSqliteSaver(db))


async def sync_saver(folder: Path) -> AsyncIterator[Any]:
    with UnifiedSqliteSaver.from_conn_string(str(folder / "sync.sqlite")) as saver:
        yield _AsAsync(saver)


async def sync_lent(_folder: Path) -> AsyncIterator[Any]:
    yield _AsAsync(UnifiedSqliteSaver(sqlite3.connect(":memory:", check_same_thread=False)))


class _AsAsync(UnifiedSqliteSaver):
    """The sync saver, whose methods the suite calls under their async names."""

    def __init__(self, saver: UnifiedSqliteSaver) -> None:
        self._saver = saver

    async def aput(self, *args: Any) -> Any:
        return self._saver.put(*args)

    async def aput_writes(self, *args: Any, **more: Any) -> None:
        self._saver.put_writes(*args, **more)

    async def aget_tuple(self, config: Any) -> Any:
        return self._saver.get_tuple(config)

    async def alist(self, config: Any, **more: Any) -> AsyncIterator[Any]:
        for found in self._saver.list(config, **more):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        self._saver.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._saver.delete_for_runs(run_ids)

    async def acopy_thread(self, source: str, target: str) -> None:
        self._saver.copy_thread(source, target)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._saver.prune(thread_ids, strategy=strategy)

    def get_delta_channel_history(self, **more: Any) -> Mapping[str, Any]:
        return self._saver.get_delta_channel_history(**more)


@pytest.mark.parametrize(
    "factory",
    [
        own_file,
        lent_connection,
        lent_memory,
        database,
        inside_a_transaction,
        sync_saver,
        sync_lent,
        sync_database,
    ],
)
async def test_every_capability_conforms(factory: Factory, tmp_path: Path) -> None:
    names = map(str, itertools.count())

    async def make() -> AsyncIterator[Any]:
        folder = tmp_path / next(names)
        folder.mkdir()
        async for saver in factory(folder):
            yield saver

    registered = conformance.checkpointer_test(name=factory.__name__)(make)
    report = await conformance.validate(registered)
    capabilities = {name: result.passed for name, result in report.results.items()}
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert len(capabilities) == 8
    assert set(capabilities.values()) == {True}
