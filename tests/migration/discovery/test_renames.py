"""A table that two sources have: the edits that give one of them another name, and when a yes is enough."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.migration.discovery.trees import CHECKPOINTS, plant, plant_databases
from unified_db.migration import switch
from unified_db.migration.config import load_config
from unified_db.migration.discover import discover
from unified_db.migration.discovery.outcome import Discovery
from unified_db.migration.discovery.toml_writer import write_config
from unified_db.migration.edits.names import find_names

TRAIL = """
CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, place TEXT);
CREATE TABLE passages (id INTEGER PRIMARY KEY, checkpoint_id INTEGER REFERENCES checkpoints (id));
"""
HEAD = """
import sqlite3
from langgraph.checkpoint.sqlite import SqliteSaver
from sqlalchemy import Column, ForeignKey, Table, create_engine, text

engine = create_engine("sqlite:///trail.db")
saver = SqliteSaver(sqlite3.connect("graph.db"))
"""
MODELS = """
class Checkpoint(Base):
    '''One of the checkpoints.'''

    __tablename__ = "checkpoints"

class Passage(Base):
    __tablename__ = "passages"
    checkpoint_id = Column(ForeignKey("checkpoints.id"))
"""
JOINED = 'def count():\n    return text("SELECT count(*) FROM passages JOIN checkpoints USING (id)")\n'


def look(root: Path, code: str, **databases: str) -> Discovery:
    plant(root, {"app.py": HEAD + code})
    plant_databases(root, {"trail.db": TRAIL, "graph.db": CHECKPOINTS, **databases})
    return discover(root)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(MODELS + JOINED, id="classes-and-sql-that-joins"),
        pytest.param('places = Table("checkpoints", metadata)\n', id="table"),
        pytest.param(MODELS + 'walks = relationship(secondary="checkpoints")\n', id="secondary"),
    ],
)
def test_a_yes_renames_the_table_in_the_code_too_and_nothing_is_left(tmp_path: Path, code: str) -> None:
    found = look(tmp_path, code)
    (question,) = (q for q in found.questions if q.about == "rename checkpoints")
    assert question.answer == "confirm"
    write_config(found, tmp_path / "unify.toml", {question.about: True})
    config = load_config(tmp_path)
    edited = {e.file: e.after for e in switch.plan_edits(config)}
    assert [(str(r.source), r.to) for r in config.rename] == [("trail.db", "trail_checkpoints")]
    assert find_names(config, "checkpoints", edited=edited) == ()
    assert edited[tmp_path / "app.py"].decode().count("of the checkpoints.") == code.count(
        "of the checkpoints."
    )


def test_without_a_yes_rename_and_edits_stand_there_as_one_question(tmp_path: Path) -> None:
    found = look(tmp_path, MODELS)
    write_config(found, tmp_path / "unify.toml", {})
    text = (tmp_path / "unify.toml").read_text()
    values = tomllib.loads(text)
    assert "rename" not in values
    assert not any("trail_checkpoints" in str(edit) for edit in values["edit"])
    assert '# name = "Checkpoint.__tablename__"' in text
    assert text.count("# ? trail.db and graph.db both have a table checkpoints.") == 1


@pytest.mark.parametrize(
    ("code", "line"),
    [
        pytest.param('def count():\n    return text("SELECT * FROM checkpoints")\n', 18, id="sql-alone"),
        pytest.param('KEYS = {"checkpoints": 1}\n', 17, id="a-text-of-any-meaning"),
    ],
)
def test_what_may_mean_the_other_table_is_told_with_its_place_and_not_edited(
    tmp_path: Path, code: str, line: int
) -> None:
    found = look(tmp_path, MODELS + code)
    (rename,) = found.renames
    assert (rename.left, rename.sure) == ((f"app.py:{line}",), False)
    (question,) = (q for q in found.questions if q.about == "rename checkpoints")
    assert question.answer == "none"
    assert f"app.py:{line}" in question.sentence


def test_of_a_text_that_stands_for_two_things_in_one_place_neither_is_edited(tmp_path: Path) -> None:
    (rename,) = look(tmp_path, 'def f():\n    return Table("checkpoints", m), {"checkpoints": 1}\n').renames
    assert (rename.edits, rename.left) == ((), ("app.py:9",))


def test_a_table_that_two_applications_have_is_never_sure(tmp_path: Path) -> None:
    more = 'other = create_engine("sqlite:///other.db")\n'
    other = "CREATE TABLE passages (id INTEGER PRIMARY KEY)"
    renames = {r.name: r for r in look(tmp_path, MODELS + more, **{"other.db": other}).renames}
    assert renames["passages"].edits
    assert not renames["passages"].sure


def test_a_class_whose_table_has_no_name_in_the_code_is_asked_about(tmp_path: Path) -> None:
    (rename,) = look(tmp_path, "class Passage(Base):\n    c = Field(foreign_key='checkpoints.id')\n").renames
    assert rename.edits
    assert not rename.sure
