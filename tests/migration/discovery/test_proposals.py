"""Edits that make an application use the unified file, in the style that each setting has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import engine, grow, opened, saver
from unified_db.migration.config import EditConfig
from unified_db.migration.discovery.finds import EditProposal
from unified_db.migration.discovery.proposals import propose_edits
from unified_db.migration.discovery.reading import read_tree
from unified_db.migration.switch import edit_text

TARGET = "data/unified.db"


def propose(root: Path, files: dict[str, str], *sources: str, cwd: str = ".") -> tuple[EditProposal, ...]:
    grow(root, files)
    reading = read_tree(root, Path(cwd))
    return propose_edits(root, reading, Path(TARGET), [Path(s) for s in sources])


def make(root: Path, edits: Sequence[EditProposal]) -> None:
    """Make the edits that are sure."""
    for edit in edits:
        if edit.sure and edit.kind != "requirement":
            fields = edit.model_dump(exclude={"why", "sure"}, exclude_none=True)
            path = root / edit.file
            path.write_bytes(edit_text(EditConfig.model_validate(fields), path.read_bytes(), file=path))


@pytest.mark.parametrize(
    ("path", "head", "kind", "new"),
    [
        pytest.param(
            '"c.db"', "", "python-literal", 'from_conn_string("data/unified.db")', id="literal-in-the-call"
        ),
        pytest.param("DB", 'DB = "./c.db"\n', "python-constant", 'DB = "./data/unified.db"', id="constant"),
        pytest.param(
            "DB",
            'import os\nDB = os.getenv("CDB", "c.db")\n',
            "python-constant",
            'os.getenv("CDB", "data/unified.db")',
            id="default-of-a-variable",
        ),
        pytest.param(
            "C.db",
            'class C:\n    db = "c.db"\n',
            "python-constant",
            'db = "data/unified.db"',
            id="class-attribute",
        ),
        pytest.param(
            "get()",
            'def get(name="c.db"):\n    return name\n',
            "python-default",
            'name="data/unified.db"',
            id="default-argument",
        ),
        pytest.param(
            "DB",
            'from pathlib import Path\nDB = Path(__file__).parent / "c.db"\n',
            "python-constant",
            'parent / "data/unified.db"',
            id="joined-to-a-folder",
        ),
        pytest.param(
            "DB",
            "import os\nHERE = os.path.dirname(__file__)\nDB = os.path.join(HERE, 'old', 'c.db')\n",
            "python-literal",
            "os.path.join(HERE, 'old', '../data/unified.db')",
            id="joined-in-three-parts",
        ),
        pytest.param(
            "f'{DIR}/c.db'", "DIR = './old'\n", "python-literal", "f'{DIR}/../data/unified.db'", id="f-string"
        ),
        pytest.param("DIR + '/c.db'", "DIR = 'data'\n", "python-literal", "DIR + '/unified.db'", id="plus"),
        pytest.param(
            "'%s/c.db' % DIR", "DIR = 'data'\n", "python-literal", "'%s/unified.db' % DIR", id="percent"
        ),
    ],
)
def test_an_edit_keeps_the_style_of_its_setting(
    path: str, head: str, kind: str, new: str, tmp_path: Path
) -> None:
    grow(tmp_path, {"app.py": saver(path, head)})
    source = opened(read_tree(tmp_path, Path()))[0]
    edits = propose(tmp_path, {}, source)
    assert [e.kind for e in edits] == [kind, "python-import"]
    assert all(e.sure for e in edits)
    make(tmp_path, edits)
    text = (tmp_path / "app.py").read_text(encoding="utf-8")
    assert new in text
    assert "UnifiedAsyncSqliteSaver.from_conn_string" in text
    assert opened(read_tree(tmp_path, Path())) == [TARGET]


@pytest.mark.parametrize(
    ("url", "new"),
    [
        pytest.param("sqlite:///./a.db", "sqlite:///./data/unified.db", id="relative-with-a-dot"),
        pytest.param("sqlite:///a.db", "sqlite:///data/unified.db", id="relative"),
        pytest.param("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite:///data/unified.db", id="driver"),
        pytest.param("sqlite:///a.db?timeout=5", "sqlite:///data/unified.db?timeout=5", id="query"),
        pytest.param("sqlite:///{root}/a.db", "sqlite:///{root}/data/unified.db", id="absolute"),
    ],
)
def test_a_url_keeps_its_driver_its_slashes_and_its_query(url: str, new: str, tmp_path: Path) -> None:
    url, new = (each.replace("{root}", str(tmp_path)) for each in (url, new))
    edits = propose(tmp_path, {"db.py": engine("URL", f"URL = '{url}'")}, "a.db")
    assert [(e.kind, e.name, e.value, e.sure) for e in edits] == [("python-constant", "URL", new, True)]


SETTINGS = (
    "from pydantic_settings import BaseSettings, SettingsConfigDict\n"
    "class Settings(BaseSettings):\n"
    "    model_config = SettingsConfigDict(env_file='.env')\n"
    "    database_url: str = 'sqlite:///./a.db'\n"
    "    checkpoints: str = 'c.db'\n"
    "settings = Settings()\n"
)
APPLICATION = {
    "config.py": SETTINGS,
    "db.py": engine("settings.database_url", "from config import settings"),
    "app.py": saver("settings.checkpoints", "from config import settings\n"),
    ".env": "DATABASE_URL=sqlite:///./a.db\n# DATABASE_URL=sqlite:///./a.db\n"
    "TEST_DATABASE_URL=sqlite:///./t.db\n",
    ".env.example": "DATABASE_URL=sqlite:///./a.db\n",
    "requirements.txt": "langgraph-checkpoint-sqlite>=3\n",
    "requirements-dev.txt": "pytest\n",
}


def test_a_setting_and_its_twins_are_edited_together(tmp_path: Path) -> None:
    edits = propose(tmp_path, APPLICATION, "a.db", "c.db")
    assert {(e.file, e.kind, e.key or e.name or e.old) for e in edits} == {
        (".env", "dotenv", "DATABASE_URL"),
        (".env.example", "dotenv", "DATABASE_URL"),
        ("config.py", "python-constant", "Settings.database_url"),
        ("config.py", "python-constant", "Settings.checkpoints"),
        ("app.py", "python-import", "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver"),
        ("requirements.txt", "requirement", None),
    }
    assert all(e.sure for e in edits)
    make(tmp_path, edits)
    assert opened(read_tree(tmp_path, Path())) == [TARGET, TARGET]
    assert "# DATABASE_URL=sqlite:///./a.db" in (tmp_path / ".env").read_text(encoding="utf-8")


def test_what_names_another_file_is_left_alone(tmp_path: Path) -> None:
    edits = propose(tmp_path, APPLICATION, "c.db")
    assert {e.name for e in edits if e.kind == "python-constant"} == {"Settings.checkpoints"}
    assert not [e for e in edits if e.kind == "dotenv"]


def test_two_names_of_one_constant_are_both_edited(tmp_path: Path) -> None:
    code = "import sqlite3\nALL = ('a.db', 'c.db')\nfor name in ALL:\n    sqlite3.connect(name)\n"
    edits = propose(tmp_path, {"app.py": code}, "a.db", "c.db")
    assert [(e.kind, e.name, e.old) for e in edits] == [
        ("python-literal", "ALL", "a.db"),
        ("python-literal", "ALL", "c.db"),
    ]
    make(tmp_path, edits)
    assert f"ALL = ('{TARGET}', '{TARGET}')" in (tmp_path / "app.py").read_text(encoding="utf-8")


def test_a_scripts_line_is_one_edit_that_a_person_confirms(tmp_path: Path) -> None:
    edits = propose(tmp_path, {"backup.sh": "A_DB=a.db C_DB=c.db\n"}, "a.db", "c.db")
    assert [(e.kind, e.new, e.sure) for e in edits] == [("text", f"A_DB={TARGET} C_DB={TARGET}", False)]


def test_a_key_of_a_yaml_file_is_edited_there(tmp_path: Path) -> None:
    code = "import sqlite3, yaml\nsqlite3.connect(yaml.safe_load(open('c.yaml'))['db']['path'])\n"
    edits = propose(tmp_path, {"app.py": code, "c.yaml": "db:\n  path: c.db  # here\n"}, "c.db")
    assert [(e.file, e.kind, e.key, e.value, e.sure) for e in edits] == [
        ("c.yaml", "yaml", "db.path", TARGET, True)
    ]


def test_a_name_that_is_put_together_is_left_to_a_person(tmp_path: Path) -> None:
    edits = propose(tmp_path, {"app.py": saver("NAME + '.db'", "NAME = 'c'\n")}, "c.db")
    assert [(e.kind, e.sure) for e in edits] == [("text", False), ("python-import", True)]
    assert "app.py" in edits[0].why


ENV = """\
from alembic import context
from sqlalchemy import engine_from_config

