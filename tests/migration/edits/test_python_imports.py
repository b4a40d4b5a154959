"""An imported name is exchanged wherever an application imports and uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unified_db.errors import EditError
from unified_db.migration.edits.python_imports import exchange_import

PACKAGE = "langgraph.checkpoint.sqlite.aio"
OLD = f"{PACKAGE}.AsyncSqliteSaver"
NEW = "unified_db.UnifiedAsyncSqliteSaver"
FILE = Path("server.py")


def _exchange(text: str) -> str:
    return exchange_import(text, OLD, NEW, file=FILE)


CASES = {
    "alone, with every kind of use": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # c
saver: AsyncSqliteSaver = AsyncSqliteSaver.from_conn_string(f'{AsyncSqliteSaver}')
def f(a: 'AsyncSqliteSaver | None', b: list['AsyncSqliteSaver']) -> AsyncSqliteSaver:
    "AsyncSqliteSaver in words."
--->
from unified_db import UnifiedAsyncSqliteSaver  # c
saver: UnifiedAsyncSqliteSaver = UnifiedAsyncSqliteSaver.from_conn_string(f'{UnifiedAsyncSqliteSaver}')
def f(a: 'UnifiedAsyncSqliteSaver | None', b: list['UnifiedAsyncSqliteSaver']) -> UnifiedAsyncSqliteSaver:
    "AsyncSqliteSaver in words."
""",
    "an alias stays": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver
x = Saver
--->
from unified_db import UnifiedAsyncSqliteSaver as Saver
x = Saver
""",
    "first of two names": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver, Other  # c
x = AsyncSqliteSaver, Other
--->
from langgraph.checkpoint.sqlite.aio import Other  # c
from unified_db import UnifiedAsyncSqliteSaver
x = UnifiedAsyncSqliteSaver, Other
""",
    "last line of several, comments of the others stay": """\
from langgraph.checkpoint.sqlite.aio import (
    Other,  # o
    AsyncSqliteSaver,  # s
)
x = AsyncSqliteSaver
--->
from langgraph.checkpoint.sqlite.aio import (
    Other,  # o
)
from unified_db import UnifiedAsyncSqliteSaver
x = UnifiedAsyncSqliteSaver
""",
    "in parentheses without a last comma": """\
from langgraph.checkpoint.sqlite.aio import (Other,
    AsyncSqliteSaver)
x = AsyncSqliteSaver
--->
from langgraph.checkpoint.sqlite.aio import (Other,)
from unified_db import UnifiedAsyncSqliteSaver
x = UnifiedAsyncSqliteSaver
""",
    "over a backslash": """\
from langgraph.checkpoint.sqlite.aio import Other, \\
    AsyncSqliteSaver
x = AsyncSqliteSaver
--->
from langgraph.checkpoint.sqlite.aio import Other
from unified_db import UnifiedAsyncSqliteSaver
x = UnifiedAsyncSqliteSaver
""",
    "inside a function": """\
def f():
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver, Other
    return AsyncSqliteSaver, Other
--->
def f():
    from langgraph.checkpoint.sqlite.aio import Other
    from unified_db import UnifiedAsyncSqliteSaver
    return UnifiedAsyncSqliteSaver, Other
""",
    "for type checkers, on one line": """\
if HINTS: from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver, Other
def f(a: 'AsyncSqliteSaver'): ...
--->
if HINTS: from langgraph.checkpoint.sqlite.aio import Other; from unified_db import UnifiedAsyncSqliteSaver
def f(a: 'UnifiedAsyncSqliteSaver'): ...
""",
    "twice, for type checkers and in a function": """\
if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
def f(a: 'AsyncSqliteSaver'):
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    return AsyncSqliteSaver
--->
if TYPE_CHECKING:
    from unified_db import UnifiedAsyncSqliteSaver
def f(a: 'UnifiedAsyncSqliteSaver'):
    from unified_db import UnifiedAsyncSqliteSaver
    return UnifiedAsyncSqliteSaver
""",
    "through the module": """\
import langgraph.checkpoint.sqlite.aio
x = langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver('x')
y: 'langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver'
--->
import unified_db
x = unified_db.UnifiedAsyncSqliteSaver('x')
y: 'unified_db.UnifiedAsyncSqliteSaver'
""",
    "through the module under another name": """\
import langgraph.checkpoint.sqlite.aio as m
x = m.AsyncSqliteSaver
--->
import unified_db as m
x = m.UnifiedAsyncSqliteSaver
""",
    "through the module imported from its package": """\
from langgraph.checkpoint.sqlite import aio
x = aio.AsyncSqliteSaver
--->
import unified_db
x = unified_db.UnifiedAsyncSqliteSaver
""",
    "a module that serves for more stays": """\
import langgraph.checkpoint.sqlite.aio as m
x = m.AsyncSqliteSaver, m.Other
--->
import langgraph.checkpoint.sqlite.aio as m
import unified_db
x = unified_db.UnifiedAsyncSqliteSaver, m.Other
""",
    "a module that loads its packages for others stays": """\
import langgraph.checkpoint.sqlite.aio
x = langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver, langgraph.checkpoint.sqlite.SqliteSaver
--->
import langgraph.checkpoint.sqlite.aio
import unified_db
x = unified_db.UnifiedAsyncSqliteSaver, langgraph.checkpoint.sqlite.SqliteSaver
""",
    "a name with a fallback stays": """\
try:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
except ImportError:
    AsyncSqliteSaver = None
x = AsyncSqliteSaver
--->
try:
    from unified_db import UnifiedAsyncSqliteSaver as AsyncSqliteSaver
except ImportError:
    AsyncSqliteSaver = None
x = AsyncSqliteSaver
""",
    "a name in __all__ stays": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
