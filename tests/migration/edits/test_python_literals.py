"""Text literals in the places where no constant and no parameter holds a path alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_db.errors import EditError
from unified_db.migration.edits.python_literals import exchange_literal

FILE = Path("app.py")


def _exchange(text: str, old: str = "x.db", new: str = "new.db", within: str = "") -> str:
    return exchange_literal(text, old, new, file=FILE, within=within)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('open("x.db")  # x.db\n', 'open("new.db")  # x.db\n', id="in-a-call"),
        pytest.param("f(\n    'x.db',  # c\n)\n", "f(\n    'new.db',  # c\n)\n", id="on-a-line-of-its-own"),
        pytest.param(
            'A = "sqlite:///" + join(HERE, "d", "x.db")\n',
            'A = "sqlite:///" + join(HERE, "d", "new.db")\n',
            id="in-a-sum",
        ),
        pytest.param(
            'def f():\n    """x.db"""\n    return P.parent / "x.db"\n',
            'def f():\n    """x.db"""\n    return P.parent / "new.db"\n',
            id="returned-below-a-docstring",
        ),
        pytest.param('D = {"x.db": r"x.db"}\n', 'D = {"new.db": r"new.db"}\n', id="each-in-its-own-quotes"),
        pytest.param('A = ("x."\n     "db")\n', 'A = ("new.db")\n', id="two-literals-side-by-side"),
        pytest.param(
            'A = "the x.db"\nB = "x.db"\n', 'A = "the x.db"\nB = "new.db"\n', id="not-in-a-longer-one"
        ),
        pytest.param('é = f("ü", "x.db")\r\n', 'é = f("ü", "new.db")\r\n', id="after-other-letters"),
    ],
)
def test_a_literal_is_exchanged_where_it_stands(before: str, after: str) -> None:
    assert _exchange(before) == after
    assert _exchange(after) == after


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [
        pytest.param('A = f"{HERE}/x.db"\n', "/new.db", 'A = f"{HERE}/new.db"\n', id="last"),
        pytest.param('A = f"{HERE}/x.db"\n', '/{a}"b', 'A = f"{HERE}/{{a}}\\"b"\n', id="braces-and-quotes"),
        pytest.param('A = rf"{HERE}/x.db"\n', "/new.db", 'A = rf"{HERE}/new.db"\n', id="raw"),
    ],
)
def test_a_piece_of_an_f_string_is_a_literal_too(before: str, new: str, after: str) -> None:
    assert _exchange(before, old="/x.db", new=new) == after


PLACES = """T = "x.db"
A = P("x.db")
def f(): return "x.db"
class C:
    B = "x.db"
    def g(self): return Q("x.db")
"""


@pytest.mark.parametrize(
    ("within", "lines"),
    [
        pytest.param("A", [2], id="a-constant"),
        pytest.param("f", [3], id="a-function"),
        pytest.param("C", [5, 6], id="a-class"),
        pytest.param("C.B", [5], id="an-attribute-of-a-class"),
        pytest.param("C.g", [6], id="a-method"),
        pytest.param("", [1, 2, 3, 5, 6], id="the-whole-module"),
    ],
)
def test_the_edit_stays_within_the_place_that_it_names(within: str, lines: list[int]) -> None:
    pairs = zip(PLACES.splitlines(), _exchange(PLACES, within=within).splitlines(), strict=True)
    assert [number for number, (old, new) in enumerate(pairs, 1) if old != new] == lines


@pytest.mark.parametrize(
    ("text", "within", "found"),
    [
        pytest.param('A = "y.db"\n', "", "only similar ones: y.db", id="no-such-literal"),
        pytest.param("A = 1\n", "", "none at all", id="no-literal-at-all"),
        pytest.param('"""x.db"""\n', "", "none at all", id="documentation-alone"),
        pytest.param('A = b"x.db"\n', "", "none at all", id="bytes"),
        pytest.param("A = f'{B}x.db?{C}'\n", "", "x.db?", id="a-part-of-a-piece"),
        pytest.param('A = "x.db"\n', "f", "one class or function f", id="no-such-place"),
        pytest.param("A = (\n", "", "syntax error", id="not-python"),
    ],
)
def test_a_literal_that_is_not_there_is_refused(text: str, within: str, found: str) -> None:
    with pytest.raises(EditError) as caught:
        _exchange(text, within=within)
    assert found in caught.value.message
    assert "app.py" in caught.value.message
    assert caught.value.hint


def test_a_raw_f_string_that_cannot_hold_the_value_is_refused() -> None:
    with pytest.raises(EditError, match="raw f-string"):
        _exchange('A = rf"{H}/x.db"\n', old="/x.db", new='/"')


@settings(max_examples=100, deadline=None)
@given(
    old=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    new=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    quote=st.sampled_from(['"', "'", '"""']),
)
def test_any_value_is_exchanged_for_any_other(old: str, new: str, quote: str) -> None:
    literal = (
        repr(old) if quote in repr(old)[1:-1] or quote != repr(old)[0] else quote + repr(old)[1:-1] + quote
    )
    after = _exchange(f"A = f({literal}, 1)\n", old=old, new=new)
    call = ast.parse(after).body[0].value  # type: ignore[attr-defined]
    assert [argument.value for argument in call.args] == [new, 1]
    before = f'A = f"{{B}}{_piece(old)}{{C}}"\n'
    joined = ast.parse(_exchange(before, old=old, new=new)).body[0].value  # type: ignore[attr-defined]
    assert joined.values[1].value == new


def _piece(value: str) -> str:
    plain = value.replace("{", "{{").replace("}", "}}").replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in plain)