def offline():
    context.configure(url="x", target_metadata=None)

def online(connection):
    context.configure(
        connection=connection,
        target_metadata=None,
    )
"""


def test_alembic_is_told_to_leave_langgraphs_tables_alone(tmp_path: Path) -> None:
    edits = propose(tmp_path, {"migrations/env.py": ENV, "app.py": saver("'c.db'")}, "c.db")
    make(tmp_path, edits)
    text = (tmp_path / "migrations/env.py").read_text(encoding="utf-8")
    assert "engine_from_config\nfrom unified_db.runtime.alembic import include_object\n" in text
    assert 'url="x", target_metadata=None, include_object=include_object)' in text
    assert "        target_metadata=None,\n        include_object=include_object,\n    )" in text
    compile(text, "env.py", "exec")


def test_an_include_object_of_its_own_is_left_to_a_person(tmp_path: Path) -> None:
    env = ENV.replace("target_metadata=None)", "target_metadata=None, include_object=mine)")
    edits = [e for e in propose(tmp_path, {"migrations/env.py": env}, "c.db") if e.file.endswith("env.py")]
    assert [e.sure for e in edits] == [False]


def test_proposing_writes_nothing(tmp_path: Path) -> None:
    grow(tmp_path, APPLICATION)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    propose(tmp_path, {}, "a.db", "c.db")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
