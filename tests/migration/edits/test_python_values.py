"""Constants and default arguments in the styles that applications set their paths in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_db.errors import EditError
from unified_db.migration.edits.python_values import set_constant, set_default

FILE = Path("settings.py")


def _set(text: str, value: str = "new.db", name: str = "DB") -> str:
    return set_constant(text, name, value, file=FILE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('DB = "x.db"  # c\n', 'DB = "new.db"  # c\n', id="literal"),
        pytest.param("DB: str = 'x.db'\n", "DB: str = 'new.db'\n", id="annotated"),
        pytest.param('DB = Path("x.db")\n', 'DB = Path("new.db")\n', id="path"),
        pytest.param(
            'DB = Path("x.db").resolve()\n', 'DB = Path("new.db").resolve()\n', id="path-and-method"
        ),
        pytest.param('DB = HERE / "x.db"\n', 'DB = HERE / "new.db"\n', id="joined-to-a-folder"),
        pytest.param('DB = os.path.join(HERE, "x.db")\n', 'DB = os.path.join(HERE, "new.db")\n', id="join"),
        pytest.param('DB = os.getenv("DB", "x.db")\n', 'DB = os.getenv("DB", "new.db")\n', id="getenv"),
        pytest.param(
            'DB = os.environ.get("DB", default="x.db")\n',
            'DB = os.environ.get("DB", default="new.db")\n',
            id="environ-get",
        ),
        pytest.param(
            'DB = os.getenv("DB") or "x.db"\n', 'DB = os.getenv("DB") or "new.db"\n', id="getenv-or"
        ),
        pytest.param(
            'DB = Path(os.environ.get("DB", "x.db"))\n',
            'DB = Path(os.environ.get("DB", "new.db"))\n',
            id="nested",
        ),
        pytest.param(
            'DB = config("DB", default="x.db")\n', 'DB = config("DB", default="new.db")\n', id="decouple"
        ),
        pytest.param(
            'DB = create_engine("sqlite:///x.db", connect_args={"a": False}, echo=True)\n',
            'DB = create_engine("new.db", connect_args={"a": False}, echo=True)\n',
            id="engine",
        ),
        pytest.param('DB = ("x."\n      "db")\n', 'DB = ("new.db")\n', id="two-literals-side-by-side"),
        pytest.param("DB = r'x.db'\n", "DB = r'new.db'\n", id="raw"),
        pytest.param('DB = """x.db"""\r\nA = 1\r\n', 'DB = """new.db"""\r\nA = 1\r\n', id="triple-quotes"),
        pytest.param(
            'if X:\n    DB = "x.db"\ndef f():\n    DB = "y"\n',
            'if X:\n    DB = "new.db"\ndef f():\n    DB = "y"\n',
            id="inside-an-if",
        ),
        pytest.param('é = "ü"; DB = "x.db"', 'é = "ü"; DB = "new.db"', id="after-other-letters"),
    ],
)
def test_a_constant_changes_in_place(before: str, after: str) -> None:
    assert _set(before) == after
    assert _set(after) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('    db: str = "x.db"', '    db: str = "new.db"', id="plain"),
        pytest.param(
            '    db: str = Field("x.db", alias="DB")', '    db: str = Field("new.db", alias="DB")', id="field"
        ),
        pytest.param(
            '    db: str = Field(alias="DB", default="x.db")',
            '    db: str = Field(alias="DB", default="new.db")',
            id="default",
        ),
        pytest.param(
            '    db: Path = field(default_factory=lambda: Path("x.db"))',
            '    db: Path = field(default_factory=lambda: Path("new.db"))',
            id="factory",
        ),
    ],
)
def test_a_field_of_a_settings_class_changes_in_place(before: str, after: str) -> None:
    head, tail = 'db = "other"\nclass Settings(BaseSettings):\n', '\n    token: str = "t"\n'
    assert _set(head + before + tail, name="Settings.db") == head + after + tail


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param('DB_PATH = "x"\n', "DB_PATH", id="missing-names-similar-ones"),
        pytest.param('if X:\n    DB = "a"\nelse:\n    DB = "b"\n', "lines 2, 4", id="assigned-twice"),
        pytest.param('DB = "a"\nDB += "b"\n', "several", id="added-to"),
        pytest.param('DB = OTHER = "a"\n', "none", id="shared-with-another-name"),
        pytest.param('DB = f"{HERE}/x.db"\n', 'f"', id="f-string"),
        pytest.param('DB = "sqlite:///" + PATH\n', "none", id="concatenated"),
        pytest.param('DB = "{}/x.db".format(HERE)\n', "several", id="formatted"),
        pytest.param('DB = HERE / "data" / "x.db"\n', "several", id="two-parts"),
        pytest.param('DB = os.environ["DB"]\n', "none", id="no-default"),
        pytest.param("DB = 3\n", "none", id="a-number"),
        pytest.param('DB = b"x"\n', 'b"x"', id="bytes"),
        pytest.param("DB = (\n", "syntax error", id="not-python"),
    ],
)
def test_what_is_not_one_plain_literal_is_refused(text: str, found: str) -> None:
    with pytest.raises(EditError) as caught:
        _set(text)
    assert found in caught.value.message
    assert "settings.py" in caught.value.message
    assert caught.value.hint


def test_an_error_masks_the_password_of_a_url() -> None:
    with pytest.raises(EditError) as caught:
        _set('DB = "postgresql://u:s3cr3t@h/" + NAME\n')
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("f.db", 'def f(a, db="x.db"): ...\n', 'def f(a, db="new.db"): ...\n'),
        ("f.db", 'async def f(*, db: str = "x.db"): ...\n', 'async def f(*, db: str = "new.db"): ...\n'),
        (
            "Store.__init__.path",
            'class Store:\n    def __init__(self, path=Path("x.db")): ...\n',
            'class Store:\n    def __init__(self, path=Path("new.db")): ...\n',
        ),
        (
            "f.db",
            '@overload\ndef f(db: str = "a"): ...\ndef f(db="x.db"): ...\n',
            '@overload\ndef f(db: str = "a"): ...\ndef f(db="new.db"): ...\n',
        ),
    ],
)
def test_a_default_argument_changes_in_place(name: str, before: str, after: str) -> None:
    assert set_default(before, name, "new.db", file=FILE) == after
    assert set_default(after, name, "new.db", file=FILE) == after


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("f.b", "without one"),
        ("f.c", "db"),
        ("g.db", "only f"),
        ("db", "no function"),
        ("f.db.x", "none at all"),
    ],
)
def test_a_default_that_is_not_there_is_refused(name: str, found: str) -> None:
    with pytest.raises(EditError, match=found):
        set_default('def f(b, db="x.db"): ...\n', name, "new.db", file=FILE)


@settings(max_examples=60, deadline=None)
@given(
    value=st.text(st.characters(codec="utf-8")),
    opening=st.sampled_from(['"', "'", '"""', "'''", 'r"', "u'", "R'''"]),
)
def test_any_text_becomes_a_literal_that_means_it(value: str, opening: str) -> None:
    closing = opening.lstrip("ruR")
    after = _set(f"# é\nDB = {opening}x.db{closing}  # c\n", value)
    assert after.startswith("# é\nDB = ")
    assert after.endswith("  # c\n")
    tree = ast.parse(after).body[0]
    assert isinstance(tree, ast.Assign)
    assert ast.literal_eval(tree.value) == value
    assert _set(after, value) == after
