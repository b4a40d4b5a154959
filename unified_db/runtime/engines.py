"""SQLAlchemy engines on which a transaction takes the write lock at its first write, never before.

Python's driver begins transactions in its own way and SQLite's default is to begin by reading; a
session that reads and then writes can then meet SQLITE_BUSY_SNAPSHOT, which no waiting cures.
Here reads run outside of a transaction, each on the newest state, and the first statement that
writes is preceded by BEGIN IMMEDIATE, in the same trip. Before that it takes its turn among the
writers of this process (`gate.py`).

It is the connection that does this, below SQLAlchemy, so it holds for pysqlite and aiosqlite, for
ORM, Core and raw cursors, and in SQLAlchemy 2.0 and 2.1 alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from unified_db.errors import ForeignCommitError, WriteLockHeldError
from unified_db.runtime.connections import (
    FileSettings,
    begin_immediate,
    is_busy,
    key_at,
    lock_held_error,
    moved_error,
)
from unified_db.runtime.gate import BlockedHolderError, Gate, Turn
from unified_db.runtime.holds import Hold, begin_hold, calling_place, end_hold, holder_of, running_loop
from unified_db.runtime.lanes import FileKey
from unified_db.runtime.statements import Effect, effect_of, savepoint_of
from unified_db.runtime.writer import HARDLY_WAITED, forget


@dataclass(frozen=True)
class EngineSettings:
    """How an engine's connections are set up.

    Attributes:
        path: The file.
        key: What makes it one file.
        file: Durability and busy timeout.
        foreign_keys: Whether SQLite enforces them; it does not by itself.
        warn_held_s: How long a write transaction may last before a warning.
        gate: What all writers of this process pass, one after the other.
    """

    path: Path
    key: FileKey
    file: FileSettings
    foreign_keys: bool
    warn_held_s: float
    gate: Gate


class UnifiedCursor(sqlite3.Cursor):
    """A cursor that begins a transaction before the first write."""

    connection: UnifiedConnection

    def execute(self, sql: str, parameters: Any = (), /) -> UnifiedCursor:
        """As `sqlite3.Cursor.execute`."""
        try:
            if self.connection.prepare(sql):
                super().execute(sql, parameters)
        finally:
            self.connection.notice_end()
        return self

    def executemany(self, sql: str, parameters: Any, /) -> UnifiedCursor:
        """As `sqlite3.Cursor.executemany`."""
        try:
            self.connection.prepare(sql)
            super().executemany(sql, parameters)
        finally:
            self.connection.notice_end()
        return self

    def executescript(self, script: str, /) -> UnifiedCursor:
        """As `sqlite3.Cursor.executescript`, which commits first."""
        self.connection.refuse_foreign_commit()
        try:
            super().executescript(script)
        finally:
            self.connection.notice_end()
        return self


class UnifiedConnection(sqlite3.Connection):
    """A connection of one of our engines.

    Attributes:
        settings: How it was set up; None until it has been.
        owned: True while a SQLAlchemy transaction is on it; nobody else may commit then.
        may_commit: True while SQLAlchemy commits.
        place: Where in the application's code the next write comes from, where that is known.
        caller_loop: The loop that waits for an asyncio engine's next write.
    """

    settings: EngineSettings | None = None
    owned = False
    may_commit = False
    place: str | None = None
    caller_loop: asyncio.AbstractEventLoop | None = None
    _hold: Hold | None = None
    _turn: Turn | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What functions and extensions it was given, as with `ThreadConnection`.
        self.known: set[str] = set()
        # Savepoints that were asked for before anything was written: they are sent with BEGIN.
        self._savepoints: list[str] = []

    def cursor(self, factory: Any = UnifiedCursor) -> Any:
        """A cursor that begins a transaction before the first write."""
        return super().cursor(factory)

    # The driver's own shortcuts make a plain cursor, whatever `cursor` says.

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """As `sqlite3.Connection.execute`."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """As `sqlite3.Connection.executemany`."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, script: str, /) -> Any:
        """As `sqlite3.Connection.executescript`."""
        return self.cursor().executescript(script)

    def prepare(self, sql: str) -> bool:
        """Begin a transaction where *sql* needs one.

        Returns:
            Whether *sql* is to be executed; a savepoint before the first write is only noted.

        Raises:
            WriteLockHeldError: Somebody holds the write lock, and did for the busy timeout.
            ForeignCommitError: *sql* commits a transaction that somebody else owns.
        """
        effect = effect_of(sql)
        if effect is Effect.READ:
            return True
        if effect is Effect.COMMIT:
            self.refuse_foreign_commit()
            return True
        if effect is Effect.WRITE:
            if not self.in_transaction:
                self._begin_or_enter()
            return True
        return self._note_savepoint(effect, savepoint_of(sql))

    def _note_savepoint(self, effect: Effect, name: str) -> bool:
        if effect is Effect.SAVEPOINT:
            if self.in_transaction or self.isolation_level is None:
                return True
            self._savepoints.append(name)
            return False
        if name not in self._savepoints:
            return True
        place = self._savepoints.index(name)
        del self._savepoints[place if effect is Effect.RELEASE else place + 1 :]
        return False

    def _begin_or_enter(self) -> None:
        if self.isolation_level is not None:
            self.begin()
        else:
            # SQLAlchemy's AUTOCOMMIT: each statement stands for itself, and takes its turn.
            place, self.place = self.place, None
            self._enter(place or calling_place(), running_loop())

    def begin(self) -> None:
        """BEGIN IMMEDIATE, waiting for the lock if need be, then the savepoints asked for before."""
        place, self.place = self.place, None
        place, loop = place or calling_place(), running_loop()
        settings = self.settings
        try:
            left_s = self._enter(place, loop)
            self._begin_immediate(left_s)
        except BaseException as error:
            if not self.in_transaction:
                self._leave()
            if isinstance(error, sqlite3.OperationalError):
                raise self._explain(error) from error
            raise
        savepoints, self._savepoints = self._savepoints, []
        for name in savepoints:
            self._execute_plain(f"SAVEPOINT {name}")
        if settings is not None:
            needs = loop or self.caller_loop
            self._hold = begin_hold(Hold(settings.key, settings.path, place, needs, settings.warn_held_s))

    def _enter(self, place: str, loop: asyncio.AbstractEventLoop | None) -> float | None:
        """Take a turn among the writers of this process; how many seconds of waiting are left."""
        settings = self.settings
        if settings is None:
            return None
        self._leave()
        # Noted before it is taken: whatever comes in between, `_leave` gives it back.
        turn = self._turn = Turn(self, needs=loop or self.caller_loop, blocks=loop, place=place)
        timeout_s, begun_s = settings.file.busy_timeout_s, time.monotonic()
        try:
            if not settings.gate.enter(turn, timeout_s):
                raise self._lock_held(settings)
        except BlockedHolderError as error:
            raise _refusal(settings, error.place) from None
        waited_s = time.monotonic() - begun_s
        return timeout_s - waited_s if waited_s > timeout_s * (1 - HARDLY_WAITED) else None

    def _begin_immediate(self, left_s: float | None) -> None:
        if left_s is None:
            self._execute_plain("BEGIN IMMEDIATE")
        else:
            begin_immediate(self, left_s)
        if self._turn is not None:
            self._turn.begun = True

    def _leave(self) -> None:
        if self._turn is not None and self.settings is not None:
            self.settings.gate.leave(self._turn)
        self._turn = None

    def _lock_held(self, settings: EngineSettings) -> WriteLockHeldError:
        hold = holder_of(settings.key)
        return lock_held_error(settings.path, settings.file.busy_timeout_s, hold.place if hold else None)

    def _explain(self, error: sqlite3.OperationalError) -> sqlite3.OperationalError:
        if isinstance(error, WriteLockHeldError):
            return error
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT:
            return WriteLockHeldError(
                "database is locked: a result of this connection is still being read, from before "
                "another writer's commit, so it cannot begin to write",
                hint="Nothing was written. Read results to their end (`.all()`) before writing.",
            )
        return self._lock_held(self.settings) if is_busy(error) and self.settings is not None else error

    def _execute_plain(self, sql: str) -> None:
        super().cursor(sqlite3.Cursor).execute(sql)

    def commit(self) -> None:
        """Commit; refused to those who do not own the transaction, such as a stock saver."""
        self.refuse_foreign_commit()
        super().commit()
        self.forget_transaction()

    def rollback(self) -> None:
        """Roll back."""
        super().rollback()
        self.forget_transaction()

    def close(self) -> None:
        """Close; what was not committed is gone."""
        super().close()
        self.forget_transaction()

    def forget_transaction(self) -> None:
        """Note that there is no transaction any more, nor savepoints that were only asked for."""
        self._savepoints.clear()
        if self._hold is not None:
            end_hold(self._hold)
            self._hold = None
        self._leave()

    def notice_end(self) -> None:
        """Note the end of a transaction that came as a statement, or with an error of SQLite's."""
        if self._turn is not None and not self.in_transaction:
            self.forget_transaction()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Literal[False]:
        # The driver's own commits without asking `commit`.
        if kind is None:
            self.commit()
        else:
            self.rollback()
        return False

    def __del__(self) -> None:
        # Only noted: this may run in the middle of anything, whatever lock its thread has.
        if self._hold is not None:
            self._hold.dropped = True

    def refuse_foreign_commit(self) -> None:
        """Raise where a commit would end a transaction that a SQLAlchemy session owns.

        Raises:
            ForeignCommitError: There is one, and it is not SQLAlchemy that commits.
        """
        if self.owned and self.in_transaction and not self.may_commit:
            raise ForeignCommitError(
                "a SQLAlchemy transaction is open on this connection and something else tried to commit it",
                hint="It is still open. A stock saver or store commits whatever connection it is given: use "
                "`UnifiedAsyncSqliteSaver(db)`, or give it a connection of its own.",
            )


