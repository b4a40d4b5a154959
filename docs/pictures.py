"""Takes the pictures of `unify-db init` and `unify-db plan` in README.md; `make docs` runs it.

What the command shows of a small application that is made here, the same on every machine: its files are
written below, and what a machine says of itself (free space, its environment) is replaced.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import rich._export_format as rich_format
from rich.console import Console, Group, RenderableType
from rich.text import Text
from sqlalchemy import create_engine

from flows.initiate import initiate
from flows.review import review
from unified_db.migration import account, plan
from unified_db.migration.config import load_config
from unified_db.migration.records import MigrationPlan, SpaceNeed
from unified_db.migration.runs import create_run
from unified_db.runtime import schema

HERE = Path(__file__).parent
_WIDTH = 104

_FILES = {
    ".env": "DATABASE_URL=sqlite:///./data/app.db\nCHECKPOINTS=data/checkpoints.sqlite\n",
    "chat/settings.py": """\
from dotenv import load_dotenv
import os

load_dotenv()
DATABASE_URL = os.environ["DATABASE_URL"]
CHECKPOINTS = os.environ["CHECKPOINTS"]
""",
    "chat/database.py": """\
from sqlalchemy import create_engine

from chat.settings import DATABASE_URL

engine = create_engine(DATABASE_URL)
""",
    "chat/server.py": """\
from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from chat.settings import CHECKPOINTS

app = FastAPI()


@app.get("/health")
async def health() -> dict:
    async with AsyncSqliteSaver.from_conn_string(CHECKPOINTS) as saver:
        return {"saver": saver is not None}
""",
    "requirements.txt": "fastapi\nlanggraph\nlanggraph-checkpoint-sqlite\nsqlalchemy\nuvicorn\n",
    "scripts/backup.sh": "#!/bin/sh\ncp data/app.db data/checkpoints.sqlite /backup/\n",
    "docker-compose.yml": "services:\n  chat:\n    volumes:\n      - ./data/app.db:/srv/data/app.db\n",
    "tests/test_health.py": "def test_health():\n    assert True\n",
}
_TABLES = {"users": 41, "conversations": 412, "messages": 4812}
_CONFIGURATION = """
[app]
start = "{python} -m uvicorn chat.server:app --port {port}"
stop = "pkill uvicorn"
ready = "/health"

[[source]]
path = "data/app.db"
kind = "application"

[[source]]
path = "data/checkpoints.sqlite"
kind = "checkpoints"

[target]
path = "data/unified_app.sqlite"

[[edit]]
file = ".env"
kind = "dotenv"
key = "DATABASE_URL"
value = "sqlite:///./data/unified_app.sqlite"

[[edit]]
file = ".env"
kind = "dotenv"
key = "CHECKPOINTS"
value = "data/unified_app.sqlite"

[[edit]]
file = "chat/server.py"
kind = "python-import"
old = "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver"
new = "unified_db.UnifiedAsyncSqliteSaver"

[[edit]]
file = "requirements.txt"
kind = "requirement"
value = "unify-db @ https://example.org/unify_db-0.1.0-py3-none-any.whl"

[[suite]]
name = "tests"
command = "{python} -m pytest tests -q --junitxml {junit}"

[[benchmark.request]]
name = "health"
path = "/health"
"""


def build_tree(root: Path) -> None:
    """The application in the folder *root*, with rows in both of its databases."""
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "data").mkdir()
    with closing(sqlite3.connect(root / "data/app.db")) as conn, conn:
        for table, rows in _TABLES.items():
            conn.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
            conn.executemany(f"INSERT INTO {table} (body) VALUES (?)", [("x" * 60,)] * rows)
    _fill_checkpoints(root / "data/checkpoints.sqlite")


def _fill_checkpoints(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    schema.checkpoints.create(engine)
    schema.writes.create(engine)
    engine.dispose()
    keys = [(f"thread-{n % 412}", "", f"{n:036}") for n in range(2473)]
    with closing(sqlite3.connect(path)) as conn:
        conn.executemany(
            "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id) VALUES (?, ?, ?)", keys
        )
        conn.executemany(
            "INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel) "
            "VALUES (?, ?, ?, 'task', 0, 'messages')",
            keys,
        )
        conn.commit()
        conn.execute("PRAGMA journal_mode=WAL")


def take(title: str, shown: RenderableType) -> str:
    """What a terminal shows of *shown*, as SVG."""
    console = Console(
        record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(shown)
    # Fonts from elsewhere are loaded by nobody who shows a picture of a README.
    code_format = re.sub(r"@font-face \{.*?\}\n", "", rich_format.CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=code_format)


def picture_init() -> str:
    """What a first look at the small application finds."""
    with _application() as root:
        answer = initiate(root, None, asks=False)
        assert isinstance(answer.page, Group)
        first = Text.assemble("Looked at ", ("/srv/chat", "bold"))
        return take("unify-db init", Group(first, *answer.page.renderables[1:]))


def picture_plan() -> str:
    """The review of the small application."""
    with _application() as root:
        (root / "unify.toml").write_text(_CONFIGURATION)
        config = load_config(root)
        run = create_run(config.state_folder)
        run.save("plan", _of_no_machine(plan.make_plan(config, run)))
        return take("unify-db plan", review(account.load_account(run)))


@contextlib.contextmanager
def _application() -> Iterator[Path]:
    """The small application in a folder of its own, which is the working folder, in an empty environment."""
    environment = {"PATH": os.environ["PATH"], "COLUMNS": str(_WIDTH)}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, environment, clear=True):
        root = Path(folder).resolve() / "chat"
        root.mkdir()
        build_tree(root)
        with contextlib.chdir(root):
            yield root


def _of_no_machine(made: MigrationPlan) -> MigrationPlan:
    space = SpaceNeed(folder=Path("/srv/chat"), needed_bytes=18_000_000, free_bytes=21_500_000_000)
    sources = tuple(s.model_copy(update={"handles": ()}) for s in made.sources)
    return made.model_copy(update={"space": (space,), "reaching": (), "sources": sources})


PICTURES = {"init.svg": picture_init, "plan.svg": picture_plan}


def main() -> None:
    """Take all pictures."""
    for name, picture in PICTURES.items():
        (HERE / name).write_text(picture())


if __name__ == "__main__":
    main()
