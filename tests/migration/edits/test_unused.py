"""What an edit leaves unused goes with it; what others may want stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from unified_db.errors import EditError
from unified_db.migration.edits.unused import drop_unused, is_used_by

FILE = Path("settings.py")
CASES = {
    "a constant, and the imports that it alone used": """\
import os
from pathlib import Path

BASE = Path(__file__).resolve().parent  # where we are
DATA: Path = BASE / "data"
DB = os.getenv("DB", str(DATA / "a.db"))
--->
DB = "one.db"
===>

DB = "one.db"
""",
    "one of several names": """\
from os.path import (
    dirname,
    join,  # j
)
import a, b
DB = join(dirname(__file__), a.X, b.Y)
--->
from os.path import (
    dirname,
    join,  # j
)
import a, b
DB = dirname(b.Y)
===>
from os.path import (
    dirname,
)
import b
DB = dirname(b.Y)
""",
}


def drop(before: str, after: str, *, elsewhere: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    return drop_unused(before, after, file=FILE, used_elsewhere=lambda name: name in elsewhere)


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("case", CASES.values(), ids=[n.replace(" ", "-") for n in CASES])
def test_what_only_the_old_text_used_goes(case: str, newline: str) -> None:
    before, rest = case.replace("\n", newline).split(f"--->{newline}")
    edited, after = rest.split(f"===>{newline}")
    # The edit replaced the last line; what stands above it is the same in both.
    if not edited.startswith("from"):
        edited = newline.join(before.split(newline)[:-2]) + newline + edited
    assert drop(before, edited)[0] == after
    assert drop(after, after) == (after, ())


def test_what_went_is_named_in_its_order() -> None:
    before = "from pathlib import Path\nBASE = Path('.')\nDB = BASE / 'a.db'\n"
    after = before.replace("BASE / 'a.db'", "'one.db'")
    assert drop(before, after) == ("DB = 'one.db'\n", ("BASE", "Path"))


KEPT = [
    pytest.param("import a  # noqa: F401", "a", id="a-remark-for-a-linter"),
    pytest.param("from a import a as a", "a", id="imported-for-others"),
    pytest.param("from __future__ import a", "a", id="the-future"),
    pytest.param("try:\n    import a\nexcept ImportError:\n    a = None", "a", id="with-a-fallback"),
    pytest.param("import a\na = a.b", "a", id="bound-twice"),
    pytest.param("a = connect()", "a", id="a-value-that-does-something"),
    pytest.param("a = [f() for f in g]", "a", id="a-value-that-loops"),
    pytest.param("import a.b", "a", id="a-package-for-its-modules"),
    pytest.param("import a\n__all__ = ['a']", "a", id="exported"),
    pytest.param("from a import *", "a", id="a-star"),
    pytest.param("a = 1; b = 2", "a", id="two-on-a-line"),
]


@pytest.mark.parametrize(("binding", "name"), KEPT)
def test_what_may_serve_for_more_stays(binding: str, name: str) -> None:
    before, after = f"{binding}\nDB = {name}\n", f"{binding}\nDB = 'one.db'\n"
    assert drop(before, after) == (after, ())


def test_what_was_unused_before_or_is_used_elsewhere_stays() -> None:
    before = "import idle\nfrom pathlib import Path\nBASE = Path('.')\nDB = BASE / 'a'\n"
    after = before.replace("BASE / 'a'", "'one.db'")
    assert drop(before, after, elsewhere=("BASE",)) == (after, ())


def test_no_python_is_refused() -> None:
    with pytest.raises(EditError, match="syntax error"):
        drop("x = (\n", "y = (\n")


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("from settings import BASE", True),
        ("from .settings import OTHER, BASE as B", True),
        ("from app.settings import *\nprint(BASE)", True),
        ("import app.settings\nprint(app.settings.BASE)", True),
        ("from app import settings as s\nprint(s.BASE)", True),
        ("monkeypatch.setattr('app.settings.BASE', 1)", True),
        ("monkeypatch.setattr(settings, 'BASE', 1)", True),
        ("from other import BASE\nprint(BASE, other.BASE)", False),
        ("BASE = 1", False),
        ("no python (: BASE", True),
    ],
)
def test_a_use_by_another_file_is_seen(text: str, used: bool) -> None:
    assert is_used_by(text, "settings", "BASE") is used
