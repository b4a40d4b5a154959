import os

import pytest

from tests.migration.discovery.trees import plant
from tests.migration.notes_application import NotesApplication
from unified_db.migration.edits.reach import credential_keys

PLANTED = "planted-secret-value"


@pytest.fixture
def notes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "PWD": "/srv", "HOSTNAME": "box"})
    notes = NotesApplication.create(tmp_path)
    for name in (".env", ".env.example"):
        (notes.root / name).write_text("DATABASE=data/notes.db\n")
    return notes


FILES = {
    ".env.production": ("STRIPE_KEY=x\nDEBUG=true\nPORT=80\n", ["STRIPE_KEY"]),
    "settings.toml": ('[post]\nsmtp_host = "x"\nretries = 3\ntitle = "y"\n', ["post.smtp_host"]),
    "config.yaml": ("a:\n  - hook: https://example.org/x\n  - name: z\n", ["a.0.hook"]),
    "config.json": ('{"db": {"dsn": "postgres://u:p@h/d", "size": "5"}}', ["db.dsn"]),
    "app.ini": ("[remote]\nproxy = 10.0.0.1\n[x]\ny = z\n", ["remote.proxy"]),
    "settings.py": (
        """
SLACK_WEBHOOK = "x"
class S:
    api_token: str = "y"
    DATABASE_URL = "sqlite:///a.db"
PAGE = "z"
API_KEY = ""
OWNER_NAME = "me@example.org"
""",
        ["OWNER_NAME", "SLACK_WEBHOOK", "api_token"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_reaches_out_is_listed_by_name_in_every_kind_of_settings(notes, name):
    content, keys = FILES[name]
    (notes.root / name).write_text(content)
    assert credential_keys(notes.config()) == tuple(f"{name}: {key}" for key in keys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", '{"url": "https://example.org"}'),
        ("pyproject.toml", '[project.urls]\nhome = "https://example.org"\n'),
        (".env.example", "API_KEY=fill in\n"),
        ("broken.toml", "[mail\nsmtp_host = 1"),
        ("broken.json", "{"),
        ("broken.yaml", "a: [\nkey: x"),
        ("broken.py", "API_KEY = "),
        ("broken.ini", "API_KEY"),
        ("binary.yaml", "a: \x00\x01"),
        ("unify.toml", '[app.env]\nAPI_KEY = "x"\n'),
    ],
)
def test_what_is_no_setting_of_the_application_is_not_listed(notes, name, content):
    (notes.root / name).write_text(content)
    assert credential_keys(notes.config()) == ()


def test_constants_of_tests_are_not_listed_and_what_their_dotenv_file_sets_is(notes):
    plant(notes.root, {"tests/test_a.py": 'EMAIL = "a@example.org"\n', "tests/.env": "API_KEY=x\n"})
    assert credential_keys(notes.config()) == ("tests/.env: API_KEY",)


@pytest.mark.parametrize(
    "code",
    [
        'API_KEY = (  # noqa\n    "x"\n)\n',
        'a = 1; API_KEY = "x"\n',
        'class S: API_KEY = "x"\n',
        'API_KEY: Annotated[str, Field(alias="key")] = "x"\n',
        'def f():\n    try:\n        pass\n    except E:\n        API_KEY = A_B = "x"\n',
    ],
)
def test_a_constant_is_found_however_it_is_laid_out(notes, code):
    (notes.root / "settings.py").write_text(code)
    assert credential_keys(notes.config()) == ("settings.py: API_KEY",)


def test_a_text_that_goes_on_below_is_read_whole(notes):
    (notes.root / "settings.py").write_text('OWN_NAME = """\nme@example.org"""\n')
    assert credential_keys(notes.config()) == ("settings.py: OWN_NAME",)


def test_the_environment_is_listed_and_what_is_overlaid_is_marked(notes, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", PLANTED)
    monkeypatch.setenv("REDIS_URL", f"redis://u:{PLANTED}@h")
    notes.settings["app"] = {"env": {"SENTRY_DSN": PLANTED}}
    notes.settings["staging"] = {"env": {"REDIS_URL": "redis://localhost"}}
    keys = credential_keys(notes.config())
    assert keys == (
        "environment: OPENAI_API_KEY",
        "environment: REDIS_URL (overlaid)",
        "environment: SENTRY_DSN",
    )
    assert PLANTED not in str(keys)
