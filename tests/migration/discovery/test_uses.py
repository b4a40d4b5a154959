"""What opens a database: savers, stores and engines in the ways that applications build them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import opened, read, winner

AIO = "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver"
SYNC = "langgraph.checkpoint.sqlite.SqliteSaver"


@pytest.mark.parametrize(
    ("code", "name", "built"),
    [
        pytest.param(
            "from langgraph.checkpoint.sqlite import SqliteSaver\n"
            "with SqliteSaver.from_conn_string('c.db') as s: ...\n",
            SYNC,
            "from_conn_string",
            id="from-conn-string",
        ),
        pytest.param(
            "import sqlite3\nfrom langgraph.checkpoint.sqlite import SqliteSaver\n"
            "conn = sqlite3.connect('c.db', check_same_thread=False)\ns = SqliteSaver(conn)\n",
            SYNC,
            "connection",
            id="connection-passed-in",
        ),
        pytest.param(
            "import sqlite3\nfrom langgraph.checkpoint.sqlite import SqliteSaver\n"
            "s = SqliteSaver(conn=sqlite3.connect('c.db'), serde=None)\n",
            SYNC,
            "connection",
            id="connection-by-name-with-serde",
        ),
        pytest.param(
            "import aiosqlite\nfrom langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as S\n"
            "async def f():\n    async with aiosqlite.connect('c.db') as conn:\n        s = S(conn)\n",
            AIO,
            "connection",
            id="alias-and-connection-in-a-with",
        ),
        pytest.param(
            "import aiosqlite\nimport langgraph.checkpoint.sqlite.aio as lg\n"
            "async def f():\n    s = lg.AsyncSqliteSaver(await aiosqlite.connect('c.db'))\n",
            AIO,
            "connection",
            id="module-imported",
        ),
        pytest.param(
            "from langgraph.checkpoint.sqlite import aio\n"
            "async def f(stack):\n"
            "    s = await stack.enter_async_context(aio.AsyncSqliteSaver.from_conn_string('c.db'))\n",
            AIO,
            "from_conn_string",
            id="exit-stack",
        ),
        pytest.param(
            "import aiosqlite\nfrom contextlib import AsyncExitStack\n"
            "from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver\n"
            "async def f():\n    stack = AsyncExitStack()\n"
            "    conn = await stack.enter_async_context(aiosqlite.connect('c.db'))\n"
            "    s = AsyncSqliteSaver(conn)\n",
            AIO,
            "connection",
            id="connection-through-a-stack",
        ),
        pytest.param(
            "import aiosqlite\nfrom langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver\nconn = None\n"
            "async def start():\n    global conn\n    conn = await aiosqlite.connect('c.db')\n"
            "def make():\n    return AsyncSqliteSaver(conn)\n",
            AIO,
            "connection",
            id="global-connection",
        ),
        pytest.param(
            "import aiosqlite\nfrom langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver\n"
            "class App: ...\napp = App()\n"
            "async def start():\n    app.state.conn = await aiosqlite.connect('c.db')\n"
            "def make():\n    return AsyncSqliteSaver(app.state.conn)\n",
            AIO,
            "connection",
            id="connection-kept-on-another-object",
        ),
        pytest.param(
            "from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver\n"
            "class MySaver(AsyncSqliteSaver): ...\n"
            "async def f():\n    async with MySaver.from_conn_string('c.db') as s: ...\n",
            AIO,
            "from_conn_string",
            id="class-of-its-own",
        ),
        pytest.param(
            "from langgraph.store.sqlite import SqliteStore\n"
            "with SqliteStore.from_conn_string('c.db') as s: ...\n",
            "langgraph.store.sqlite.SqliteStore",
            "from_conn_string",
            id="store",
        ),
        pytest.param(
            "from langgraph.store.sqlite.aio import AsyncSqliteStore\n"
            "async def f():\n    async with AsyncSqliteStore.from_conn_string('c.db') as s: ...\n",
            "langgraph.store.sqlite.aio.AsyncSqliteStore",
            "from_conn_string",
            id="async-store",
        ),
    ],
)
def test_a_saver_is_found_with_the_file_that_it_opens(
    code: str, name: str, built: str, tmp_path: Path
) -> None:
    reading = read(tmp_path, {"app.py": code})
    assert [(s.name, s.built, str(s.resolved)) for s in reading.savers] == [(name, built, "c.db")]
    assert reading.savers[0].is_async == ("Async" in name)
    assert reading.savers[0].imported.line <= reading.savers[0].place.line
    assert reading.engines == ()
    assert winner(reading).role == ("store" if "Store" in name else "checkpoints")


@pytest.mark.parametrize(
    ("code", "call", "is_async"),
    [
        pytest.param(
            "import sqlalchemy as sa\nsa.create_engine('sqlite:///c.db')\n",
            "sqlalchemy.create_engine",
            False,
            id="sqlalchemy",
        ),
        pytest.param(
            "from sqlalchemy.ext.asyncio import create_async_engine as make\n"
            "make('sqlite+aiosqlite:///c.db')\n",
            "sqlalchemy.ext.asyncio.create_async_engine",
            True,
            id="async",
        ),
        pytest.param(
            "from sqlmodel import SQLModel, create_engine\ncreate_engine('sqlite:///c.db')\n",
            "sqlmodel.create_engine",
            False,
            id="sqlmodel",
        ),
        pytest.param(
            "import databases\ndb = databases.Database('sqlite+aiosqlite:///c.db')\n",
            "databases.Database",
            True,
            id="databases",
        ),
        pytest.param("import sqlite3\nsqlite3.connect('c.db')\n", "sqlite3.connect", False, id="sqlite3"),
        pytest.param(
            "from sqlite3 import connect\nconnect('c.db')\n", "sqlite3.connect", False, id="sqlite3-by-name"
        ),
        pytest.param(
            "from sqlalchemy import URL, create_engine\n"
            "create_engine(URL.create('sqlite', database='c.db'))\n",
            "sqlalchemy.create_engine",
            False,
            id="url-object",
        ),
        pytest.param(
            "from sqlalchemy import create_engine\ncreate_engine('sqlite+pysqlite:///./c.db?timeout=5')\n",
            "sqlalchemy.create_engine",
            False,
            id="driver-and-query",
        ),
    ],
)
def test_an_engine_is_found_with_the_file_that_it_opens(
    code: str, call: str, is_async: bool, tmp_path: Path
) -> None:
    reading = read(tmp_path, {"app.py": code})
    assert [(e.call, e.is_async, str(e.resolved)) for e in reading.engines] == [(call, is_async, "c.db")]


@pytest.mark.parametrize(
    ("app", "resolved"),
    [
        pytest.param("app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///c.db'", "instance/c.db", id="item"),
        pytest.param(
            "app.config.update(SQLALCHEMY_DATABASE_URI='sqlite:///c.db')", "instance/c.db", id="update"
        ),
        pytest.param(
            "class Config:\n    SQLALCHEMY_DATABASE_URI = 'sqlite:///c.db'\napp.config.from_object(Config)",
            "instance/c.db",
            id="class",
        ),
        pytest.param(
            "import os\nhere = os.path.abspath(os.path.dirname(__file__))\n"
            "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///' + os.path.join(here, 'c.db')",
            "c.db",
            id="absolute",
        ),
    ],
)
def test_flask_sqlalchemy_takes_paths_from_the_instance_folder(
    app: str, resolved: str, tmp_path: Path
) -> None:
    code = f"from flask import Flask\napp = Flask(__name__)\n{app}\n"
    assert opened(read(tmp_path, {"app.py": code})) == [resolved]


def test_flask_sqlalchemys_older_place_counts_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"SQLite format 3\0")
    code = "from flask import Flask\napp = Flask(__name__)\n"
    code += "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///c.db'\n"
    assert opened(read(tmp_path, {"app.py": code})) == ["c.db"]


def test_alembic_takes_its_url_from_the_file_beside_it(tmp_path: Path) -> None:
    ini = "[alembic]\nscript_location = migrations\nsqlalchemy.url = sqlite:///%(here)s/data/a.db\n"
    env = "from sqlalchemy import engine_from_config\n"
    reading = read(tmp_path, {"backend/alembic.ini": ini, "backend/migrations/env.py": env})
    assert opened(reading) == ["backend/data/a.db"]
    assert (winner(reading).kind, winner(reading).key) == ("ini", "alembic.sqlalchemy.url")
    assert str(winner(reading).place) == "backend/alembic.ini:3"


def test_a_url_that_env_py_sets_itself_wins(tmp_path: Path) -> None:
    ini = "[alembic]\nscript_location = migrations\nsqlalchemy.url = sqlite:///./placeholder.db\n"
    env = (
        "from alembic import context\nfrom sqlalchemy import engine_from_config\nfrom db import URL\n"
        "config = context.config\nconfig.set_main_option('sqlalchemy.url', URL)\n"
    )
    reading = read(
        tmp_path, {"alembic.ini": ini, "migrations/env.py": env, "db.py": "URL = 'sqlite:///a.db'\n"}
    )
    assert opened(reading) == ["a.db"]
    assert str(winner(reading).place) == "db.py:1"


@pytest.mark.parametrize(
    ("load", "file", "text", "kind", "key"),
    [
        pytest.param(
            "import yaml\nconf = yaml.safe_load(open('c.yaml'))\npath = conf['storage']['checkpoints']\n",
            "c.yaml",
            "storage:\n  name: x\n  checkpoints: data/c.db\n",
            "yaml",
            "storage.checkpoints",
            id="yaml",
        ),
        pytest.param(
            "import yaml\nfrom pathlib import Path\n"
            "def load():\n    with open(Path(__file__).parent / 'c.yaml') as f:\n"
            "        return yaml.safe_load(f)\n"
            "path = load()['storage']['checkpoints']\n",
            "c.yaml",
            "storage:\n  name: x\n  checkpoints: data/c.db\n",
            "yaml",
            "storage.checkpoints",
            id="yaml-in-a-function",
        ),
        pytest.param(
            "import tomllib\nwith open('c.toml', 'rb') as f:\n"
            "    conf = tomllib.load(f)\npath = conf['a']['b']\n",
            "c.toml",
            '[a]\n# b\nb = "data/c.db"\n',
            "toml",
            "a.b",
            id="toml",
        ),
        pytest.param(
            "import json, pathlib\nconf = json.loads(pathlib.Path('c.json').read_text())\n"
            "path = conf.get('db')\n",
            "c.json",
            '{\n  "x": 1,\n  "db": "data/c.db"\n}\n',
            "json",
            "db",
            id="json",
        ),
        pytest.param(
            "import configparser\nconf = configparser.ConfigParser()\n"
            "conf.read('c.ini')\npath = conf['db']['path']\n",
            "c.ini",
            "[x]\npath = 1\n[db]\n\npath = data/c.db\n",
            "ini",
            "db.path",
            id="ini",
        ),
        pytest.param(
            "import configparser\nconf = configparser.ConfigParser()\n"
            "conf.read('c.ini')\npath = conf.get('db', 'path')\n",
            "c.ini",
            "[x]\npath = 1\n[db]\n\npath = data/c.db\n",
            "ini",
            "db.path",
            id="ini-get",
        ),
    ],
)
def test_a_key_of_a_file_that_the_code_loads_is_followed(
    load: str, file: str, text: str, kind: str, key: str, tmp_path: Path
) -> None:
    reading = read(tmp_path, {"app.py": f"import sqlite3\n{load}sqlite3.connect(path)\n", file: text})
    assert opened(reading) == ["data/c.db"]
    assert (winner(reading).kind, winner(reading).key) == (kind, key)
    line = next(n for n, each in enumerate(text.split("\n"), 1) if "data/c.db" in each)
    assert str(winner(reading).place) == f"{file}:{line}"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "import argparse, sqlite3\np = argparse.ArgumentParser()\n"
            "p.add_argument('--db-path', default='c.db')\n"
            "args = p.parse_args()\nsqlite3.connect(args.db_path)\n",
            id="argparse",
        ),
        pytest.param(
            "import typer, sqlite3\ndef main(db: str = typer.Option('c.db', '--db-path')):\n"
            "    sqlite3.connect(db)\n",
            id="typer",
        ),
        pytest.param(
            "import click, sqlite3\n@click.command()\n@click.option('--db-path', default='c.db')\n"
            "def main(db_path):\n    sqlite3.connect(db_path)\n",
            id="click",
        ),
    ],
)
def test_a_command_line_option_is_followed_and_asked_for(code: str, tmp_path: Path) -> None:
    reading = read(tmp_path, {"app.py": code})
    assert opened(reading) == ["c.db"]
    assert any("--db-path" in ask for ask in reading.asks)
