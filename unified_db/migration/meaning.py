"""What LangGraph reads out of the unified file is what it reads out of the old one.

Every checkpoint and write goes through LangGraph's serializer, parents must exist, and the newest
state of every thread is read through the stock saver on the old file, and through stock and ours
on the unified file. Nothing is unpickled and nothing is written: files are opened immutable.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db import pieces, sqlite
from unified_db.migration.langgraph import TASK_PATH_UPGRADE, holds_checkpoints
from unified_db.migration.records import Backup, Backups, Finding
from unified_db.migration.threads import check_threads
from unified_db.sqlite import fold

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

log = logging.getLogger(__name__)

Decoded = Mapping[tuple[Path, str], tuple[int, int]]
"""How many rows of a backup's table decode, of how many."""

_TELL_BYTES = 1 << 20
# What a row takes beside its value: its key, twice, and metadata.
_ROW_BYTES = 400


class Decoding:
    """How much of the backups' checkpoints and writes LangGraph's serializer decodes.

    It needs no unified file, so it may begin before there is one: what it decodes are the backups'
    rows, and that the unified file has the same bytes is what the comparison proves.
    """

    def __init__(self, backups: Backups) -> None:
        self._sizes = {b.path: b.size_bytes for b in backups.items if has_checkpoints(b)}
        self._told = _Told(sum(self._sizes.values()))

    def run(self) -> Decoded:
        """Decode all rows, which takes one core as long as it lasts."""
        found = {}
        for path in self._sizes:
            for table, counts in _decode(path, self._told.decoded).items():
                found[path, table] = counts
        return found

    def tell(self, tally: pieces.Tally) -> _Told:
        """Have *tally* told how far it is, from now on and so far; it ends with the states that are read."""
        self._told.tell(tally)
        return self._told

    @property
    def size_bytes(self) -> int:
        """Bytes of the backups that have LangGraph's tables."""
        return sum(self._sizes.values())


def check_meaning(
    backups: Backups, unified: Path, decoded: Decoded, told: Callable[[float], None] | None = None
) -> list[Finding]:
    """Findings about LangGraph's tables and the rows that name its threads; none where there are none.

    Where the tables of several sources are united, each source is looked for in what it brought.

    Args:
        backups: The old files.
        unified: What was merged from them.
        decoded: What :class:`Decoding` found in *backups*.
        told: Is given the share of the newest states that was read.
    """
    findings: list[Finding] = []
    united = bool({fold(u.table) for u in backups.layout.unions} & {"checkpoints", "writes"})
    holding = [b for b in backups.items if has_checkpoints(b)]
    for number, backup in enumerate(holding):
        findings += _check_decoding(backup, unified, decoded, united=united)
        findings += _check_links(backup, unified, united=united)
        part = partial(_tell_part, told, number, len(holding))
        part(0.0)
        findings.append(_check_newest_states(backup, unified, part, united=united))
    return [*findings, *check_threads(backups, unified)]


def _tell_part(told: Callable[[float], None] | None, number: int, count: int, share: float) -> None:
    if told is not None:
        told((number + share) / count)


def has_checkpoints(backup: Backup) -> bool:
    """True where *backup* has LangGraph's tables."""
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        return holds_checkpoints(conn)


class _Told:
    """Tells a tally how far the backups are."""

    # Shares of the time that are over when all is decoded, and when parents were looked for.
    _DECODED, _LINKED = 0.72, 0.77

    def __init__(self, size_bytes: int) -> None:
        self._tally: pieces.Tally | None = None
        self._size = size_bytes
        self._decoded = self._told = 0

    def tell(self, tally: pieces.Tally) -> None:
        """Tell *tally* from now on, and at once what was done before."""
        self._told, self._tally = 0, tally
        self.decoded(0)

    def decoded(self, size_bytes: int) -> None:
        """As much more was decoded; pages hold more than that, so the end comes with a small leap."""
        self._decoded += size_bytes
        self._reach(int(min(self._decoded, self._size) * self._DECODED))

    def read(self, share: float) -> None:
        """That share of the newest states was read, and all was decoded."""
        self._reach(int(self._size * (self._LINKED + (1 - self._LINKED) * share)))

    def _reach(self, done: int) -> None:
        if self._tally is not None and done > self._told:
            self._tally.add(done - self._told)
            self._told = done


_CHECKPOINT_KEY = ("thread_id", "checkpoint_ns", "checkpoint_id")
_WRITE_KEY = (*_CHECKPOINT_KEY, "task_id", "idx")
_DECODED = {"checkpoints": _CHECKPOINT_KEY, "writes": _WRITE_KEY}
# Each checkpoint of a conversation with its writes, one after the other: they mostly say the same again.
_IN_ORDER = (
    "SELECT 'checkpoints', type, checkpoint, thread_id, checkpoint_ns, checkpoint_id FROM checkpoints "
    "UNION ALL SELECT 'writes', type, value, thread_id, checkpoint_ns, checkpoint_id FROM writes "
    "ORDER BY thread_id, checkpoint_ns, checkpoint_id"
)