def _refusal(settings: EngineSettings, place: str) -> WriteLockHeldError:
    """The error where waiting for the lock would keep its holder from ever giving it back."""
    return WriteLockHeldError(
        f"database is locked: {settings.path} is being written by this event loop since {place}; "
        "waiting for it here would stop the loop that has to finish it",
        hint="Nothing was written. Commit before the next `await`, or write both in one "
        "`UnifiedDatabase.transaction()`.",
    )


# --- Engines -------------------------------------------------------------------------------------


def make_engine(settings: EngineSettings, options: Mapping[str, Any]) -> Engine:
    """A sync engine; *options* go to SQLAlchemy's `create_engine`."""
    engine = create_engine(_url("sqlite", settings), **_with_connection(settings, options))
    _listen(engine, settings)
    return engine


def make_async_engine(settings: EngineSettings, options: Mapping[str, Any]) -> AsyncEngine:
    """An asyncio engine; *options* go to SQLAlchemy's `create_async_engine`."""
    engine = create_async_engine(_url("sqlite+aiosqlite", settings), **_with_connection(settings, options))
    _listen(engine.sync_engine, settings)
    return engine


def raw_connection_of(connection: Connection) -> UnifiedConnection:
    """The SQLite connection below a SQLAlchemy connection of one of our engines."""
    return _raw(connection.connection.dbapi_connection)


