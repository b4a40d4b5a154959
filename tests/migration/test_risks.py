"""What the plan says may go wrong: each risk is found where it is, and silent where it is not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unified_db.errors import ConfigError
from unified_db.migration import risks
from unified_db.migration.config import MigrationConfig, parse_config
from unified_db.migration.discovery.finds import (
    Disagreement,
    EngineUse,
    PathSetting,
    Place,
    SaverUse,
    TreeReading,
)
from unified_db.migration.discovery.reading import read_tree
from unified_db.migration.records import Risk, SourceFacts

STOCK = "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver"
SWAP = {"file": "app.py", "kind": "python-import", "old": STOCK, "new": "unified_db.UnifiedAsyncSqliteSaver"}
SET_PATH = {"file": ".env", "kind": "dotenv", "key": "DATABASE", "value": "data/unified.db"}
NOTHING = TreeReading()


class Application:
    """A tree with `data/app.db` in it, and what is read of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(".env", "DATABASE=data/app.db\nTOKEN=planted\n")
        self.write(
            "app.py", f"from {STOCK.rpartition('.')[0]} import AsyncSqliteSaver\nAsyncSqliteSaver(1)\n"
        )
        (root / "data").mkdir()
        with closing(sqlite3.connect(root / "data/app.db")) as conn:
            conn.execute("CREATE TABLE t (x)")

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def config(self, *edits: dict[str, Any], **sections: Any) -> MigrationConfig:
        values = {
            "app": {},
            "source": [{"path": "data/app.db", "kind": "application"}],
            "target": {"path": "data/unified.db"},
            "edit": list(edits or (SET_PATH,)),
            **sections,
        }
        return parse_config(values, file=self.root / "unify.toml")

    def facts(self, **changes: Any) -> SourceFacts:
        shown = {"label": "data/app.db", "path": self.root / "data/app.db", "kind": "application"}
        sizes = {"size_bytes": 8192, "wal_bytes": 0, "page_size": 4096, "user_version": 0}
        rest = {"encoding": "UTF-8", "journal_mode": "wal", "application_id": 0, "tables": (), "objects": ()}
        return SourceFacts.model_validate({**shown, **sizes, **rest, **changes})

    def risks(
        self, *edits: dict[str, Any], reading: TreeReading = NOTHING, facts: SourceFacts | None = None
    ) -> dict[str, Risk]:
        found = risks.find_risks(self.config(*edits), [facts or self.facts()], reading)
        assert list(found) == sorted(found, key=lambda r: r.handled), "what is open comes first"
        assert "planted" not in str(found)
        return {r.name: r for r in found}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    return Application(tmp_path)


def place(file: str, line: int = 1) -> Place:
    return Place(file=file, line=line)


def saver(name: str = STOCK, file: str = "app.py") -> SaverUse:
    return SaverUse(
        name=name, place=place(file, 2), imported=place(file), is_async="Async" in name, built="connection"
    )


def engine(
    call: str = "sqlalchemy.create_engine", *, file: str = "db.py", is_async: bool = False
) -> EngineUse:
    return EngineUse(place=place(file, 7), call=call, is_async=is_async)


def test_a_plain_application_in_wal_mode_has_no_risk(app: Application) -> None:
    assert app.risks(SET_PATH, SWAP) == {}


# ---- savers and engines --------------------------------------------------------------------------


def test_a_stock_saver_that_no_edit_swaps_is_named_with_the_edit_to_add(app: Application) -> None:
    found = app.risks(reading=TreeReading(savers=(saver(),)))
    assert set(found) == {"stock-saver"}
    assert found["stock-saver"].where == ("app.py:2",)
    assert f"{STOCK} becomes unified_db.UnifiedAsyncSqliteSaver" in found["stock-saver"].remedy
    assert not found["stock-saver"].handled


@pytest.mark.parametrize(
    "swap",
    [
        pytest.param(SWAP, id="by-its-import"),
        pytest.param(
            {
                "file": "app.py",
                "kind": "text",
                "old": "from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver",
                "new": "from unified_db import UnifiedAsyncSqliteSaver as AsyncSqliteSaver",
            },
            id="by-its-text",
        ),
    ],
)
def test_a_saver_that_an_edit_swaps_is_no_risk(app: Application, swap: dict[str, Any]) -> None:
    assert "stock-saver" not in app.risks(SET_PATH, swap, reading=TreeReading(savers=(saver(),)))