__all__ = ['AsyncSqliteSaver']
x = AsyncSqliteSaver
--->
from unified_db import UnifiedAsyncSqliteSaver as AsyncSqliteSaver
__all__ = ['AsyncSqliteSaver']
x = AsyncSqliteSaver
""",
    "a name that is only passed on stays": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
--->
from unified_db import UnifiedAsyncSqliteSaver as AsyncSqliteSaver
""",
    "a local of the same name is another thing": """\
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
x = AsyncSqliteSaver
def f(AsyncSqliteSaver):
    return AsyncSqliteSaver, x.AsyncSqliteSaver
--->
from unified_db import UnifiedAsyncSqliteSaver
x = UnifiedAsyncSqliteSaver
def f(AsyncSqliteSaver):
    return AsyncSqliteSaver, x.AsyncSqliteSaver
""",
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("case", CASES.values(), ids=[n.replace(" ", "-") for n in CASES])
def test_the_name_is_exchanged_where_it_is_imported_and_used(case: str, newline: str) -> None:
    before, after = case.replace("\n", newline).split(f"--->{newline}")
    assert _exchange(before) == after
    assert _exchange(after) == after
    assert _exchange(before.rstrip()) == after.rstrip()


def test_the_saver_without_async_is_exchanged_too() -> None:
    before = "from langgraph.checkpoint.sqlite import SqliteSaver\nx = SqliteSaver(conn)\n"
    after = exchange_import(
        before, "langgraph.checkpoint.sqlite.SqliteSaver", "unified_db.UnifiedSqliteSaver", file=FILE
    )
    assert after == "from unified_db import UnifiedSqliteSaver\nx = UnifiedSqliteSaver(conn)\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("import os\n", "neither", id="not-imported"),
        pytest.param(f"from {PACKAGE} import *\n", "hides what it imports", id="with-a-star"),
        pytest.param(
            f"from {PACKAGE} import AsyncSqliteSaver\nclass UnifiedAsyncSqliteSaver: ...\nAsyncSqliteSaver\n",
            "something else on line 2",
            id="new-name-taken",
        ),
        pytest.param(
            f"import {PACKAGE}\nunified_db = 1\nx = {PACKAGE}.AsyncSqliteSaver\n",
            "something else on line 2",
            id="new-module-taken",
        ),
        pytest.param("from x import (\n", "syntax error", id="not-python"),
    ],
)
def test_what_cannot_be_exchanged_is_refused(text: str, found: str) -> None:
    with pytest.raises(EditError) as caught:
        _exchange(text)
    assert found in caught.value.message
    assert "server.py" in caught.value.message
