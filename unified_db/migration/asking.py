"""What is sent for a request of the configuration, and whether its answer is the expected one.

Values come from rows of a source (`values`) or are made afresh ({uuid}). They are data of the
application: they go into requests and nowhere else, so no message here names one.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from unified_db import sources, sqlite
from unified_db.errors import ConfigError, UnifyError
from unified_db.migration.config import MigrationConfig, RequestConfig
from unified_db.migration.continuity_config import ContinuityConfig
from unified_db.migration.records import Backups
from unified_db.migration.runs import RunFolder

Scalar = str | int | float | None
Row = Mapping[str, Scalar]
"""One row of a `values` query: column to value."""

MAX_ROWS = 1000

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_QUERY_TIMEOUT_S = 10.0
_STEPS = 10_000
_READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_Look = Callable[[sqlite3.Connection], tuple[Row, ...]]
# Its label, and what has somebody look at it.
_Source = tuple[str, Callable[[_Look], tuple[Row, ...]]]


@dataclass(frozen=True)
class Question:
    """One request as it goes over the wire, and what its answer must be.

    Attributes:
        body: JSON; None for a request without one.
        expect_json: What the answer's JSON must hold at least, empty for anything.
    """

    name: str
    method: str
    path: str
    body: bytes | None
    expect_status: int
    expect_text: str
    expect_json: Mapping[str, Any]

    def problem(self, status: int, answer: bytes) -> str:
        """What is wrong with an answer, in words without any of its content; empty where nothing is."""
        if status != self.expect_status:
            return f"status {status}"
        if self.expect_text and self.expect_text.encode() not in answer:
            return "answer without the expected text"
        if self.expect_json and not _holds(_parse(answer), self.expect_json):
            return "answer without the expected JSON"
        return ""


def ask(request: RequestConfig, rows: Sequence[Row] = (), *, random: Random | None = None) -> Question:
    """*request* with fresh values, and those of one of *rows*, chosen by *random*."""
    row = dict((random or Random(0)).choice(rows)) if rows else {}  # noqa: S311 -- no secret
    values: Row = {"uuid": str(uuid.uuid4()), **row}
    body = None if request.body is None else json.dumps(_fill(request.body, values)).encode()
    return Question(
        name=request.name,
        method=request.method,
        path=_PLACEHOLDER.sub(lambda m: _in_path(m, values), request.path),
        body=body,
        expect_status=request.expect_status,
        expect_text=_fill_text(request.expect_text, values),
        expect_json=_fill(request.expect_json, values),
    )


def read_sources(config: MigrationConfig, run: RunFolder) -> dict[str, tuple[Row, ...]]:
    """The rows that each request with `values` takes its values from, out of the sources as they are now.

    Args:
        config: The application's configuration.
        run: For a copy of a source that a crash has left.

    Raises:
        ConfigError: A query is not read-only, fails, gives no rows, or does not fit its request.
    """
    opened = [
        (config.label(path), partial(sources.look_at, path, scratch=run.path))
        for path in (config.resolve(s.path) for s in config.source)
    ]
    return _read_all(_requests(config), opened)


def read_backups(config: MigrationConfig, backups: Backups) -> dict[str, tuple[Row, ...]]:
    """As :func:`read_sources`, out of the backups: what both staged sides have."""
    opened = [(b.label, partial(_look_at_backup, b.path)) for b in backups.items]
    return _read_all(_requests(config), opened)


def read_target(config: MigrationConfig, requests: Iterable[RequestConfig]) -> dict[str, tuple[Row, ...]]:
    """As :func:`read_sources` for *requests*, out of the unified file; one without rows is left out."""
    target = config.target_path
    found: dict[str, tuple[Row, ...]] = {}
    for request in requests:
        # Unread, it is not asked: the file may be written for longer than one waits, or rows be gone by now.
        with contextlib.suppress(UnifyError):
            found |= _read_all([request], [(config.label(target), partial(sources.look_at, target))])
    return found


def conversation_key(conversation: ContinuityConfig) -> str:
    """Under which name the rows of *conversation* are read."""
    return f"continuity {conversation.name}"


def _requests(config: MigrationConfig) -> Iterator[RequestConfig]:
    """All that may take values; a conversation as one request, whose columns any of its own may name."""
    yield from config.benchmark.request
    for conversation in config.continuity:
        steps = conversation.request
        yield RequestConfig(
            name=conversation_key(conversation),
            path="".join(step.path for step in steps),
            body={"all": [[step.body, step.expect_text, step.expect_json] for step in steps]},
            values=conversation.values,
        )


def _read_all(requests: Iterable[RequestConfig], opened: Sequence[_Source]) -> dict[str, tuple[Row, ...]]:
    return {r.name: _read_rows(r, opened) for r in requests if r.values}


def _read_rows(request: RequestConfig, opened: Sequence[_Source]) -> tuple[Row, ...]:
    """The rows of the first source that has the tables of the query and rows in them."""
    problems: list[str] = []
    for label, look_at in opened:
        try:
            rows = look_at(partial(_query, request=request))
        except sqlite3.Error as error:
            problems.append(f"{label}: {_reason(error)}")
            continue
        if rows:
            return _checked(request, rows)
        problems.append(f"{label}: no rows")
    raise _refused(request, "; ".join(problems))


def _look_at_backup(path: Path, look: _Look) -> tuple[Row, ...]:
    with closing(sqlite.connect_frozen(path)) as connection:
        return look(connection)


def _query(connection: sqlite3.Connection, *, request: RequestConfig) -> tuple[Row, ...]:
    deadline = time.monotonic() + _QUERY_TIMEOUT_S
    # query_only and mode=ro do not keep VACUUM INTO or ATTACH from making files.
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY
    )
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    with closing(connection.execute(request.values)) as cursor:
        columns = [c[0] for c in cursor.description or ()]
        return tuple(dict(zip(columns, row, strict=True)) for row in cursor.fetchmany(MAX_ROWS))


def _reason(error: sqlite3.Error) -> str:
    # Errors of the module itself, such as two statements in one text, have no code.
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_AUTH:
        return "it does more than read"
    if code == sqlite3.SQLITE_INTERRUPT:
        return f"it takes longer than {_QUERY_TIMEOUT_S:g} s"
    return str(error)


def _checked(request: RequestConfig, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """*rows* themselves where they can fill what *request* names."""
    in_path = set(_PLACEHOLDER.findall(request.path))
    named = {*in_path, *_PLACEHOLDER.findall(f"{request.body} {request.expect_text} {request.expect_json}")}
    columns = set(rows[0])
    if not named & columns:
        raise _refused(request, f"its columns ({', '.join(sorted(columns))}) are filled in nowhere")
    missing = sorted(named - columns - {"uuid"})
    if missing:
        raise _refused(request, f"{{{missing[0]}}} is none of its columns ({', '.join(sorted(columns))})")
    for column in sorted(named & columns):
        if not all(_is_fillable(row[column], in_path=column in in_path) for row in rows):
            raise _refused(request, f"column {column} holds NULL, a BLOB, or what is no UTF-8 text")
    return rows


def _is_fillable(value: object, *, in_path: bool) -> bool:
    if isinstance(value, str):
        # Text that is no UTF-8 comes as lone surrogates, which no request can carry.
        return not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) or (value is None and not in_path)


def _refused(request: RequestConfig, why: str) -> ConfigError:
    return ConfigError(
        f"the values of {request.name!r} cannot be read: {why}",
        hint="Nothing was changed. `values` is one SELECT on the tables of one source that gives at least "
        "one row; each {column} of the request is a column of it. Mend it in unify.toml.",
    )


def _in_path(match: re.Match[str], values: Row) -> str:
    return quote(str(values[match[1]]), safe="") if match[1] in values else match[0]


def _fill_text(text: str, values: Row) -> str:
    return _PLACEHOLDER.sub(lambda m: str(values[m[1]]) if m[1] in values else m[0], text)


def _fill(value: Any, values: Row) -> Any:
    if isinstance(value, str):
        alone = _PLACEHOLDER.fullmatch(value)
        # A number stays a number where nothing surrounds it.
        return values[alone[1]] if alone and alone[1] in values else _fill_text(value, values)
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    return value


def _parse(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None


def _holds(found: Any, wanted: Any) -> bool:
    """True where *found* has at least what *wanted* has: every key, and lists item by item."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(k in found and _holds(found[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(_holds(f, w) for f, w in zip(found, wanted, strict=True))
    # 1 == True in Python, not in JSON.
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)