def test_an_edit_of_another_file_does_not_swap_the_saver(app: Application) -> None:
    found = app.risks(SET_PATH, SWAP, reading=TreeReading(savers=(saver(), saver(file="jobs.py"))))
    assert found["stock-saver"].where == ("jobs.py:2",)


def test_our_own_saver_is_no_risk(app: Application) -> None:
    ours = saver("unified_db.UnifiedAsyncSqliteSaver")
    assert app.risks(reading=TreeReading(savers=(ours,), engines=(engine(),))) == {}


def test_sync_sqlalchemy_beside_the_async_saver_is_said_to_lock_up_until_the_saver_is_swapped(
    app: Application,
) -> None:
    mix = TreeReading(savers=(saver(),), engines=(engine(),))
    open_, handled = app.risks(reading=mix), app.risks(SET_PATH, SWAP, reading=mix)
    assert "would lock up" in open_["sync-beside-async"].sentence
    assert open_["sync-beside-async"].where == ("app.py:2", "db.py:7")
    assert not open_["sync-beside-async"].handled
    assert handled["sync-beside-async"].handled


@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(
            TreeReading(
                savers=(saver("langgraph.checkpoint.sqlite.SqliteSaver"),),
                engines=(engine(),),
            ),
            id="sync-beside-sync",
        ),
        pytest.param(
            TreeReading(
                savers=(saver(),),
                engines=(engine("sqlalchemy.ext.asyncio.create_async_engine", is_async=True),),
            ),
            id="async-beside-async",
        ),
        pytest.param(TreeReading(engines=(engine(),)), id="no-saver"),
        pytest.param(TreeReading(savers=(saver(),), engines=(engine("sqlite3.connect"),)), id="a-connection"),
        pytest.param(
            TreeReading(savers=(saver(),), engines=(engine(file="migrations/env.py"),)), id="in-a-migration"
        ),
    ],
)
def test_only_sync_beside_async_is_said_to_lock_up(app: Application, mix: TreeReading) -> None:
    assert "sync-beside-async" not in app.risks(reading=mix)


# ---- databases -----------------------------------------------------------------------------------


def test_a_rollback_journal_and_who_has_the_file_open_are_told(app: Application) -> None:
    facts = app.facts(journal_mode="delete", handles=("4711 python server.py",))
    found = app.risks(facts=facts)
    assert "wait about 0.1 s" in found["rollback-journal"].sentence
    assert "4711 python server.py has data/app.db open" in found["open-file"].sentence


def test_a_file_that_nobody_wrote_for_long_is_asked_about(app: Application) -> None:
    os.utime(app.root / "data/app.db", (1_500_000_000, 1_500_000_000))
    assert "Is it still the one in use?" in app.risks()["old-file"].sentence


# ---- where the paths are said --------------------------------------------------------------------


def setting(file: str, key: str, raw: str, names: str, **changes: Any) -> PathSetting:
    values = {
        "kind": "dotenv",
        "place": place(file),
        "key": key,
        "raw": raw,
        "style": "path",
        "relative_to": "cwd",
        "resolved": Path(names),
        "wins": True,
    }
    return PathSetting.model_validate({**values, **changes})


def test_a_relative_path_is_told_with_the_folder_it_is_relative_to(app: Application) -> None:
    used = setting(".env", "DATABASE", "data/app.db", "data/app.db")
    found = app.risks(reading=TreeReading(settings=(used,)))["relative-path"]
    assert found.where == (".env:1",)
    assert "here its root" in found.sentence


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"relative_to": "file"}, id="relative-to-a-file"),
        pytest.param({"wins": False}, id="not-used"),
        pytest.param({"resolved": Path("other.db")}, id="another-file"),
    ],
)
def test_what_is_not_relative_to_the_folder_is_no_risk(app: Application, changes: dict[str, Any]) -> None:
    used = setting(".env", "DATABASE", "data/app.db", "data/app.db", **changes)
    assert app.risks(reading=TreeReading(settings=(used,))) == {}


SPLIT = Disagreement(
    settings=(
        setting(".env", "DATABASE", "data/app.db", "data/app.db"),
        setting("db.py", "", "sqlite:///./app.db", "app.db", kind="python-literal"),
    ),
    sentence="the settings class reads .env, the engine does not.",
)


def test_a_split_brain_that_no_edit_covers_wholly_is_refused_by_name(app: Application) -> None:
    app.write("db.py", 'create_engine(os.getenv("DATABASE", "sqlite:///./app.db"))\n')
    with pytest.raises(ConfigError, match="does not agree with itself") as refused:
        risks.require_one_mind(app.config(SET_PATH), TreeReading(disagreements=(SPLIT,)))
    assert SPLIT.sentence in refused.value.message
    assert "none covers db.py:1" in refused.value.hint


