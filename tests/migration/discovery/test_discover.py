import pytest

from tests.conftest import look_at
from tests.migration.discovery.trees import CHECKPOINTS, NOTES, STORE, plant, plant_databases
from unified_db.errors import MissingSourceError, UsageError
from unified_db.migration.discover import discover

LITERALS = """
import sqlite3
from langgraph.checkpoint.sqlite import SqliteSaver
from sqlalchemy import create_engine
engine = create_engine("sqlite:///app.db")
saver = SqliteSaver(sqlite3.connect("graph.db", check_same_thread=False))
"""


def sources(found):
    return {str(s.path): s.sure for s in found.sources}


def test_what_a_setting_names_moves_whatever_its_name_looks_like(tmp_path):
    plant(tmp_path, {"main.py": LITERALS.replace("app.db", "test_copy.db")})
    plant_databases(tmp_path, {"test_copy.db": NOTES, "graph.db": CHECKPOINTS, "app.db": NOTES})
    found = discover(tmp_path)
    assert sources(found) == {"test_copy.db": True, "graph.db": True, "app.db": False}
    assert any("looks like something else" in q.sentence for q in found.questions)


def test_what_nothing_names_moves_where_it_is_the_only_one_of_its_kind(tmp_path):
    plant_databases(tmp_path, {"a.db": NOTES, "b.db": CHECKPOINTS, "c.db": STORE})
    found = discover(tmp_path)
    assert sources(found) == {"a.db": True, "b.db": True, "c.db": True}
    assert sum("Does the application use it?" in q.sentence for q in found.questions) == 3


def test_of_two_that_nothing_names_neither_moves_unasked(tmp_path):
    plant_databases(tmp_path, {"a.db": NOTES, "b.db": NOTES.replace("notes", "n"), "c.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert sources(found) == {"a.db": False, "b.db": False, "c.db": True}
    assert {q.about for q in found.questions if q.answer == "confirm"} >= {"source a.db", "source b.db"}


def test_a_checkpoint_file_that_was_never_created_is_told_and_no_other_takes_its_place(tmp_path):
    plant(tmp_path, {"main.py": LITERALS})
    plant_databases(tmp_path, {"app.db": NOTES, "stray/chat.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert sources(found) == {"app.db": True, "stray/chat.db": False}
    (never,) = (d for d in found.databases if str(d.path) == "graph.db")
    assert "never created" in never.decoy


def test_the_unified_file_gets_a_name_that_is_free(tmp_path):
    plant_databases(tmp_path, {"d/a.db": NOTES, "b.db": CHECKPOINTS})
    (tmp_path / "d/unified_app.sqlite").write_text("taken")
    assert str(discover(tmp_path).target) == "d/unified_app_2.sqlite"


def test_a_business_table_called_checkpoints_gets_another_name_as_a_question(tmp_path):
    plant_databases(tmp_path, {"a.db": "CREATE TABLE checkpoints (city TEXT)", "b.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert [(str(r.source), r.name, r.to) for r in found.renames] == [
        ("a.db", "checkpoints", "a_checkpoints")
    ]
    assert any(q.about == "rename checkpoints" for q in found.questions)


def test_one_file_that_holds_both_has_nothing_to_unify(tmp_path):
    plant_databases(tmp_path, {"a.db": NOTES + CHECKPOINTS})
    with pytest.raises(UsageError, match="nothing to unify"):
        discover(tmp_path)


@pytest.mark.parametrize("name", [None, "backups/app.db"])
def test_a_tree_without_a_database_in_use_is_refused_with_a_way_out(tmp_path, name):
    plant_databases(tmp_path, {name: NOTES} if name else {})
    with pytest.raises(UsageError) as refused:
        discover(tmp_path)
    assert "Start the application once" in refused.value.hint


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MissingSourceError):
        discover(tmp_path / "nowhere")


def test_looking_changes_nothing(tmp_path):
    plant(tmp_path, {"main.py": LITERALS})
    plant_databases(tmp_path, {"app.db": NOTES, "graph.db": CHECKPOINTS})
    before = look_at(tmp_path)
    discover(tmp_path)
    assert look_at(tmp_path) == before


def test_the_values_of_settings_are_told_nowhere(tmp_path):
    plant(
        tmp_path,
        {"main.py": LITERALS, ".env": "OPENAI_API_KEY=planted-secret\nDATABASE_URL=sqlite:///app.db\n"},
    )
    plant_databases(tmp_path, {"app.db": NOTES, "graph.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert ".env: OPENAI_API_KEY" in found.reaching
    assert "planted-secret" not in found.model_dump_json()


def test_a_split_brain_is_a_question_and_nothing_is_renamed_because_of_it(tmp_path):
    settings = """
from pydantic_settings import BaseSettings, SettingsConfigDict
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")
    database_url: str = "sqlite:///one.db"
settings = Settings()
"""
    main = """
import os
from sqlalchemy import create_engine
from settings import settings
one = create_engine(settings.database_url)
other = create_engine(os.getenv("DATABASE_URL", "sqlite:///two.db"))
"""
    plant(tmp_path, {"settings.py": settings, "main.py": main, ".env": "DATABASE_URL=sqlite:///one.db\n"})
    plant_databases(tmp_path, {"one.db": NOTES, "two.db": NOTES, "graph.db": CHECKPOINTS})
    found = discover(tmp_path)
    (question,) = (q for q in found.questions if q.about == "split brain")
    assert "one.db" in question.sentence
    assert "two.db" in question.sentence
    assert found.renames == ()
    assert {(e.file, e.key or e.name) for e in found.edits if not e.sure} == {
        (".env", "DATABASE_URL"),
        ("settings.py", "Settings.database_url"),
        ("main.py", "other"),
    }


def test_of_a_split_brain_only_edits_of_its_own_files_are_questions(tmp_path):
    settings = """
from pydantic_settings import BaseSettings, SettingsConfigDict
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")
    database_url: str = "sqlite:///one.db"
    graph: str = "graph.db"
settings = Settings()
"""
    main = """
import os, sqlite3
from langgraph.checkpoint.sqlite import SqliteSaver
from settings import settings
from sqlalchemy import create_engine
one = create_engine(settings.database_url)
other = create_engine(os.getenv("DATABASE_URL", "sqlite:///two.db"))
saver = SqliteSaver(sqlite3.connect(settings.graph))
"""
    plant(tmp_path, {"settings.py": settings, "main.py": main, ".env": "DATABASE_URL=sqlite:///one.db\n"})
    plant_databases(tmp_path, {"one.db": NOTES, "two.db": NOTES, "graph.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert {e.name or e.kind for e in found.edits if e.sure} == {"Settings.graph", "python-import"}
    assert {s.resolved for d in found.reading.disagreements for s in d.settings} == {
        s.path for s in found.sources if s.kind == "application"
    }


def test_installed_packages_are_told_as_left_out(tmp_path):
    plant(tmp_path, {"main.py": LITERALS, "libs/x/a.py": LITERALS, "libs/x.dist-info/RECORD": "x/a.py,,\n"})
    plant_databases(tmp_path, {"app.db": NOTES, "graph.db": CHECKPOINTS})
    found = discover(tmp_path)
    assert found.left_out == ("libs: 1 installed package, which is no code of the application",)
    assert {u.place.file for u in (*found.reading.savers, *found.reading.engines)} == {"main.py"}
