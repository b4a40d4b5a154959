"""Which value counts: the real environment, a dotenv file that somebody reads, a default."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import engine, grow, losers, opened, read, saver, winner
from unified_db.migration.discovery.reading import read_tree

GETENV = 'import os\nURL = os.getenv("DATABASE_URL", "sqlite:///./default.db")\n'
LOADED = "from dotenv import load_dotenv\nload_dotenv()\n" + GETENV
DOTENV = "DATABASE_URL=sqlite:///./env.db\n"


def test_a_dotenv_file_that_nobody_reads_does_not_count(tmp_path: Path) -> None:
    reading = read(tmp_path, {"db.py": engine("URL", GETENV), ".env": DOTENV})
    assert opened(reading) == ["default.db"]
    assert (winner(reading).kind, winner(reading).key) == ("python-constant", "URL")
    assert losers(reading) == [(".env:1", "env.db")]


def test_a_dotenv_file_that_is_loaded_overrules_the_default(tmp_path: Path) -> None:
    reading = read(tmp_path, {"db.py": engine("URL", LOADED), ".env": DOTENV})
    assert opened(reading) == ["env.db"]
    assert (winner(reading).kind, winner(reading).key) == ("dotenv", "DATABASE_URL")
    assert losers(reading) == [("db.py:5", "default.db")]


def test_a_file_loaded_by_a_module_that_imports_the_reader_counts(tmp_path: Path) -> None:
    main = "from dotenv import load_dotenv\nload_dotenv()\nimport db\n"
    assert opened(read(tmp_path, {"main.py": main, "db.py": engine("URL", GETENV), ".env": DOTENV})) == [
        "env.db"
    ]


def test_a_file_loaded_by_an_unrelated_script_does_not_count(tmp_path: Path) -> None:
    script = "from dotenv import load_dotenv\nload_dotenv()\n"
    tree = {"scripts/report.py": script, "db.py": engine("URL", GETENV), ".env": DOTENV}
    assert opened(read(tmp_path, tree)) == ["default.db"]


def test_the_file_that_load_dotenv_is_given_is_the_one_that_counts(tmp_path: Path) -> None:
    head = (
        "import os\nfrom pathlib import Path\nfrom dotenv import load_dotenv\n"
        "load_dotenv(Path(__file__).parent / 'conf' / 'app.env')\n"
        'URL = os.environ["DATABASE_URL"]\n'
    )
    tree = {"db.py": engine("URL", head), "conf/app.env": DOTENV, ".env": "DATABASE_URL=sqlite:///no.db\n"}
    assert opened(read(tmp_path, tree)) == ["env.db"]


def test_the_real_environment_wins_over_a_loaded_file(tmp_path: Path) -> None:
    grow(tmp_path, {"db.py": engine("URL", LOADED), ".env": DOTENV})
    reading = read_tree(tmp_path, environment={"DATABASE_URL": "sqlite:///real.db"})
    assert opened(reading) == ["real.db"]
    assert winner(reading).kind == "environment"


def test_a_file_that_is_loaded_to_override_wins_over_the_real_environment(tmp_path: Path) -> None:
    head = LOADED.replace("load_dotenv()", "load_dotenv(override=True)")
    grow(tmp_path, {"db.py": engine("URL", head), ".env": DOTENV})
    assert opened(read_tree(tmp_path, environment={"DATABASE_URL": "sqlite:///real.db"})) == ["env.db"]


def test_of_a_key_that_is_set_twice_the_last_counts(tmp_path: Path) -> None:
    text = "DATABASE_URL=sqlite:///one.db\nOTHER=1\nDATABASE_URL=sqlite:///two.db\n"
    reading = read(tmp_path, {"db.py": engine("URL", LOADED), ".env": text})
    assert opened(reading) == ["two.db"]
    assert (".env:1", "one.db") in losers(reading)


def test_twins_are_told_as_what_they_are(tmp_path: Path) -> None:
    example = "\ufeff# DATABASE_URL=sqlite:///old.db\nDATABASE_URL=sqlite:///./env.db\n"
    example += "TEST_DATABASE_URL=sqlite:///t.db\n"
    tree = {"db.py": engine("URL", LOADED), ".env": DOTENV, ".env.example": example}
    reading = read(tmp_path, tree)
    told = {str(s.place): s for s in reading.settings}
    assert told[".env.example:1"].commented
    assert "template" in told[".env.example:2"].why
    assert told[".env.example:2"].role == "engine"
    assert told[".env.example:3"].role == "unknown"
    assert [str(s.place) for s in reading.settings if s.wins] == [".env:1"]


def test_a_variable_that_nothing_sets_is_asked_for(tmp_path: Path) -> None:
    reading = read(tmp_path, {"db.py": engine("os.environ['CHAT_DB']", "import os")})
    assert opened(reading) == ["None"]
    assert "CHAT_DB" in reading.asks[0]


def test_a_reference_in_a_dotenv_file_is_filled_in(tmp_path: Path) -> None:
    text = "DATA=./data\nDATABASE_URL=sqlite:///${DATA}/app.db\n"
    assert opened(read(tmp_path, {"db.py": engine("URL", LOADED), ".env": text})) == ["data/app.db"]


def test_dotenv_values_are_read_without_the_environment(tmp_path: Path) -> None:
    head = 'from dotenv import dotenv_values\nconfig = dotenv_values(".env")\n'
    tree = {"db.py": engine('config["DATABASE_URL"]', head), ".env": DOTENV}
    grow(tmp_path, tree)
    assert opened(read_tree(tmp_path, environment={"DATABASE_URL": "sqlite:///real.db"})) == ["env.db"]


def test_a_service_that_sets_the_variable_is_mentioned(tmp_path: Path) -> None:
    compose = "services:\n  app:\n    environment:\n      DATABASE_URL: sqlite:////data/app.db\n"
    reading = read(tmp_path, {"db.py": engine("URL", GETENV), "docker-compose.yml": compose})
    assert ("docker-compose.yml:4", "/data/app.db") in losers(reading)
    assert any("docker-compose.yml:4" in ask for ask in reading.asks)


SPLIT = {
    "settings.py": (
        "from pydantic_settings import BaseSettings, SettingsConfigDict\n"
        "class Settings(BaseSettings):\n"
        "    model_config = SettingsConfigDict(env_file='.env')\n"
        "    database_url: str = 'sqlite:///./default.db'\n"
        "settings = Settings()\n"
    ),
    "db.py": engine("URL", GETENV),
    ".env": DOTENV,
}


def test_a_split_brain_is_told_with_both_files(tmp_path: Path) -> None:
    reading = read(tmp_path, SPLIT)
    assert len(reading.disagreements) == 1
    sentence = reading.disagreements[0].sentence
    assert "default.db" in sentence
    assert "env.db" in sentence
    assert "db.py:3" in sentence
    assert "settings.py:4" in sentence


def test_there_is_no_split_brain_once_both_read_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, SPLIT | {"db.py": engine("URL", LOADED)}).disagreements == ()


def test_alembic_that_migrates_another_file_is_told(tmp_path: Path) -> None:
    ini = "[alembic]\nscript_location = migrations\nsqlalchemy.url = sqlite:///./old.db\n"
    env = "from sqlalchemy import engine_from_config\n"
    tree = {"db.py": engine("'sqlite:///./app.db'"), "alembic.ini": ini, "migrations/env.py": env}
    assert "old.db" in read(tmp_path, tree).disagreements[0].sentence


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            "from decouple import config\nURL = config('DATABASE_URL', default='x.db')\n", id="decouple"
        ),
        pytest.param(
            "from starlette.config import Config\nconfig = Config('.env')\nURL = config('DATABASE_URL')\n",
            id="starlette",
        ),
        pytest.param(
            "from environs import Env\nenv = Env()\nenv.read_env()\nURL = env.str('DATABASE_URL')\n",
            id="environs",
        ),
    ],
)
def test_libraries_that_read_dotenv_files_themselves_are_known(head: str, tmp_path: Path) -> None:
    assert opened(read(tmp_path, {"db.py": engine("URL", head), ".env": DOTENV})) == ["env.db"]


def test_a_path_derived_from_the_databases_folder_is_followed(tmp_path: Path) -> None:
    head = LOADED + "import os\nPATH = os.path.join(os.path.dirname(URL.replace('sqlite:///', '')), 'c.db')\n"
    tree = {
        "db.py": engine("URL", LOADED),
        "app.py": saver("PATH", head),
        ".env": "DATABASE_URL=sqlite:///./data/a.db\n",
    }
    reading = read(tmp_path, tree)
    assert opened(reading) == ["data/c.db", "data/a.db"]
    assert {s.role: s.raw for s in reading.settings if s.wins} == {
        "checkpoints": "c.db",
        "engine": "sqlite:///./data/a.db",
    }
