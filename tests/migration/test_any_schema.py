"""For any schema and any values: merge then validate is open; one mutation, and it is closed by name.

What is right is said by `tests/oracle.py`: a mutation counts where plain reads in Python see it, and
then the proof must. `make fuzz` runs many more examples, new ones every time.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, event, given, note, settings
from hypothesis import strategies as st

from tests.oracle import account_for, combine
from unified_db import sqlite
from unified_db.migration import backup, merge, validate
from unified_db.migration.backup import PlainSource
from unified_db.migration.records import Backups, UnifiedFile

FUZZ = int(os.environ.get("UNIFY_DB_FUZZ", "0"))
bounded = settings(
    max_examples=FUZZ or 40,
    derandomize=not FUZZ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Text:
    """A text by its bytes, which need not be UTF-8."""

    raw: bytes


@dataclass(frozen=True)
class Schema:
    """One table with what stands on it, and rows to try to insert."""

    name: str
    statements: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    with_rowid: bool


ways = st.sampled_from(["by pages", "appended", "by rows"])


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


ODD = [b"", b"\x00", b"a\x00", b"\xff", b"\xed\xa0\x80", b"A", b"a", b"a ", b"1", b"1.0", b"\xc3\xa4"]
values = st.one_of(
    st.none(),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1]),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, 5e-324, 2.0**53]),
    st.floats(allow_nan=False),
    st.sampled_from(ODD).map(Text),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(lambda t: Text(t.encode())),
    st.sampled_from(ODD),
    st.binary(max_size=12),
)
names = st.text(st.sampled_from("aB \"'`[]{}%.;äÄß日\t-?:1"), min_size=1, max_size=5).filter(
    lambda n: not n.lower().startswith("sqlite_")
)
declared = st.sampled_from(
    ["", "INTEGER", "INT", "TEXT", "REAL", "NUMERIC", "BLOB", "VARCHAR(3)", "DATETIME", "ANY"]
)
strict = st.sampled_from(["INTEGER", "INT", "TEXT", "REAL", "BLOB", "ANY"])
collations = st.sampled_from(["", "", " COLLATE NOCASE", " COLLATE RTRIM", " COLLATE BINARY"])
constraints = st.sampled_from(["", "", "", " NOT NULL", " UNIQUE", " DEFAULT (1 + 1)", " CHECK (1)"])


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    name = draw(names)
    columns = draw(st.lists(names, min_size=1, max_size=4, unique_by=sqlite.fold))
    kind = draw(st.sampled_from(["plain", "plain", "id", "autoincrement", "descending", "keyed", "strict"]))
    with_rowid = kind != "keyed"
    types = strict if kind == "strict" else declared
    parts = [f"{quoted(c)} {draw(types)}{draw(collations)}{draw(constraints)}" for c in columns]
    key = {
        "id": "PRIMARY KEY",
        "autoincrement": "PRIMARY KEY AUTOINCREMENT",
        "descending": "PRIMARY KEY DESC",
    }
    if kind in key:
        parts.append(f"the_id INTEGER {key[kind]}")
    if draw(st.booleans()):
        stored = draw(st.sampled_from(["STORED", "VIRTUAL"]))
        kept_as = " TEXT" if kind == "strict" else ""
        parts.append(f"made{kept_as} GENERATED ALWAYS AS (typeof({quoted(columns[0])})) {stored}")
    if kind == "keyed":
        chosen = draw(st.lists(st.sampled_from(columns), min_size=1, unique=True))
        parts.append(
            f"PRIMARY KEY ({', '.join(quoted(c) + draw(st.sampled_from(['', ' DESC'])) for c in chosen)})"
        )
    suffix = {"keyed": " WITHOUT ROWID", "strict": " STRICT"}.get(kind, "")
    statements = [f"CREATE TABLE {quoted(name)} ({', '.join(parts)}){suffix}"]
    statements += [draw(indexes(name, columns, number)) for number in range(draw(st.integers(0, 3)))]
    rows = draw(st.lists(st.tuples(st.integers(-5, 2**63 - 1), *(values for _ in columns)), max_size=8))
    return Schema(name, tuple(statements), tuple(columns), tuple(rows), with_rowid)


@st.composite
def indexes(draw: st.DrawFn, table: str, columns: list[str], number: int) -> str:
    column = quoted(draw(st.sampled_from(columns)))
    by = draw(st.sampled_from([column, f"{column} DESC", f"{column} COLLATE NOCASE", f"length({column})"]))
    also = draw(st.sampled_from(["", f", {quoted(columns[-1])}"]))
    where = draw(st.sampled_from(["", f" WHERE {column} IS NOT NULL", f" WHERE typeof({column}) = 'text'"]))
    return f"CREATE INDEX unify_i{number} ON {quoted(table)} ({by}{also}){where}"


def build(path: Path, schema: Schema, *, padding: int, page_bytes: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA page_size={page_bytes}")
        for statement in schema.statements:
            conn.execute(statement)
        targets = [*(["rowid"] if schema.with_rowid else []), *map(quoted, schema.columns)]
        for row in schema.rows:
            chosen = row if schema.with_rowid else row[1:]
            marks = ", ".join("CAST(? AS TEXT)" if isinstance(v, Text) else "?" for v in chosen)
            bound = [v.raw if isinstance(v, Text) else v for v in chosen]
            # A row that breaks a constraint is left out; the others are what is tested.
            with suppress(sqlite3.IntegrityError):
                conn.execute(
                    f"INSERT INTO {quoted(schema.name)} ({', '.join(targets)}) VALUES ({marks})", bound
                )
        if padding:
            conn.execute("CREATE TABLE unify_padding_of_app (b)")
            conn.execute("INSERT INTO unify_padding_of_app VALUES (zeroblob(?))", (padding,))
        conn.execute("ANALYZE")


def merge_both(folder: Path, schema: Schema, *, carried: str) -> tuple[Backups, UnifiedFile]:
    padding = 200_000 if carried == "by pages" else 0
    # Rows are inserted where the pages are not those of the other file.
    page_bytes = 8192 if carried == "by rows" else 4096
    build(folder / "app.db", schema, padding=padding, page_bytes=page_bytes)
    with closing(sqlite3.connect(folder / "other.db", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE unify_other (b)")
        conn.execute("INSERT INTO unify_other VALUES (zeroblob(100000))")
    (folder / "backup").mkdir()
    sources = [PlainSource(folder / f"{n}.db", f"{n}.db") for n in ("app", "other")]
    backups = backup.take_backups(sources, folder / "backup")
    return backups, merge.merge_backups(backups, folder / "unified.db")


def usable(schema: Schema) -> bool:
    """False for what SQLite does not take, such as a column twice under another case of a letter."""
    with closing(sqlite3.connect(":memory:")) as conn:
        try:
            for statement in schema.statements:
                conn.execute(statement)
        except sqlite3.OperationalError:
            return False
    return True


@bounded
@given(schema=schemas(), carried=ways)
def test_merge_then_validate_is_open(schema: Schema, carried: str) -> None:
    assume(usable(schema))
    note("; ".join(schema.statements))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backups, unified = merge_both(folder, schema, carried=carried)
        assert validate.validate(backups, unified).failures == ()
        wanted = combine([account_for(folder / "app.db"), account_for(folder / "other.db")])
        assert account_for(unified.path) == wanted


EXPRESSIONS = [
    "NULL", "''", "x''", "0", "0.0", "-0.0", "1", "1.0", "'1'", "x'31'", "{c} || char(0)", "upper({c})",
    "lower({c})", "CAST({c} AS BLOB)", "CAST({c} AS TEXT)", "CAST({c} AS REAL)", "trim({c})", "{c} || ' '",
    "-{c}", "{c} + 1", "zeroblob(1)", "{d}",
]  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn, schema: Schema) -> str:
    table = quoted(schema.name)
    row = draw(st.integers(0, 7))
    column, other = (quoted(draw(st.sampled_from(schema.columns))) for _ in range(2))
    # Whichever row: the rowid where there is one, else the value of a column.
    key = "rowid" if schema.with_rowid else column
    where = f"WHERE {key} IS (SELECT {key} FROM {table} LIMIT 1 OFFSET {row})"
    changed = draw(st.sampled_from(EXPRESSIONS)).format(c=column, d=other)
    rowid = f"UPDATE {table} SET rowid = rowid + {draw(st.integers(1, 3))} {where}"
    return draw(
        st.sampled_from(
            [
                *[f"UPDATE {table} SET {column} = {changed} {where}"] * 5,
                f"DELETE FROM {table} {where}",
                rowid if schema.with_rowid else f"DELETE FROM {table}",
                f"INSERT INTO {table} ({column}) VALUES ({changed.replace(column, '7').replace(other, '8')})",
                f"DROP TABLE {table}",
                f"CREATE INDEX unify_new ON {table} ({column})",
                "DROP INDEX unify_i0",
                f"ALTER TABLE {table} ADD COLUMN unify_added",
            ]
        )
    )


@bounded
@given(data=st.data(), schema=schemas(), carried=ways)
def test_one_mutation_closes_the_gate_by_name(data: st.DataObject, schema: Schema, carried: str) -> None:
    assume(usable(schema))
    mutation = data.draw(mutations(schema))
    note("; ".join(schema.statements))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backups, unified = merge_both(folder, schema, carried=carried)
        before = account_for(unified.path)
        damaged = Path(shutil.copyfile(unified.path, folder / "damaged.db"))
        with closing(sqlite3.connect(damaged, isolation_level=None)) as conn:
            try:
                conn.execute(mutation)
            except sqlite3.Error:
                assume(False)
        changed = account_for(damaged) != before
        event("changed" if changed else "the same")
        verdict = validate.validate(backups, unified.model_copy(update={"path": damaged}))
        said = "\n".join(f"{f.where}: {f.measured}" for f in verdict.failures)
        assert verdict.passed is not changed, said
        assert not changed or schema.name in said or re.search("unify_(new|i0)", said), said
