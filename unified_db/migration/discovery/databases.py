"""Finds the SQLite files of a tree by their header, and tells what each of them is, and why.

Every file is read as `plan` reads a source: beside its users, and without leaving a trace.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unified_db import files, sqlite
from unified_db import sources as access
from unified_db.errors import UnifyError
from unified_db.migration import langgraph
from unified_db.migration.collisions import VERSION_TABLE
from unified_db.migration.discovery.finds import DatabaseFind, DatabaseKind
from unified_db.migration.edits.survey import walk_names
from unified_db.sqlite import fold

_MAX_FILES = 100_000
_MAX_DATABASES = 200
_WAIT_S = 1.0
# Counting rows reads whole tables; a tree is looked at in seconds, whatever lies in it.
_COUNTING_S = 2.0
_STEPS_BETWEEN_LOOKS = 50_000

_DATABASE_NAME = re.compile(r"\.(?:db3?|sqlite3?|s3db|sdb)$", re.IGNORECASE)
_CALLED_CHECKPOINTS = re.compile(r"check_?point", re.IGNORECASE)
_TEST_NAME = re.compile(r"(?:^|[_.\-])(?:py)?tests?(?:[_.\-]|$)", re.IGNORECASE)
_TEST_FOLDERS = frozenset({"test", "tests", "testing", "fixtures", "testdata"})
_COPY_NAME = re.compile(
    r"(?:^|[_.\- ])(?:old|bak|back_?up|copy|orig|save|archived?)\d*(?:[_.\- ]|$)"
    r"|~$|\(\d+\)|\.\d{1,3}$|20\d{2}[_\-]?[01]\d[_\-]?[0-3]\d",
    re.IGNORECASE,
)
_COPY_FOLDERS = frozenset({"backup", "backups", "bak", "old", "archive", "archives", "dumps"})

# Files that tools keep, by the tables that only they have.
_TOOLS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"embeddings", "collections", "segments"}), "a vector store's file (Chroma)"),
    (frozenset({"embeddings", "collections"}), "a vector store's file"),
    (frozenset({"full_llm_cache"}), "a cache of LangChain's"),
    (frozenset({"full_md5_llm_cache"}), "a cache of LangChain's"),
    (frozenset({"responses", "redirects"}), "a cache of HTTP answers (requests-cache)"),
    (frozenset({"cache", "settings"}), "a cache (diskcache)"),
    (frozenset({"coverage_schema", "meta"}), "what coverage.py measured"),
    (frozenset({"experiments", "runs", "metrics"}), "MLflow's own database"),
)


@dataclass
class _Inside:
    """What a database holds: each table's columns, folded to lower case, and how many rows in all."""

    columns: dict[str, frozenset[str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    rows: int = 0
    counted: bool = True

    def has_own(self, table: str) -> bool:
        """True where LangGraph's table of that name is there."""
        return langgraph.has_own_columns(table, self.columns.get(fold(table), frozenset()))

    @property
    def others(self) -> list[str]:
        """Tables that are no table of LangGraph's, nor Alembic's."""
        return [n for n in self.names if fold(n) != VERSION_TABLE and not self.has_own(n)]


def find_databases(root: Path) -> tuple[DatabaseFind, ...]:
    """The SQLite files below *root*, sorted by path, each with what it is; at most 200 of them.

    What version control, virtual environments and caches keep is passed over. A file is known by its
    first bytes, not by its name; one that is empty, or that only a WAL shows, is told too.
    """
    candidates = itertools.islice(_candidates(root), _MAX_DATABASES)
    return tuple(look_at(path, root=root) for path in sorted(candidates))


def look_at(path: Path, *, root: Path) -> DatabaseFind:
    """What the database *path* is. Nothing is raised: why it cannot be read stands in `problem`."""
    label = path.relative_to(root) if path.is_relative_to(root) else path
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 and not _has_wal(path):
        what = "it is empty: nobody ever made a table in it" if path.is_file() else "it does not exist"
        return DatabaseFind(path=label, kind="other", why=(), decoy=what)
    try:
        with access.reading(path, timeout_s=_WAIT_S) as conn:
            inside = _look_inside(conn)
    except UnifyError as error:
        return DatabaseFind(path=label, kind="other", why=(), size_bytes=size, problem=error.message)
    except (OSError, sqlite3.Error) as error:
        return DatabaseFind(path=label, kind="other", why=(), size_bytes=size, problem=str(error))
    return _describe(label, inside, size_bytes=access.total_bytes([path]))


# ---- where they are -----------------------------------------------------------------------------


def _candidates(root: Path) -> Iterator[Path]:
    for path in itertools.islice(walk_names(root), _MAX_FILES):
        if path.name.endswith("-wal"):
            main = path.with_name(path.name.removesuffix("-wal"))
            if not main.exists():
                yield main
        elif _is_database(path):
            yield path


def _is_database(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb", buffering=0) as stream:
            head = stream.read(len(access.HEADER))
    except OSError:
        return False  # not ours to read, so the application does not live from it either
    return head == access.HEADER or (not head and (bool(_DATABASE_NAME.search(path.name)) or _has_wal(path)))


def _has_wal(path: Path) -> bool:
    try:
        return files.sidecar(path, "-wal").stat().st_size > 0
    except OSError:
        return False


# ---- what is in one -----------------------------------------------------------------------------


def _look_inside(conn: sqlite3.Connection) -> _Inside:
    names = tuple(sqlite.tables(conn))
    inside = _Inside(names=names)
    for name in names:
        rows = conn.execute("SELECT name FROM pragma_table_xinfo(?)", (name,))
        inside.columns[fold(name)] = frozenset(fold(column) for (column,) in rows)
    deadline = time.monotonic() + _COUNTING_S
    conn.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    try:
        for name in names:
            inside.rows += int(conn.execute(f"SELECT count(*) FROM {sqlite.quote_name(name)}").fetchone()[0])
    except sqlite3.Error:
        inside.counted = False
    finally:
        conn.set_progress_handler(None, 0)
    return inside


def _describe(label: Path, inside: _Inside, *, size_bytes: int) -> DatabaseFind:
    kind, era, why = _classify(inside)
    of_a_tool = _decoy_by_tables(inside)
    decoy = of_a_tool or _decoy_by_name(label, has_checkpoints=bool(era))
    if not inside.counted:
        why.append("large: its rows were counted in part only")
    return DatabaseFind(
        path=label,
        kind="other" if of_a_tool else kind,
        why=tuple(why),
        tables=len(inside.names),
        rows=inside.rows,
        size_bytes=size_bytes,
        era=era,
        alembic=VERSION_TABLE in inside.columns,
        decoy=decoy,
        table_names=inside.names,
    )


def _classify(inside: _Inside) -> tuple[DatabaseKind, str, list[str]]:
    era = langgraph.read_era(inside.columns)
    others, has_store = inside.others, inside.has_own("store")
    if era:
        why = [f"LangGraph's tables checkpoints and writes ({era})"]
        why += ["LangGraph's store, too"] if has_store else []
        why += [f"and tables of an application, too: {_named(others)}"] if others else []
        return ("application" if others else "checkpoints"), era, why
    if has_store and not others:
        return "store", "", ["LangGraph's table store"]
    if not inside.names:
        return "other", "", ["no tables"]
    why = [f"tables of an application: {_named(others)}"]
    if VERSION_TABLE in inside.columns:
        why.append("its schema is Alembic's (alembic_version)")
    why += ["LangGraph's store, too"] if has_store else []
    # Names that LangGraph uses, with other columns: the application's own tables.
    mistaken = [n for n in others if langgraph.has_own_name(n)]
    why += [f"its table {n} is the application's own, not LangGraph's" for n in mistaken]
    return "application", "", why


def _named(tables: Sequence[str]) -> str:
    shown = ", ".join(tables[:5])
    return f"{shown} and {len(tables) - 5} more" if len(tables) > 5 else shown


# ---- what is probably not in use ----------------------------------------------------------------


def _decoy_by_tables(inside: _Inside) -> str:
    for tables, what in _TOOLS:
        if tables <= inside.columns.keys():
            return what
    return "" if inside.names else "it has no tables"


def _decoy_by_name(label: Path, *, has_checkpoints: bool) -> str:
    folders = {part.lower() for part in label.parent.parts}
    if _TEST_NAME.search(label.name) or folders & _TEST_FOLDERS:
        return "a test database, by its name"
    if _COPY_NAME.search(label.name) or folders & _COPY_FOLDERS:
        return "an old copy or backup, by its name"
    if _CALLED_CHECKPOINTS.search(label.name) and not has_checkpoints:
        return f"it is called {label.name}, but LangGraph's tables are not in it"
    return ""
