"""A unit of work: what a saver or store is given inside a transaction, kept until the commit.

Which unit a call belongs to follows from its context (contextvars), which reaches every call of
an async run. In LangGraph's sync API some calls come from worker threads without it, so there it
follows from what only that run can know: a mark that was put into the configuration when the run
read its thread, or the id of a checkpoint that was saved inside the unit and nowhere else.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from unified_db.errors import RuntimeUseError, TransactionEndedError, TransactionFailedError
from unified_db.runtime.lanes import AsyncLane, FileKey, SyncLane
from unified_db.runtime.readers import Read
from unified_db.runtime.rows import Place, place_of
from unified_db.runtime.work import Call, Rows, Work, execute_all

Result = TypeVar("Result")

# Keys that begin with two underscores go through a run and do not end up in metadata.
MARK = "__unified_transaction__"

_PAUSE_S = 0.002
_PATIENCE_S = 30.0

_NONE: Mapping[FileKey, Unit] = MappingProxyType({})
_current: ContextVar[Mapping[FileKey, Unit]] = ContextVar("unified_db_transactions", default=_NONE)
_open: dict[FileKey, dict[str, Unit]] = {}
_open_lock = threading.Lock()


class Early(Protocol):
    """What a unit has to know of its session's connection."""

    def connection(self) -> sqlite3.Connection | None:
        """The connection, while it is in a write transaction; None otherwise."""
        ...

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run *function* in the connection's thread."""
        ...

    def run_sync(self, function: Callable[[], Any]) -> Any:
        """As `run`, from whichever thread asks."""
        ...


