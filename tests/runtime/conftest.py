"""What the tests of the runtime share: savers of every make."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiosqlite
import pytest

from unified_db import UnifiedAsyncSqliteSaver, UnifiedSqliteSaver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.sqlite"


@pytest.fixture(params=["own file", "lent connection"])
async def saver(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    """The async saver, on a file of its own and on a connection that it was lent."""
    async with AsyncExitStack() as stack:
        if request.param == "own file":
            yield await stack.enter_async_context(UnifiedAsyncSqliteSaver.from_conn_string(str(path)))
        else:
            yield UnifiedAsyncSqliteSaver(await stack.enter_async_context(aiosqlite.connect(path)))


@pytest.fixture(params=["own file", "lent connection"])
def sync_saver(request: pytest.FixtureRequest, path: Path) -> Iterator[UnifiedSqliteSaver]:
    """The sync saver, on a file of its own and on a connection that it was lent."""
    with ExitStack() as stack:
        if request.param == "own file":
            yield stack.enter_context(UnifiedSqliteSaver.from_conn_string(str(path)))
        else:
            conn = sqlite3.connect(path, check_same_thread=False)
            stack.callback(conn.close)
            yield UnifiedSqliteSaver(conn)