def test_a_split_brain_is_taken_where_the_edits_cover_all_of_its_places(app: Application) -> None:
    app.write("db.py", 'create_engine(os.getenv("DATABASE", "sqlite:///./app.db"))\n')
    other = {"file": "db.py", "kind": "text", "old": "./app.db", "new": "./data/unified.db"}
    risks.require_one_mind(app.config(SET_PATH, other), TreeReading(disagreements=(SPLIT,)))


def test_a_split_brain_over_files_that_do_not_move_is_left_alone(app: Application) -> None:
    elsewhere = Disagreement(
        settings=tuple(s.model_copy(update={"resolved": Path(f"{s.place.file}.x")}) for s in SPLIT.settings),
        sentence="x",
    )
    risks.require_one_mind(app.config(SET_PATH), TreeReading(disagreements=(elsewhere,)))


# ---- the tree around the code --------------------------------------------------------------------

MENTIONS = {
    "docker-compose.yml": "containers",
    "deploy/Dockerfile": "containers",
    "deploy/app.service": "units",
    "bin/start.sh": "scripts",
    "Makefile": "scripts",
    "look.ipynb": "notebooks",
    "notes.md": "documents",
    "jobs.py": "code",
    "settings.yaml": "code",
}


@pytest.mark.parametrize("file", MENTIONS)
def test_a_file_that_names_an_old_path_is_told_by_its_kind_with_the_line(app: Application, file: str) -> None:
    app.write(file, "first\nopen data/app.db here\n")
    found = app.risks()
    assert set(found) == {f"old-path-in-{MENTIONS[file]}"}
    assert found[f"old-path-in-{MENTIONS[file]}"].where == (f"{file}:2",)


def test_what_an_edit_covers_names_no_old_path_any_more(app: Application) -> None:
    app.write("bin/start.sh", "run data/app.db\n")
    edit = {"file": "bin/start.sh", "kind": "text", "old": "data/app.db", "new": "x", "when": "archive"}
    assert app.risks(SET_PATH, edit) == {}


def test_lists_of_what_is_ignored_are_no_risk(app: Application) -> None:
    app.write(".gitignore", "data/app.db\n")
    assert app.risks() == {}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("backup.sh", 'cp "$DB" /backup/'),
        ("Makefile", "\trsync -a $(DB) host:"),
        ("ops/nightly.service", "ExecStart=/bin/sh -c 'tar czf /b.tgz data'; cp x y"),
        ("tools/backup_db.py", "shutil.copy2(DB, folder)"),
    ],
)
def test_a_script_that_copies_a_database_as_a_file_is_told(app: Application, file: str, line: str) -> None:
    app.write(file, f"DB=data/app.db\n# cp is not called here\n{line}\n")
    assert app.risks()["copied-as-a-file"].where == (f"{file}:3",)


def test_a_script_that_copies_other_files_is_not_told(app: Application) -> None:
    app.write("deploy.sh", "cp a b\n")
    app.write("server.py", "OPEN = 'data/app.db'\nshutil.copy2(upload, folder)\n")
    assert "copied-as-a-file" not in app.risks()


ENV_PY = "from alembic import context\ncontext.configure(connection=c)\n"


def test_alembic_would_drop_langgraphs_tables_until_its_env_leaves_them_alone(app: Application) -> None:
    app.write("migrations/env.py", ENV_PY)
    assert "include_object=include_object" in app.risks()["alembic"].remedy
    edits = [
        {
            "file": "migrations/env.py",
            "kind": "text",
            "old": "import context",
            "new": "import context\nfrom unified_db.runtime.alembic import include_object",
        },
        {
            "file": "migrations/env.py",
            "kind": "text",
            "old": "connection=c",
            "new": "connection=c, include_object=include_object",
        },
    ]
    assert app.risks(SET_PATH, *edits)["alembic"].handled


def test_an_include_object_of_the_applications_own_is_to_be_joined(app: Application) -> None:
    app.write("migrations/env.py", ENV_PY.replace("=c", "=c, include_object=mine"))
    risk = app.risks()["alembic"]
    assert "by `and`" in risk.remedy
    assert not risk.handled


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


def test_a_dotenv_file_is_told_whether_git_keeps_it_or_not(app: Application) -> None:
    git(app.root, "init", "-q")
    assert app.risks()["dotenv-not-in-git"].where == (".env",)
    git(app.root, "add", ".env")
    assert app.risks()["dotenv-in-git"].where == (".env",)