class Unit:
    """What belongs to one transaction and is not in the file yet.

    Attributes:
        key: The file.
        session: The SQLAlchemy session that commits with it.
        early: The session's own connection, where the application made it write before the commit.
        mark: What tells this unit from all others.
        threads: LangGraph threads that calls in its context have named.
    """

    def __init__(self, key: FileKey, session: Any, early: Early) -> None:
        self.key = key
        self.session = session
        self.early = early
        self.mark = uuid.uuid4().hex
        self.threads: set[str] = set()
        self._works: list[Work] = []
        self._places: set[Place] = set()
        self._lock = threading.Lock()
        self._ended: str | None = None
        self._failed = False

    # --- From savers and stores ----------------------------------------------------------------

    def note(self, place: Place) -> None:
        """Remember that a checkpoint is about to be saved in this unit."""
        self._places.add(place)
        self.threads.add(place.thread_id)

    def holds(self, place: Place) -> bool:
        """Whether a checkpoint was saved in this unit."""
        return place in self._places

    def add(self, work: Work) -> None:
        """Keep *work* for the commit.

        Raises:
            TransactionEndedError: The transaction is over, or is being committed.
        """
        with self._lock:
            self.require_open()
            self._works.append(work)

    @property
    def given(self) -> int:
        """How many works it holds."""
        with self._lock:
            return len(self._works)

    def forget(self, kept: int) -> None:
        """Drop all but the first *kept* works: the session rolled back what came with the others."""
        with self._lock:
            if self._ended is None:
                del self._works[kept:]

    @property
    def is_open(self) -> bool:
        """Whether the transaction takes more."""
        return self._ended is None

    def relevant(self, namespace: tuple[str, str | None] | None) -> list[Work]:
        """What a read has to see, in order.

        Args:
            namespace: The LangGraph thread, and its namespace unless all are read; None for everything.
        """
        with self._lock:
            if self._ended is not None:
                return []
            if namespace is None or not all(isinstance(work, Rows) for work in self._works):
                # A function may carry rows from one LangGraph thread to another.
                return list(self._works)
            return [work for work in self._works if _concerns(work, namespace)]

    async def read(self, lane: AsyncLane, read: Read[Result], namespace: Any) -> Result:
        """The result of *read* as if the transaction were committed already; nothing is written."""
        works = self.relevant(namespace)
        return await (self._look(lane, works, read) if works else lane.read(read))

    async def look(self, lane: AsyncLane, read: Read[Result]) -> Result:
        """As `read`, where *read* writes as well: what it writes is gone afterwards."""
        return await self._look(lane, self.relevant(None), read)

    async def _look(self, lane: AsyncLane, works: list[Work], read: Read[Result]) -> Result:
        if (early := self.early.connection()) is not None:
            # This transaction has the write lock itself, so only its own connection can look.
            return await self.early.run(lambda: _look(early, works, read))  # type: ignore[no-any-return]
        return await lane.write(*works, Call(read), ending="ROLLBACK")  # type: ignore[no-any-return]

    def read_sync(self, lane: SyncLane, read: Read[Result], namespace: Any) -> Result:
        """As `read`, for threads."""
        works = self.relevant(namespace)
        return self._look_sync(lane, works, read) if works else lane.read_sync(read)

    def look_sync(self, lane: SyncLane, read: Read[Result]) -> Result:
        """As `read_sync`, where *read* writes as well: what it writes is gone afterwards."""
        return self._look_sync(lane, self.relevant(None), read)

    def _look_sync(self, lane: SyncLane, works: list[Work], read: Read[Result]) -> Result:
        if (early := self.early.connection()) is not None:
            return self.early.run_sync(lambda: _look(early, works, read))  # type: ignore[no-any-return]
        return lane.write_sync(*works, Call(read), ending="ROLLBACK")  # type: ignore[no-any-return]

    # --- Its end ---------------------------------------------------------------------------------

    def seal(self, how: str) -> list[Work]:
        """Take nothing more; what was given so far.

        Args:
            how: What errors say of the transaction from now on: "was committed".
        """
        with self._lock:
            self.require_open()
            self._ended = how
            return self._works

    def end(self, how: str) -> None:
        """As `seal`, whatever the state."""
        with self._lock:
            self._ended = how

    def fail(self) -> None:
        """Note that an inner block failed: the whole must not be committed any more."""
        self._failed = True

    def require_whole(self) -> None:
        """Raise if an inner block failed.

        Raises:
            TransactionFailedError: One did, and its error was caught on the way out.
        """
        if self._failed:
            raise TransactionFailedError(
                "an inner `transaction()` block failed, so the outer one cannot be committed",
                hint="All of it was rolled back, since the inner block had joined the outer one. Let its "
                "error leave the outer block, or run the inner one under `outside_transaction()`.",
            )

    def require_open(self) -> None:
        """Raise if the transaction takes nothing any more.

        Raises:
            TransactionEndedError: It is over, or is being committed.
        """
        if self._ended is not None:
            raise TransactionEndedError(
                f"a graph, a store or a block was used inside a transaction that {self._ended}",
                hint="Nothing of this call was written. Await graphs inside the block they are started in, "
                "and start tasks that live longer under `UnifiedDatabase.outside_transaction()`.",
            )


def _concerns(work: Work, namespace: tuple[str, str | None]) -> bool:
    if not isinstance(work, Rows):
        return True
    thread_id, ns = namespace
    return any(row[0] == thread_id and (ns is None or row[1] == ns) for row in work.rows)


def _look(conn: sqlite3.Connection, works: list[Work], read: Read[Result]) -> Result:
    conn.execute("SAVEPOINT unified_look")
    try:
        execute_all(conn, works)
        return read(conn)
    finally:
        conn.execute("ROLLBACK TO unified_look")
        conn.execute("RELEASE unified_look")


# --- Which unit a call belongs to ---------------------------------------------------------------


def current_unit(key: FileKey | None) -> Unit | None:
    """The unit of a file in this context."""
    return _current.get().get(key) if key is not None else None


@contextmanager
def entered(unit: Unit) -> Iterator[None]:
    """Make *unit* the one of its file in this context."""
    before = _current.get()
    _current.set({**before, unit.key: unit})
    with _open_lock:
        _open.setdefault(unit.key, {})[unit.mark] = unit
    try:
        yield
    finally:
        with _open_lock:
            _open[unit.key].pop(unit.mark)
        # Not by token: a framework may leave the block in another context than it entered it.
        _current.set(before)


