"""Settings classes, dataclasses, constructors and functions that a path comes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import engine, losers, opened, read, saver, winner

BASE = (
    "from pydantic_settings import BaseSettings, SettingsConfigDict\n"
    "from pydantic import Field, AliasChoices, BaseModel\n"
)


def settings(body: str, made: str = "settings = Settings()\n") -> str:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"{BASE}class Settings(BaseSettings):\n{lines}{made}"


@pytest.mark.parametrize(
    ("body", "dotenv", "resolved"),
    [
        pytest.param('db: str = "c.db"', "", "c.db", id="default"),
        pytest.param('db: str = Field("c.db", description="x")', "", "c.db", id="field"),
        pytest.param('db: str = Field(default="c.db")', "", "c.db", id="field-default"),
        pytest.param("db: Path = Field(default_factory=lambda: Path('c.db'))", "", "c.db", id="factory"),
        pytest.param('db: str = "c.db"', "DB=e.db\n", "c.db", id="file-not-read"),
        pytest.param(
            'model_config = SettingsConfigDict(env_file=".env")\ndb: str = "c.db"',
            "DB=e.db\n",
            "e.db",
            id="file",
        ),
        pytest.param(
            'model_config = {"env_file": ".env"}\ndb: str', "DB=e.db\n", "e.db", id="dict-and-no-default"
        ),
        pytest.param(
            'class Config:\n    env_file = ".env"\ndb: str = "c.db"',
            "db=e.db\n",
            "e.db",
            id="inner-class",
        ),
        pytest.param(
            'model_config = SettingsConfigDict(env_file=".env", env_prefix="APP_")\ndb: str = "c.db"',
            "DB=no.db\nAPP_DB=e.db\n",
            "e.db",
            id="prefix",
        ),
        pytest.param(
            'model_config = SettingsConfigDict(env_file=".env", env_prefix="APP_")\n'
            'db: str = Field("c.db", alias="CHECKPOINTS")',
            "APP_DB=no.db\nCHECKPOINTS=e.db\n",
            "e.db",
            id="alias-takes-no-prefix",
        ),
        pytest.param(
            'model_config = SettingsConfigDict(env_file=".env")\n'
            'db: str = Field("c.db", validation_alias=AliasChoices("A", "B"))',
            "B=e.db\n",
            "e.db",
            id="alias-choices",
        ),
        pytest.param(
            'model_config = SettingsConfigDict(env_file=(".env", ".env.local"))\ndb: str = "c.db"',
            "DB=e.db\n",
            "e.db",
            id="two-files-one-missing",
        ),
    ],
)
def test_a_settings_field_is_followed(body: str, dotenv: str, resolved: str, tmp_path: Path) -> None:
    tree = {"config.py": "from pathlib import Path\n" + settings(body)}
    tree["app.py"] = saver("str(settings.db)", "from config import settings\n")
    reading = read(tmp_path, tree | ({".env": dotenv} if dotenv else {}))
    assert opened(reading) == [resolved]
    expected = ".env" if resolved == "e.db" else "config.py"
    assert winner(reading).place.file == expected
    if expected == "config.py":
        assert (winner(reading).kind, winner(reading).key) == ("settings-field", "Settings.db")


def test_the_default_that_a_dotenv_file_overrules_is_told(tmp_path: Path) -> None:
    config = settings('model_config = SettingsConfigDict(env_file=".env")\ndb: str = "c.db"')
    tree = {
        "config.py": config,
        "app.py": saver("settings.db", "from config import settings\n"),
        ".env": "DB=e.db\n",
    }
    assert ("config.py:5", "c.db") in losers(read(tmp_path, tree))


def test_nested_settings_have_their_own_variables(tmp_path: Path) -> None:
    config = (
        f"{BASE}class Db(BaseModel):\n    path: str = 'c.db'\n"
        "class Settings(BaseSettings):\n"
        "    model_config = SettingsConfigDict(env_file='.env', env_nested_delimiter='__')\n"
        "    db: Db = Db()\n"
        "settings = Settings()\n"
    )
    tree = {"config.py": config, "app.py": saver("settings.db.path", "from config import settings\n")}
    assert opened(read(tmp_path, tree)) == ["c.db"]
    assert opened(read(tmp_path, tree | {".env": "DB__PATH=e.db\n"})) == ["e.db"]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        pytest.param(
            "from functools import lru_cache\n"
            + settings(
                'db: str = "data/c.db"',
                "@lru_cache\ndef get_settings() -> Settings:\n    return Settings()\n",
            ),
            "get_settings().db",
            id="cached-function",
        ),
        pytest.param(
            settings(
                'folder: str = "data"\n@property\ndef db(self) -> str:\n    return f"{self.folder}/c.db"'
            ),
            "settings.db",
            id="property",
        ),
        pytest.param(
            settings(
                'url: str = "sqlite:///./data/a.db"\n@property\ndef db(self) -> Path:\n'
                '    return Path(self.url.removeprefix("sqlite:///")).parent / "c.db"'
            ),
            "str(settings.db)",
            id="property-from-another-field",
        ),
        pytest.param(
            "from dataclasses import dataclass\n@dataclass\n"
            "class S:\n    db: str = 'data/c.db'\nsettings = S()\n",
            "settings.db",
            id="dataclass",
        ),
        pytest.param(
            "from dataclasses import dataclass, field\n@dataclass\n"
            "class S:\n    db: str = 'x'\nsettings = S(db='data/c.db')\n",
            "settings.db",
            id="dataclass-argument",
        ),
        pytest.param(
            "class S:\n    def __init__(self, folder='data'):\n"
            "        self.db = folder + '/c.db'\nsettings = S()\n",
            "settings.db",
            id="attribute-of-the-initialiser",
        ),
        pytest.param(
            "from types import SimpleNamespace\nsettings = SimpleNamespace(db='data/c.db')\n",
            "settings.db",
            id="namespace",
        ),
        pytest.param("settings = {'db': {'path': 'data/c.db'}}\n", "settings['db']['path']", id="dict"),
        pytest.param("settings = {'db': 'data/c.db'}\n", "settings.get('db', 'x')", id="dict-get"),
    ],
)
def test_an_object_of_the_application_is_looked_into(config: str, path: str, tmp_path: Path) -> None:
    head = "from config import *\n"
    reading = read(
        tmp_path, {"config.py": "from pathlib import Path\n" + config, "app.py": saver(path, head)}
    )
    assert opened(reading) == ["data/c.db"]
    assert winner(reading).place.file == "config.py"


CLASS = """
import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver

class Checkpoints:
    def __init__(self, path: str = "c.db") -> None:
        self._path = path

    async def open(self):
        self._conn = await aiosqlite.connect(self._path)
        self.saver = Saver(self._conn)
        return self.saver
"""


def test_the_default_of_a_constructor_is_followed(tmp_path: Path) -> None:
    reading = read(
        tmp_path, {"store.py": CLASS, "app.py": "from store import Checkpoints\nc = Checkpoints()\n"}
    )
    assert opened(reading) == ["c.db"]
    assert (winner(reading).kind, winner(reading).key) == ("python-default", "Checkpoints.__init__.path")
    assert reading.savers[0].built == "connection"
    assert str(reading.savers[0].imported) == "store.py:3"


def test_what_a_constructor_is_called_with_wins_over_its_default(tmp_path: Path) -> None:
    app = "from store import Checkpoints\nPATH = 'data/d.db'\nc = Checkpoints(PATH)\n"
    reading = read(tmp_path, {"store.py": CLASS, "app.py": app})
    assert opened(reading) == ["data/d.db"]
    assert winner(reading).key == "PATH"


def test_what_tests_call_a_constructor_with_does_not_count(tmp_path: Path) -> None:
    test = "from store import Checkpoints\ndef test_x():\n    Checkpoints('test.db')\n"
    assert opened(read(tmp_path, {"store.py": CLASS, "tests/test_store.py": test})) == ["c.db"]


def test_the_parameter_of_a_factory_is_what_its_callers_pass(tmp_path: Path) -> None:
    factory = (
        "from sqlalchemy import create_engine\ndef make(url):\n    return create_engine(url, echo=False)\n"
    )
    main = "import db\nURL = 'sqlite:///data/a.db'\nengine = db.make(url=URL)\n"
    reading = read(tmp_path, {"db.py": factory, "main.py": main})
    assert opened(reading) == ["data/a.db"]
    assert str(winner(reading).place) == "main.py:2"


def test_a_dependency_of_fastapi_is_called(tmp_path: Path) -> None:
    app = (
        "import sqlite3\nfrom fastapi import Depends\nclass S:\n    db = 'c.db'\ndef get():\n    return S()\n"
        "def route(s: S = Depends(get)):\n    sqlite3.connect(s.db)\n"
    )
    assert opened(read(tmp_path, {"app.py": app})) == ["c.db"]


def test_engines_of_one_url_in_two_drivers_are_both_told(tmp_path: Path) -> None:
    head = (
        "from sqlalchemy.ext.asyncio import create_async_engine\nURL = 'sqlite:///./a.db'\n"
        "other = create_async_engine(URL.replace('sqlite://', 'sqlite+aiosqlite://'))\n"
    )
    reading = read(tmp_path, {"db.py": engine("URL", head)})
    assert opened(reading) == ["a.db", "a.db"]
    assert [e.is_async for e in reading.engines] == [True, False]
    assert winner(reading).key == "URL"