def test_a_variable_of_the_environment_that_goes_before_the_edited_file_is_named_without_its_value(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE", "planted")
    assert "sets DATABASE," in app.risks()["environment-wins"].sentence
    monkeypatch.setenv("DATABASE", "data/unified.db")
    assert app.risks() == {}


def test_a_container_that_sets_an_edited_variable_is_told_until_it_is_edited(app: Application) -> None:
    app.write("compose.yaml", "services:\n  app:\n    environment:\n      DATABASE: /elsewhere/x\n")
    assert app.risks()["deployment-sets-the-path"].where == ("compose.yaml:4",)
    edit = {"file": "compose.yaml", "kind": "text", "old": "/elsewhere/x", "new": "/elsewhere/y"}
    assert app.risks(SET_PATH, edit) == {}


def test_files_that_could_not_be_read_are_told(app: Application) -> None:
    assert "1 file" in app.risks(reading=TreeReading(unread=("old.py: not Python 3",)))["not-read"].sentence


# ---- what is missing -----------------------------------------------------------------------------


def test_packages_that_were_installed_into_the_tree_are_told(app: Application) -> None:
    assert "installed-packages" not in app.risks()
    app.write("libs/x/a.py", "DATABASE = 'data/app.db'\n")
    app.write("libs/x-1.0.dist-info/RECORD", "x/a.py,,\nx-1.0.dist-info/RECORD,,\n")
    risk = app.risks()["installed-packages"]
    assert risk.handled
    assert risk.sentence.startswith("1 installed package in")
    assert risk.where == ("libs",)


def test_what_unify_toml_does_not_say_is_told_and_what_it_says_is_not(app: Application) -> None:
    missing = " ".join(risks.find_missing(app.config(SET_PATH, SWAP, app={"start": "x"})))
    for said in ("reviewed", "[[suite]]", "[[benchmark.request]]", "[[continuity]]", "stop", "requirement"):
        assert said in missing
    request = {"name": "a", "path": "/{uuid}", "changes": True}
    whole = app.config(
        SET_PATH,
        SWAP,
        {"file": "requirements.txt", "kind": "requirement"},
        app={"start": "x", "stop": "y"},
        suite=[{"name": "a", "command": "b"}],
        benchmark={"request": [request]},
        continuity=[{"name": "a", "request": [{"path": "/"}]}],
        staging={"reviewed": True},
    )
    assert risks.find_missing(whole) == ()


# ---- a tree that is read in earnest --------------------------------------------------------------

SETTINGS = """
from pydantic_settings import BaseSettings, SettingsConfigDict
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")
    database: str = "data/app.db"
"""
APP = """
import os
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import create_engine
from settings import Settings
ENGINE = create_engine(os.getenv("DATABASE_URL", "sqlite:///./data/app.db"))
async def main():
    async with AsyncSqliteSaver.from_conn_string(Settings().database) as saver:
        return saver
"""


def test_what_is_read_of_real_code_comes_to_the_same_risks(app: Application) -> None:
    app.write("settings.py", SETTINGS)
    app.write("app.py", APP)
    reading = read_tree(app.root, app.root)
    found = app.risks(reading=reading)
    assert found["sync-beside-async"].where == ("app.py:8", "app.py:6")
    assert found["stock-saver"].where == ("app.py:8",)
    assert set(found["relative-path"].where) >= {".env:1"}
    assert app.risks(SET_PATH, SWAP, reading=reading)["sync-beside-async"].handled


def test_a_real_split_brain_is_refused_until_the_edits_bring_both_together(app: Application) -> None:
    app.write(".env", "DATABASE_URL=sqlite:///./data/app.db\n")
    app.write("settings.py", SETTINGS.replace("database: str", "database_url: str"))
    app.write("app.py", APP.replace("./data/app.db", "./old.db").replace(".database)", ".database_url)"))
    reading = read_tree(app.root, app.root)
    assert reading.disagreements
    url = "sqlite:///./data/unified.db"
    dotenv = {"file": ".env", "kind": "dotenv", "key": "DATABASE_URL", "value": url}
    with pytest.raises(ConfigError, match="does not agree with itself"):
        risks.require_one_mind(app.config(dotenv), reading)
    apart = {"file": "app.py", "kind": "text", "old": "sqlite:///./old.db", "new": "sqlite:///./other.db"}
    with pytest.raises(ConfigError, match="does not agree with itself"):
        risks.require_one_mind(app.config(dotenv, apart), reading)
    code = {**apart, "new": url}
    risks.require_one_mind(app.config(dotenv, code), reading)
