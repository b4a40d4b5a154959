"""How applications that are in use put their paths together, each read and moved by its edits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import engine, opened, read, saver
from unified_db.migration.config import EditConfig
from unified_db.migration.discovery.proposals import propose_edits
from unified_db.migration.discovery.reading import read_tree
from unified_db.migration.switch import edit_text


@pytest.mark.parametrize(
    ("code", "resolved"),
    [
        pytest.param(
            saver(
                "str(DB)",
                "import os\n"
                "from pathlib import Path\n"
                "BASE = Path(__file__).resolve().parent\n"
                "DB = Path(os.getenv('DB_PATH', BASE / 'data' / 'x.db'))\n",
            ),
            "data/x.db",
            id="path-in-the-default-of-a-variable",
        ),
        pytest.param(
            engine(
                "URL",
                "from pathlib import Path\n"
                "BASE = Path(__file__).parent\n"
                "URL = f\"sqlite:///{BASE / 'x.db'}\"\n",
            ),
            "x.db",
            id="expression-in-an-f-string",
        ),
        pytest.param(
            engine(
                "f\"sqlite:///{os.path.abspath('x.db')}\"",
                "import os\n",
            ),
            "x.db",
            id="absolute-path-in-an-f-string",
        ),
        pytest.param(
            engine(
                "cfg.URL",
                "import os\n"
                "class Dev:\n"
                "    HERE = os.path.dirname(__file__)\n"
                "    URL = os.environ.get('U') or 'sqlite:///' + os.path.join(HERE, 'x.db')\n"
                "class Prod(Dev):\n"
                "    URL='sqlite:////srv/x.db'\n"
                "configs={'dev': Dev, 'prod': Prod}\n"
                "cfg = configs[os.getenv('ENV', 'dev')]\n",
            ),
            "x.db",
            id="class-chosen-by-a-variable",
        ),
        pytest.param(
            engine(
                "get_url()",
                "import os\n"
                "def get_url():\n"
                "    url = os.getenv('U')\n"
                "    if url is None:\n"
                "        url = 'sqlite:///x.db'\n"
                "    if url.startswith('postgres://'):\n"
                "        url = url.replace('postgres://', 'postgresql://')\n"
                "    return url\n",
            ),
            "x.db",
            id="function-with-branches",
        ),
        pytest.param(
            engine(
                "Database().url",
                "from dataclasses import dataclass, field\n"
                "from pathlib import Path\n"
                "@dataclass\n"
                "class Database:\n"
                "    folder: Path = field(default_factory=lambda: Path('data'))\n"
                "    name: str = 'x.db'\n"
                "    @property\n"
                "    def path(self): return self.folder / self.name\n"
                "    @property\n"
                "    def url(self): return f'sqlite:///{self.path}'\n",
            ),
            "data/x.db",
            id="properties-of-a-dataclass",
        ),
        pytest.param(
            "import aiosqlite\n"
            "from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver\n"
            "from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer\n"
            "DB='x.db'\n"
            "class M:\n"
            "    _conn = None\n"
            "    @classmethod\n"
            "    async def get(cls):\n"
            "        if cls._conn is None:\n"
            "            cls._conn = await aiosqlite.connect(DB)\n"
            "        return AsyncSqliteSaver(cls._conn, serde=JsonPlusSerializer())\n",
            "x.db",
            id="connection-kept-on-the-class",
        ),
        pytest.param(
            "import sqlite3\n"
            "from langgraph.checkpoint.sqlite import SqliteSaver\n"
            "def build(memory=None):\n"
            "    memory = memory or SqliteSaver(sqlite3.connect('x.db', check_same_thread=False))\n"
            "    return memory\n",
            "x.db",
            id="saver-built-where-none-is-given",
        ),
        pytest.param(
            engine(
                "URL",
                "import os\n"
                "DB_NAME = os.getenv('DB_NAME', 'x.db')\n"
                "DATA_DIR = os.getenv('DATA_DIR', './data')\n"
                "URL = 'sqlite:///{}/{}'.format(DATA_DIR, DB_NAME)\n",
            ),
            "data/x.db",
            id="two-variables-in-a-format",
        ),
        pytest.param(
            "import streamlit as st\n"
            "import sqlite3\n"
            "from langgraph.checkpoint.sqlite import SqliteSaver\n"
            "@st.cache_resource\n"
            "def get_saver():\n"
            "    conn = sqlite3.connect('x.db', check_same_thread=False)\n"
            "    return SqliteSaver(conn)\n"
            "saver = get_saver()\n",
            "x.db",
            id="cached-resource-of-streamlit",
        ),
    ],
)
def test_a_path_is_followed_and_moved_whatever_it_is_put_together_from(
    code: str, resolved: str, tmp_path: Path
) -> None:
    assert opened(read(tmp_path, {"app.py": code}, cwd=".")) == [resolved]
    target = Path("data/unified.db")
    for edit in propose_edits(tmp_path, read_tree(tmp_path, Path()), target, [Path(resolved)]):
        assert edit.sure
        fields = EditConfig.model_validate(edit.model_dump(exclude={"why", "sure"}, exclude_none=True))
        path = tmp_path / edit.file
        path.write_bytes(edit_text(fields, path.read_bytes(), file=path))
    reading = read_tree(tmp_path, Path())
    assert opened(reading) == [str(target)]
    assert all(s.name.startswith("unified_db.") for s in reading.savers)


def test_a_file_outside_the_tree_is_told_with_its_whole_path(tmp_path: Path) -> None:
    head = "import os\nfolder = os.path.expanduser('~/.notes')\npath = os.path.join(folder, 'x.db')\n"
    reading = read(tmp_path, {"app.py": saver("path", head)}, cwd=".")
    home = Path("~/.notes/x.db").expanduser()
    assert opened(reading) == [str(home)]
    edits = propose_edits(tmp_path, reading, Path("unified.db"), [home])
    assert (edits[0].name, edits[0].value, edits[0].sure) == ("path", str(tmp_path / "unified.db"), True)