def _raw(dbapi_connection: Any) -> UnifiedConnection:
    # SQLAlchemy's adapter around aiosqlite's connection around the driver's.
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    raw = getattr(driver, "_conn", driver)
    assert isinstance(raw, UnifiedConnection)
    return raw


def _url(driver: str, settings: EngineSettings) -> URL:
    return URL.create(driver, database=str(settings.path))


def _with_connection(settings: EngineSettings, options: Mapping[str, Any]) -> dict[str, Any]:
    connect_args = {
        "timeout": settings.file.busy_timeout_s,
        "check_same_thread": False,
        "factory": UnifiedConnection,
        **options.get("connect_args", {}),
    }
    # A pool that lets somebody wait stops the event loop of a sync session, and the conversations
    # beyond its fifteenth: each holds a connection for as long as its model answers.
    pool = {} if {"pool", "poolclass", "max_overflow"} & options.keys() else {"max_overflow": -1}
    return {**pool, **options, "connect_args": connect_args}


def _listen(engine: Engine, settings: EngineSettings) -> None:
    asynchronous = engine.dialect.is_async

    def connect(dbapi_connection: Any, record: Any) -> None:
        cursor = dbapi_connection.cursor()
        for pragma in _pragmas(settings):
            cursor.execute(pragma)
        cursor.close()
        _raw(dbapi_connection).settings = settings
        record.info["pid"] = os.getpid()

    def checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():
            # SQLite forbids the child of a fork its parent's connections, also to close them.
            forget(_raw(dbapi_connection))
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("the connection was opened before a fork")
        if (found := key_at(settings.path)) != settings.key:
            raise moved_error(settings.path, gone=found is None)

    def begin(connection: Connection) -> None:
        raw = raw_connection_of(connection)
        raw.owned, raw.may_commit = True, False

    def before_execute(connection: Connection, _cursor: Any, sql: str, *_rest: Any) -> None:
        raw = raw_connection_of(connection)
        if effect_of(sql) is Effect.WRITE and not raw.in_transaction:
            # aiosqlite executes in a thread of its own, where the application's code is not to be seen.
            raw.place = calling_place()
            raw.caller_loop = running_loop() if asynchronous else None

    def commit(connection: Connection) -> None:
        raw_connection_of(connection).may_commit = True

    def reset(dbapi_connection: Any, *_rest: Any) -> None:
        # None, or a driver that raises ValueError, for a connection that is gone.
        with contextlib.suppress(ValueError):
            if dbapi_connection is not None:
                raw = _raw(dbapi_connection)
                raw.owned = raw.may_commit = False

    _skip_what_would_do_nothing(engine)
    event.listen(engine, "connect", connect)
    event.listen(engine, "checkout", checkout)
    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", before_execute)
    event.listen(engine, "commit", commit)
    event.listen(engine, "checkin", reset)


def _skip_what_would_do_nothing(engine: Engine) -> None:
    """Make no trip for a COMMIT or ROLLBACK without a transaction: reads are outside of any.

    It also lets an asyncio session end its reading from the writer's thread, where nothing can be
    awaited.
    """
    dialect: Any = engine.dialect
    for name in ("do_commit", "do_rollback"):
        setattr(dialect, name, _only_in_transaction(getattr(dialect, name)))


def _only_in_transaction(end: Callable[[Any], None]) -> Callable[[Any], None]:
    def end_if_any(dbapi_connection: Any) -> None:
        # The pool hands out a proxy, the dialect's initialization the connection itself.
        inner = getattr(dbapi_connection, "dbapi_connection", dbapi_connection)
        raw = _raw(inner)
        if raw.in_transaction:
            end(dbapi_connection)
        else:
            raw.forget_transaction()

    return end_if_any


def _pragmas(settings: EngineSettings) -> tuple[str, ...]:
    return (
        "PRAGMA journal_mode=WAL",
        f"PRAGMA synchronous={settings.file.synchronous}",
        f"PRAGMA foreign_keys={'ON' if settings.foreign_keys else 'OFF'}",
    )
