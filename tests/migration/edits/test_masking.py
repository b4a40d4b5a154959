"""What people are shown holds no secret, whatever the file's format."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_db.migration.edits.diffs import render_masked
from unified_db.migration.edits.masking import is_dotenv, mask_line, mask_lines

SECRET = "s3cr3t-Vu7"

LINES = {
    "url": ("a.py", [f'DB = "postgresql+asyncpg://user:{SECRET}@host/db"']),
    "url-without-user": ("a.py", [f"redis://:{SECRET}@host"]),
    "token-in-url": ("requirements.txt", [f"x @ git+https://{SECRET}@github.com/o/r"]),
    "query": ("a.txt", [f"https://host/?user=a&api_key={SECRET}&b=1"]),
    "python-literal": ("a.py", [f"API_KEY = '{SECRET}'"]),
    "python-annotated": ("a.py", [f'    openai_api_key: str | None = "{SECRET}"']),
    "python-argument": ("a.py", [f'client = Client(token="{SECRET}", n=1)']),
    "python-dictionary": ("a.py", [f'headers = {{"x-api-key": "{SECRET}"}}']),
    "python-in-parentheses": ("a.py", ["API_KEY = (", f'    "{SECRET}"', ")"]),
    "python-on-the-next-line": ("a.py", ["API_KEY = \\", f'    "{SECRET}"']),
    "python-dictionary-over-lines": ("a.py", ['"token": (', f'    "{SECRET}"', ")"]),
    "python-long-text": ("a.py", [f'TOKEN = """{SECRET}', SECRET, '"""']),
    "toml": ("a.toml", [f'api_key = "{SECRET}"  # c']),
    "toml-section": ("a.toml", ["[secrets]", f'openai = "{SECRET}"']),
    "toml-long": ("a.toml", ['token = """', SECRET, '"""']),
    "yaml": ("a.yaml", [f"  password: {SECRET}"]),
    "yaml-list": ("a.yaml", [f"  - API_TOKEN={SECRET}"]),
    "yaml-block": ("a.yaml", ["private_key: |", f"  {SECRET}", f"  {SECRET}"]),
    "yaml-nested": ("a.yml", ["secrets:", f"  openai: {SECRET}"]),
    "json": ("a.json", [f'  "client_secret": "{SECRET}",']),
    "json-in-one-line": ("a.json", [f'{{"a": 1, "token": "{SECRET}"}}']),
    "json-nested": ("a.json", ['  "credentials": {', f'    "id": "{SECRET}"', "  }"]),
    "ini": ("a.ini", [f"smtp_password: {SECRET}"]),
    "dotenv": (".env", [f"export OPENAI_API_KEY={SECRET}"]),
    "pem": ("a.py", ['KEY = """-----BEGIN RSA PRIVATE KEY-----', SECRET, '-----END RSA PRIVATE KEY-----"""']),
    "very-long-line": ("a.js", [f"{'x' * 5000}{SECRET}"]),
}


@pytest.mark.parametrize(("name", "lines"), LINES.values(), ids=LINES)
def test_a_secret_is_masked(name: str, lines: list[str]) -> None:
    masked = mask_lines(name, [*lines, "[other]", "after = 1"])
    assert len(masked) == len(lines) + 2
    assert SECRET not in "".join(masked)
    assert masked[-1] == "after = 1"


@pytest.mark.parametrize(
    "line",
    [
        'DB = "sqlite:///./data/app.db"',
        "def get_token(user: str) -> str:",
        "secret = os.environ['SECRET']",
        "tokens = count_tokens(text)",
        "https://host:8000/path",
    ],
)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert mask_line(line) == line


@given(
    password=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\"'<>"))
)
def test_no_password_of_a_url_is_ever_shown(password: str) -> None:
    line = f"URL=postgresql://user:{password}@host:5432/db?x=1"
    if password:
        assert mask_line(line) == "URL=postgresql://user:***@host:5432/db?x=1"


def test_a_dotenv_diff_shows_the_changed_line_alone() -> None:
    diff = render_masked(
        ".env", f"K={SECRET}\nDB=a\nL={SECRET}\n".encode(), f"K={SECRET}\nDB=b\nL={SECRET}\n".encode()
    )
    assert diff == "--- a/.env\n+++ b/.env\n@@ -2 +2 @@\n-DB=a\n+DB=b\n"


def test_a_secret_beside_a_change_is_masked_in_the_diff() -> None:
    before = f"path: a\ntoken: {SECRET}\n".encode()
    diff = render_masked("conf.yaml", before, before.replace(b"path: a", b"path: b"))
    assert diff.endswith("-path: a\n+path: b\n token: ***\n")


def test_a_missing_final_newline_shows() -> None:
    assert render_masked("a.txt", b"a", b"b").count("\\ No newline at end of file") == 2


def test_equal_contents_have_no_diff() -> None:
    assert render_masked("a.txt", b"a\n", b"a\n") == ""


@pytest.mark.parametrize("name", [".env", ".env.local", "deploy/prod.env", ".envrc"])
def test_dotenv_files_are_known_by_name(name: str) -> None:
    assert is_dotenv(name)
    assert not is_dotenv(re.sub("env", "cfg", name))
