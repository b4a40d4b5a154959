"""What LangGraph reads out of the unified file is what it reads out of the old one.

Every checkpoint and write goes through LangGraph's serializer, parents must exist, and the newest
state of every thread is read through the stock saver on the old file, and through stock and ours
on the unified file. Nothing is unpickled and nothing is written: files are opened immutable.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db import pieces, sqlite
from unified_db.migration.langgraph import TASK_PATH_UPGRADE, holds_checkpoints
from unified_db.migration.records import Backup, Backups, Finding
from unified_db.migration.threads import check_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

log = logging.getLogger(__name__)


def check_meaning(backups: Backups, unified: Path, tally: pieces.Tally | None = None) -> list[Finding]:
    """Findings about LangGraph's tables and the rows that name its threads; none where there are none.

    Where the tables of several sources are united, each source is looked for in what it brought.
    To *tally* are added as many bytes as the sources that have such tables are large.
    """
    findings: list[Finding] = []
    united = bool({u.table.lower() for u in backups.layout.unions} & {"checkpoints", "writes"})
    for backup in backups.items:
        if has_checkpoints(backup):
            told = _Told(tally, backup.size_bytes)
            findings += _check_decoding(backup, unified, told, united=united)
            findings += _check_links(backup, unified, united=united)
            findings.append(asyncio.run(_check_newest_states(backup, unified, told, united=united)))
    return [*findings, *check_threads(backups, unified)]


def has_checkpoints(backup: Backup) -> bool:
    """True where *backup* has LangGraph's tables."""
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        return holds_checkpoints(conn)


class _Told:
    """Tells a tally how far one source is: decoding takes about this share of the time, states the rest."""

    _DECODING = 0.6

    def __init__(self, tally: pieces.Tally | None, size_bytes: int) -> None:
        self._tally, self._size = tally, size_bytes
        self._decoded = self._told = 0

    def decoded(self, size_bytes: int) -> None:
        """As much more was decoded; pages hold more than that, so the end comes with a small leap."""
        self._decoded += size_bytes
        self._tell(int(min(self._decoded, self._size) * self._DECODING))

    def read(self, share: float) -> None:
        """That share of the newest states was read, and all was decoded."""
        self._tell(int(self._size * (self._DECODING + (1 - self._DECODING) * share)))

    def _tell(self, done: int) -> None:
        if self._tally is not None and done > self._told:
            self._tally.add(done - self._told)
            self._told = done


_CHECKPOINT_KEY = ("thread_id", "checkpoint_ns", "checkpoint_id")
_WRITE_KEY = (*_CHECKPOINT_KEY, "task_id", "idx")


def _of_old(table: str, alias: str, key: Sequence[str]) -> str:
    """SQL that is true for the rows that the old file, attached as `old`, brought into a united table."""
    same = " AND ".join(f"o.{k} = {alias}.{k}" for k in key)
    return f"EXISTS (SELECT 1 FROM old.{table} o WHERE {same})"


def _check_decoding(backup: Backup, unified: Path, told: _Told, *, united: bool) -> list[Finding]:
    """The unified file's rows are decoded; those of the old file are the same bytes, as was proven."""
    findings = []
    for table, column, key in (
        ("checkpoints", "checkpoint", _CHECKPOINT_KEY),
        ("writes", "value", _WRITE_KEY),
    ):
        with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
            before = sqlite.count_rows(conn, table)
        own = f"WHERE {_of_old(table, 'r', key)} " if united else ""
        # Those of a conversation one after the other, which mostly say the same again.
        sql = f"SELECT type, {column} FROM main.{table} r {own}ORDER BY {', '.join(key)}"
        beside = backup.path if united else None
        decoded, after = _decode(unified, sql, told.decoded, beside=beside)
        findings.append(_decoding_finding(backup.label, table, before, decoded=decoded, after=after))
    return findings


def _decoding_finding(label: str, what: str, before: int, *, decoded: int, after: int) -> Finding:
    others = "" if decoded == after else f", {after - decoded:,} of them as bytes alone"
    return Finding(
        check=f"{what} decode through LangGraph's serializer",
        where=label,
        required=f"{before:,} rows, as in the old file",
        measured=f"{after:,} rows{others}",
        passed=before == after,
    )


def _decode(
    path: Path, sql: str, told: Callable[[int], None], *, beside: Path | None = None
) -> tuple[int, int]:
    """How many rows of *sql* decode, of how many; what cannot be decoded is compared as bytes.

    *told* is given the number of bytes of every row.
    """
    from unified_db.migration.decoding import remembering_serializer

    serializer = remembering_serializer()
    total = failed = 0
    with sqlite.closing(sqlite.connect_frozen(path)) as conn, _beside(conn, beside):
        for kind, blob in conn.execute(sql):
            total += 1
            try:
                serializer.loads_typed((kind, blob))
            except Exception:  # noqa: BLE001 - a foreign class may raise anything; it is counted
                failed += 1
            told(len(blob or b""))
            pieces.look()
    return total - failed, total


