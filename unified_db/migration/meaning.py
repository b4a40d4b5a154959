"""What LangGraph reads out of the unified file is what it reads out of the old one.

Every checkpoint and write goes through LangGraph's serializer, parents must exist, and the newest
state of every thread is read through the stock saver on the old file, and through stock and ours
on the unified file. Nothing is unpickled and nothing is written: files are opened immutable.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db import sqlite
from unified_db.migration.langgraph import TASK_PATH_UPGRADE, holds_checkpoints
from unified_db.migration.records import Backup, Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

log = logging.getLogger(__name__)


def check_meaning(backups: Sequence[Backup], unified: Path) -> list[Finding]:
    """Findings about LangGraph's tables; none where no source has them."""
    findings: list[Finding] = []
    for backup in backups:
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
            found = holds_checkpoints(conn)
        if found:
            findings += _check_decoding(backup, unified)
            findings += _check_links(backup, unified)
            findings.append(asyncio.run(_check_newest_states(backup, unified)))
    return findings


def _check_decoding(backup: Backup, unified: Path) -> list[Finding]:
    return [
        _decoding_finding(backup.label, what, _decode(backup.path, sql), _decode(unified, sql))
        for what, sql in (
            ("checkpoints", "SELECT type, checkpoint FROM checkpoints"),
            ("writes", "SELECT type, value FROM writes"),
        )
    ]


def _decoding_finding(label: str, what: str, before: tuple[int, int], after: tuple[int, int]) -> Finding:
    decoded, total = after
    return Finding(
        check=f"{what} decode through LangGraph's serializer",
        where=label,
        required=f"{before[0]:,} of {before[1]:,}, as in the old file",
        measured=f"{decoded:,} of {total:,}",
        passed=before == after,
    )


def _decode(path: Path, sql: str) -> tuple[int, int]:
    """How many rows of *sql* decode, of how many; what cannot be decoded is compared as bytes."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    serializer = JsonPlusSerializer(pickle_fallback=False)
    total = failed = 0
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        for kind, blob in conn.execute(sql):
            total += 1
            try:
                serializer.loads_typed((kind, blob))
            except Exception:  # noqa: BLE001 - a foreign class may raise anything; it is counted
                failed += 1
    return total - failed, total


def _check_links(backup: Backup, unified: Path) -> list[Finding]:
    orphans = (
        "SELECT count(*) FROM checkpoints c WHERE parent_checkpoint_id IS NOT NULL AND NOT EXISTS ("
        "SELECT 1 FROM checkpoints p WHERE p.thread_id = c.thread_id AND p.checkpoint_ns = c.checkpoint_ns "
        "AND p.checkpoint_id = c.parent_checkpoint_id)"
    )
    homeless = (
        "SELECT count(*) FROM writes w WHERE NOT EXISTS (SELECT 1 FROM checkpoints c WHERE "
        "c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns "
        "AND c.checkpoint_id = w.checkpoint_id)"
    )
    return [
        _count_finding(backup, unified, check, sql)
        for check, sql in (
            ("checkpoints without their parent", orphans),
            ("writes without their checkpoint", homeless),
        )
    ]


def _count_finding(backup: Backup, unified: Path, check: str, sql: str) -> Finding:
    counts = []
    for path in (backup.path, unified):
        with sqlite.closing(sqlite.connect_frozen(path)) as conn:
            counts.append(int(conn.execute(sql).fetchone()[0]))
    before, after = counts
    return Finding(
        check=check,
        where=backup.label,
        required=f"{before:,}, as in the old file",
        measured=f"{after:,}",
        passed=before == after,
    )


async def _check_newest_states(backup: Backup, unified: Path) -> Finding:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from unified_db.runtime.saver import UnifiedAsyncSqliteSaver

    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        places = conn.execute("SELECT DISTINCT thread_id, checkpoint_ns FROM checkpoints").fetchall()
    with tempfile.TemporaryDirectory(prefix="unify-db-") as folder:
        old_path = _with_task_path(backup.path, Path(folder))
        async with (
            _frozen_saver(AsyncSqliteSaver, old_path) as old,
            _frozen_saver(AsyncSqliteSaver, unified) as stock,
            _frozen_saver(UnifiedAsyncSqliteSaver, unified) as ours,
        ):
            wrong = [p for p in places if not await _same_state(p, old, (stock, ours))]
    threads = len({thread for thread, _ in places})
    log.info("validation: newest state of %s threads read through both savers", f"{threads:,}")
    return Finding(
        check="newest state of every thread, stock saver on the old file, stock and ours on the unified",
        where=backup.label,
        required=f"{len(places):,} equal",
        measured=f"{len(places) - len(wrong):,} equal",
        passed=not wrong,
    )


async def _same_state(
    place: tuple[str, str], old: AsyncSqliteSaver, others: Sequence[AsyncSqliteSaver]
) -> bool:
    config = {"configurable": {"thread_id": place[0], "checkpoint_ns": place[1]}}
    wanted = await _read(old.aget_tuple, config)
    for saver in others:
        found = await _read(saver.aget_tuple, config)
        if wanted != found and _bytes_of(old, wanted) != _bytes_of(old, found):
            return False
    return True


async def _read(get: Callable[[Any], Awaitable[CheckpointTuple | None]], config: Any) -> Any:
    try:
        return await get(config)
    except Exception as error:  # noqa: BLE001 - what the old file raises, the new one must raise too
        return type(error).__name__


def _bytes_of(saver: AsyncSqliteSaver, state: Any) -> Any:
    """*state* serialized, for values whose classes know no equality."""
    if state is None or isinstance(state, str):
        return state
    return (
        state.config,
        state.metadata,
        state.parent_config,
        saver.serde.dumps_typed(state.checkpoint),
        [(task, channel, saver.serde.dumps_typed(v)) for task, channel, v in state.pending_writes or ()],
    )


def _with_task_path(path: Path, folder: Path) -> Path:
    """*path*, or a copy with LangGraph's column upgrade where the file is older than that."""
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        columns = {c.name for c in sqlite.describe_table(conn, "writes").columns}
    if "task_path" in columns:
        return path
    upgraded = folder / path.name
    shutil.copyfile(path, upgraded)
    with sqlite.closing(sqlite.connect_writable(upgraded)) as conn:
        # The copy stands alone, so it needs no WAL, whose sidecars a frozen reader ignores.
        conn.execute("PRAGMA journal_mode=DELETE")
        conn.execute(TASK_PATH_UPGRADE)
    return upgraded


@asynccontextmanager
async def _frozen_saver(kind: type[AsyncSqliteSaver], path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    import aiosqlite

    uri = sqlite.file_uri(path, mode="ro", immutable=1)
    async with aiosqlite.connect(uri, uri=True) as conn:
        saver = kind(conn)
        # setup() would try to write; the tables are there and have their columns.
        saver.is_setup = True
        yield saver
