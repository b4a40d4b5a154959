import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import look_at
from tests.migration.discovery.trees import ALEMBIC, CHECKPOINTS, NOTES, plant, plant_databases
from unified_db.errors import ConfigError
from unified_db.migration.config import load_config
from unified_db.migration.discover import discover
from unified_db.migration.discovery.blocks import write_value
from unified_db.migration.discovery.toml_writer import write_config

MAIN = """
import os
from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import create_engine

engine = create_engine(os.getenv("DATABASE_URL", "sqlite:///data/app.db"))
CHECKPOINTS = "data/graph.db"
app = FastAPI()

async def lifespan():
    async with AsyncSqliteSaver.from_conn_string(CHECKPOINTS) as saver:
        yield saver

@app.get("/health")
def health(): ...

@app.get("/me")
def me(user=Depends(get_current_user)): ...
"""


@pytest.fixture
def root(tmp_path):
    tree = tmp_path / "tree"
    plant(tree, {"main.py": MAIN, "requirements.txt": "fastapi\n", "tests/test_a.py": "def test_a(): ...\n"})
    plant_databases(tree, {"data/app.db": ALEMBIC, "data/graph.db": CHECKPOINTS, "data/old/app.db": NOTES})
    return tree


def write(root, **answers):
    found = discover(root)
    return write_config(found, root / "unify.toml", {k.replace("__", "."): v for k, v in answers.items()})


def test_what_is_sure_is_a_configuration_that_can_be_loaded(root):
    assert write(root)
    config = load_config(root)
    assert [(str(s.path), s.kind, s.threads) for s in config.source] == [
        ("data/app.db", "application", ("notes.thread_id",)),
        ("data/graph.db", "checkpoints", ()),
    ]
    assert str(config.target.path) == "data/unified_app.sqlite"
    assert [s.name for s in config.suite] == ["tests"]
    assert [r.path for r in config.benchmark.request] == ["/health"]
    assert {(str(e.file), e.kind) for e in config.edit} >= {
        ("main.py", "python-constant"),
        ("main.py", "python-import"),
        ("requirements.txt", "requirement"),
    }
    assert not config.staging.reviewed


def test_what_is_not_sure_stands_there_as_a_question(root):
    write(root)
    text = (root / "unify.toml").read_text()
    assert "# ? Which command stops the server?" in text
    assert '# path = "/me"' in text
    assert "# ? Have you looked at it?" in text
    assert "data/old/app.db: an old copy or backup" in text


def test_an_answer_takes_the_questions_place(root):
    write(root, app__stop="sh stop.sh", staging__reviewed=True)
    config = load_config(root)
    assert config.app.stop == "sh stop.sh"
    assert config.staging.reviewed
    assert "Which command stops" not in (root / "unify.toml").read_text()


def test_nothing_but_the_file_itself_is_written(root):
    before = look_at(root)
    write(root)
    after = look_at(root)
    assert after.pop("unify.toml")
    assert after == before


def test_a_second_time_changes_nothing(root):
    write(root)
    before = look_at(root)
    assert not write(root)
    assert look_at(root) == before


def test_what_a_person_wrote_stays_and_what_is_new_is_added_as_a_question(root):
    write(root)
    file = root / "unify.toml"
    text = file.read_text().replace('kind = "application"', 'kind = "other"  # mine')
    text = text.replace("[staging]\nreviewed = false", "[staging]\nreviewed = true")
    file.write_text(text)
    plant_databases(root, {"data/second.db": NOTES})
    assert write(root)
    changed = file.read_text()
    assert changed.startswith(text)
    assert '# path = "data/second.db"' in changed.removeprefix(text)
    assert tomllib.loads(changed) == tomllib.loads(text)
    assert not write(root)


def test_a_file_that_a_person_wrote_alone_is_kept(root):
    own = (
        '[app]\nroot = "."\n[[source]]\npath = "data/app.db"\n[[source]]\npath = "./data/graph.db"\n'
        '[target]\npath = "one.db"'
    )
    (root / "unify.toml").write_text(own)
    assert write(root)
    text = (root / "unify.toml").read_text()
    assert text.startswith(own)
    assert tomllib.loads(text) == tomllib.loads(own)
    assert "# start = " in text
    assert "# [[source]]" not in text


def test_line_endings_of_windows_are_kept(root):
    write(root)
    file = root / "unify.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    plant_databases(root, {"data/second.db": NOTES})
    assert write(root)
    content = file.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n")


@pytest.mark.parametrize("text", ["[app\n", '[app]\nrot = "."\n', "\x00"])
def test_a_file_that_is_no_configuration_is_left_as_it_is(root, text):
    file = root / "unify.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        write(root)
    assert file.read_text() == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_is_written_so_that_it_is_read_again(value):
    assert tomllib.loads(f"x = {write_value(value)}\n") == {"x": value}