def require_same_context(unit: Unit) -> None:
    """Raise where *unit* is not known here, where its block ends: then it was not inside the block either.

    Raises:
        RuntimeUseError: The block was entered in a context of its own, such as that of a thread.
    """
    if current_unit(unit.key) is not unit:
        raise RuntimeUseError(
            "a transaction block was entered in another context than it is left in, so graphs and stores "
            "were not part of it",
            hint="Its rows were rolled back; what graphs saved meanwhile was committed by itself. FastAPI "
            "runs a generator dependency made with `def` in threads: make it `async def` with "
            "`transaction()`, or open the block in the endpoint.",
        )


@contextmanager
def outside(key: FileKey) -> Iterator[None]:
    """No unit of the file in this context."""
    before = _current.get()
    _current.set({k: unit for k, unit in before.items() if k != key})
    try:
        yield
    finally:
        _current.set(before)


@contextmanager
def nowhere() -> Iterator[None]:
    """No unit of any file in this context, for starting what lives longer than a transaction."""
    before = _current.get()
    _current.set(_NONE)
    try:
        yield
    finally:
        _current.set(before)


def any_unit() -> bool:
    """Whether this context is in a transaction of some file."""
    return bool(_current.get())


def open_units(key: FileKey | None) -> list[Unit]:
    """All units of a file in this process that have not ended."""
    return list(_open.get(key, {}).values()) if key is not None and _open.get(key) else []


def unit_of(key: FileKey | None, config: RunnableConfig | None) -> Unit | None:
    """The unit that a call with *config* belongs to, as far as can be told without waiting."""
    if key is None:
        return None
    unit = _current.get().get(key)
    if unit is not None:
        if config is not None:
            unit.threads.add(str(config["configurable"]["thread_id"]))
        return unit
    units = _open.get(key)
    if not units or config is None:
        return None
    mark = config["configurable"].get(MARK)
    if mark is not None and mark in units:
        return units[mark]
    place = place_of(config)
    return next((u for u in list(units.values()) if u.holds(place)), None)


def may_belong(key: FileKey | None, config: RunnableConfig) -> bool:
    """Whether pending writes with *config* may belong to a unit whose checkpoint is still to come.

    Only where no context came along, and some open unit has to do with the same LangGraph thread.
    """
    thread_id = str(config["configurable"]["thread_id"])
    return any(thread_id in unit.threads for unit in open_units(key))


def unit_of_writes(key: FileKey | None, config: RunnableConfig, exists: Callable[[], bool]) -> Unit | None:
    """The unit that pending writes belong to; waits where their checkpoint is still being saved.

    In the sync API a worker thread may bring the writes of a task before another one has brought
    the checkpoint they hang on. *exists* tells whether that checkpoint is in the file: then the
    writes are not of a unit.
    """
    waited = _Wait()
    while (unit := unit_of(key, config)) is None and may_belong(key, config) and not exists():
        waited.require_patience()
        time.sleep(_PAUSE_S)
    return unit


async def unit_of_writes_async(
    key: FileKey | None, config: RunnableConfig, exists: Callable[[], Any]
) -> Unit | None:
    """As `unit_of_writes`, on an event loop."""
    waited = _Wait()
    while (unit := unit_of(key, config)) is None and may_belong(key, config) and not await exists():
        waited.require_patience()
        await asyncio.sleep(_PAUSE_S)
    return unit


class _Wait:
    def __init__(self) -> None:
        self._end = time.monotonic() + _PATIENCE_S

    def require_patience(self) -> None:
        if time.monotonic() > self._end:
            raise TransactionEndedError(
                "pending writes came without their context, for a checkpoint that neither the file has "
                "nor the transaction that is open on the same LangGraph thread",
                hint="Nothing of this call was written. Run a LangGraph thread's graphs one by one.",
            )


# --- What a configuration says --------------------------------------------------------------------


def thread_of(config: RunnableConfig | None) -> tuple[str, str | None] | None:
    """The LangGraph thread of *config* with all its namespaces, for `Unit.read`."""
    return (str(config["configurable"]["thread_id"]), None) if config is not None else None


def marked(found: CheckpointTuple | None, unit: Unit | None) -> CheckpointTuple | None:
    """*found* with *unit* in its configuration, which a run in threads hands to every later call."""
    if found is None or unit is None:
        return found
    configurable = {**found.config["configurable"], MARK: unit.mark}
    return found._replace(config={**found.config, "configurable": configurable})