@contextmanager
def _beside(conn: sqlite3.Connection, old: Path | None) -> Iterator[None]:
    if old is None:
        yield
        return
    with sqlite.attached(conn, old, "old"):
        yield


def _check_links(backup: Backup, unified: Path, *, united: bool) -> list[Finding]:
    orphans = (
        "SELECT count(*) FROM main.checkpoints c WHERE parent_checkpoint_id IS NOT NULL AND NOT EXISTS ("
        "SELECT 1 FROM main.checkpoints p WHERE p.thread_id = c.thread_id "
        "AND p.checkpoint_ns = c.checkpoint_ns AND p.checkpoint_id = c.parent_checkpoint_id)"
    )
    homeless = (
        "SELECT count(*) FROM main.writes w WHERE NOT EXISTS (SELECT 1 FROM main.checkpoints c WHERE "
        "c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns "
        "AND c.checkpoint_id = w.checkpoint_id)"
    )
    return [
        _count_finding(backup, unified, check, sql, own if united else None)
        for check, sql, own in (
            ("checkpoints without their parent", orphans, _of_old("checkpoints", "c", _CHECKPOINT_KEY)),
            ("writes without their checkpoint", homeless, _of_old("writes", "w", _WRITE_KEY)),
        )
    ]


def _count_finding(backup: Backup, unified: Path, check: str, sql: str, own: str | None) -> Finding:
    """With *own*, a condition for the rows of this source: others may have brought what they lacked."""
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        before = int(conn.execute(sql).fetchone()[0])
    with (
        sqlite.closing(sqlite.connect_frozen(unified)) as conn,
        _beside(conn, backup.path if own else None),
    ):
        after = int(conn.execute(f"{sql} AND {own}" if own else sql).fetchone()[0])
    return Finding(
        check=check,
        where=backup.label,
        required=f"at most {before:,}" if own else f"{before:,}, as in the old file",
        measured=f"{after:,}",
        passed=after <= before if own else before == after,
    )


async def _check_newest_states(backup: Backup, unified: Path, told: _Told, *, united: bool) -> Finding:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from unified_db.migration.decoding import remembering_serializer
    from unified_db.runtime.saver import UnifiedAsyncSqliteSaver

    serializer = remembering_serializer()
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        places = conn.execute("SELECT DISTINCT thread_id, checkpoint_ns FROM checkpoints").fetchall()
    with tempfile.TemporaryDirectory(prefix="unify-db-") as folder:
        old_path = _with_task_path(backup.path, Path(folder))
        async with (
            _frozen_saver(AsyncSqliteSaver, old_path, serializer) as old,
            _frozen_saver(AsyncSqliteSaver, unified, serializer) as stock,
            _frozen_saver(UnifiedAsyncSqliteSaver, unified, serializer) as ours,
        ):
            wrong = []
            for number, place in enumerate(places, 1):
                if not await _same_state(place, old, (stock, ours), united=united):
                    wrong.append(place)
                told.read(number / len(places))
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
    place: tuple[str, str], old: AsyncSqliteSaver, others: Sequence[AsyncSqliteSaver], *, united: bool
) -> bool:
    pieces.look()
    config: Any = {"configurable": {"thread_id": place[0], "checkpoint_ns": place[1]}}
    wanted = await _read(old.aget_tuple, config)
    if united and wanted is not None and not isinstance(wanted, str):
        # Another source may have a newer state of this thread, and more writes to this one.
        config = wanted.config
    for saver in others:
        found = await _read(saver.aget_tuple, config)
        if united and found is not None and not isinstance(found, str):
            found = _without_others_writes(found, wanted)
        if wanted != found and _bytes_of(old, wanted) != _bytes_of(old, found):
            return False
    return True


def _without_others_writes(found: CheckpointTuple, wanted: Any) -> CheckpointTuple:
    """*found* with only those pending writes whose task and channel *wanted* has."""
    own = {(task, channel) for task, channel, _ in getattr(wanted, "pending_writes", None) or ()}
    pending = [w for w in found.pending_writes or () if (w[0], w[1]) in own]
    return found._replace(pending_writes=pending)


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
async def _frozen_saver(
    kind: type[AsyncSqliteSaver], path: Path, serializer: JsonPlusSerializer
) -> AsyncIterator[AsyncSqliteSaver]:
    import aiosqlite

    uri = sqlite.file_uri(path, mode="ro", immutable=1)
    async with aiosqlite.connect(uri, uri=True) as conn:
        await conn.execute(f"PRAGMA mmap_size={sqlite.MMAP_BYTES}")
        saver = kind(conn, serde=serializer)
        # setup() would try to write; the tables are there and have their columns.
        saver.is_setup = True
        yield saver
