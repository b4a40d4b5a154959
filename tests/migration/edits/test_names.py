"""Where an application names a table: in strings that are its name or SQL, in SQL and settings files."""

from __future__ import annotations

from pathlib import Path

import pytest

from unified_db.migration.config import MigrationConfig, parse_config
from unified_db.migration.edits.names import find_names

FILES = {
    "models.py": '''"""About users: a docstring is no mention."""

class User(Base):
    __tablename__ = "users"
    boss = ForeignKey("users.id")
    other = ForeignKey("main.Users.id")

users = Table('users', metadata)
greeting = "hello users"  # prose, and a name in code is none either
QUERY = """
SELECT *
  FROM users u
"""
count = f"select count(*) from {x} join users"
near = ("users_old", "select * from superusers")
''',
    "migrations/1.py": "op.create_table('users')\nop.create_index('ix', 'users', ['x'])\n",
    "schema.sql": "CREATE TABLE\nusers (id);\n",
    "backup.sh": "sqlite3 app.db 'select * from users'\n",
    "README.md": "the table users\n",
    "broken.py": "def (users\n",
}


@pytest.fixture
def config(tmp_path: Path) -> MigrationConfig:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    values = {"app": {}, "source": [{"path": "app.db"}], "target": {"path": "unified.db"}}
    return parse_config(values, file=tmp_path / "unify.toml")


def test_every_place_that_names_the_table_is_found(config: MigrationConfig) -> None:
    assert find_names(config, "Users") == (
        "backup.sh:1",
        "broken.py:1",
        "migrations/1.py:1",
        "migrations/1.py:2",
        "models.py:4",
        "models.py:5",
        "models.py:6",
        "models.py:8",
        "models.py:12",
        "models.py:14",
        "schema.sql:2",
    )


def test_a_file_may_mean_something_else_by_the_name(config: MigrationConfig) -> None:
    found = find_names(config, "users", ignore=("migrations/*", "*.sh", "broken.py", "models.py"))
    assert found == ("schema.sql:2",)


def test_what_an_edit_covers_is_no_mention_any_more(config: MigrationConfig) -> None:
    edited = {config.root / "schema.sql": b"CREATE TABLE people (id);"}
    assert "schema.sql:2" not in find_names(config, "users", edited=edited)