def _of_old(table: str, alias: str, key: Sequence[str]) -> str:
    """SQL that is true for the rows that the old file, attached as `old`, brought into a united table."""
    same = " AND ".join(f"o.{k} = {alias}.{k}" for k in key)
    return f"EXISTS (SELECT 1 FROM old.{table} o WHERE {same})"


def _check_decoding(backup: Backup, unified: Path, decoded: Decoded, *, united: bool) -> list[Finding]:
    """The old file's rows were decoded; those of the unified file are the same bytes, as is proven."""
    findings = []
    for table, key in _DECODED.items():
        good, before = decoded[backup.path, table]
        own = f" WHERE {_of_old(table, 'r', key)}" if united else ""
        with (
            sqlite.closing(sqlite.connect_frozen(unified)) as conn,
            _beside(conn, backup.path if united else None),
        ):
            (after,) = conn.execute(f"SELECT count(*) FROM main.{table} r{own}").fetchone()
        findings.append(
            _decoding_finding(backup.label, table, before, bytes_alone=before - good, after=after)
        )
    return findings


def _decoding_finding(label: str, what: str, before: int, *, bytes_alone: int, after: int) -> Finding:
    others = f", {bytes_alone:,} of them as bytes alone" if bytes_alone else ""
    return Finding(
        check=f"{what} decode through LangGraph's serializer",
        where=label,
        required=f"{before:,} rows, as in the old file",
        measured=f"{after:,} rows{others}",
        passed=before == after,
    )


def _decode(path: Path, told: Callable[[int], None]) -> dict[str, tuple[int, int]]:
    """How many rows of each table decode, of how many; what cannot be decoded is compared as bytes.

    *told* is given numbers of bytes.
    """
    from unified_db.migration.decoding import remembering_serializer

    loads = remembering_serializer().loads_typed
    rows, bad, size_bytes = Counter[str](), Counter[str](), 0
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        for table, kind, blob, *_ in conn.execute(_IN_ORDER):
            rows[table] += 1
            try:
                loads((kind, blob))
            except Exception:  # noqa: BLE001 - a foreign class may raise anything; it is counted
                bad[table] += 1
            size_bytes += len(blob or b"") + _ROW_BYTES
            if size_bytes > _TELL_BYTES:
                told(size_bytes)
                size_bytes = 0
                pieces.look()
    told(size_bytes)
    return {table: (rows[table] - bad[table], rows[table]) for table in _DECODED}


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


def _check_newest_states(
    backup: Backup, unified: Path, told: Callable[[float], None], *, united: bool
) -> Finding:
    """Read through the savers for threads; those for asyncio ask the same, at three times the cost."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    from unified_db.migration.decoding import remembering_serializer
    from unified_db.runtime.sync_saver import UnifiedSqliteSaver

    serializer = remembering_serializer()
    with sqlite.closing(sqlite.connect_frozen(backup.path)) as conn:
        places = conn.execute("SELECT DISTINCT thread_id, checkpoint_ns FROM checkpoints").fetchall()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="unify-db-") as folder:
        old_path = _with_task_path(backup.path, Path(folder))
        with (
            _frozen_saver(SqliteSaver, old_path, serializer) as old,
            _frozen_saver(SqliteSaver, unified, serializer) as stock,
            _frozen_saver(UnifiedSqliteSaver, unified, serializer) as ours,
        ):
            for number, place in enumerate(places, 1):
                wrong += not _same_state(place, old, (stock, ours), united=united)
                told(number / len(places))
    threads = len({thread for thread, _ in places})
    log.info("validation: newest state of %s threads read through both savers", f"{threads:,}")
    return Finding(
        check="newest state of every thread, stock saver on the old file, stock and ours on the unified",
        where=backup.label,
        required=f"{len(places):,} equal",
        measured=f"{len(places) - wrong:,} equal",
        passed=not wrong,
    )


def _same_state(
    place: tuple[str, str], old: SqliteSaver, others: Sequence[SqliteSaver], *, united: bool
) -> bool:
    pieces.look()
    config: Any = {"configurable": {"thread_id": place[0], "checkpoint_ns": place[1]}}
    wanted = _read(old, config)
    if united and wanted is not None and not isinstance(wanted, str):
        # Another source may have a newer state of this thread, and more writes to this one.
        config = wanted.config
    for saver in others:
        found = _read(saver, config)
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


def _read(saver: SqliteSaver, config: Any) -> Any:
    try:
        return saver.get_tuple(config)
    except Exception as error:  # noqa: BLE001 - what the old file raises, the new one must raise too
        return type(error).__name__


def _bytes_of(saver: SqliteSaver, state: Any) -> Any:
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


@contextmanager
def _frozen_saver(
    kind: type[SqliteSaver], path: Path, serializer: JsonPlusSerializer
) -> Iterator[SqliteSaver]:
    with sqlite.closing(sqlite.connect_frozen(path)) as conn:
        # What LangGraph gets is what its own connection would give it.
        conn.text_factory = str
        saver = kind(conn, serde=serializer)
        # setup() would try to write; the tables are there and have their columns.
        saver.is_setup = True
        yield saver
