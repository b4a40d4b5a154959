"""Dotenv files: one key changes, every other character stays."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from unified_db.errors import EditError
from unified_db.migration.edits.dotenv import set_key

FILE = Path(".env")
NEW = "sqlite:///./data/one.db"


def _set(text: str, value: str = NEW, key: str = "DB") -> str:
    return set_key(text, key, value, file=FILE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("A=1\nDB=old\nB=2\n", f"A=1\nDB={NEW}\nB=2\n", id="order-stays"),
        pytest.param("DB=old", f"DB={NEW}", id="missing-final-newline-stays-missing"),
        pytest.param("DB=old\r\nA=1\r\n", f"DB={NEW}\r\nA=1\r\n", id="windows-line-ends-stay"),
        pytest.param("export DB = old\n", f"export DB = {NEW}\n", id="export-and-spaces-stay"),
        pytest.param('DB="old"  # why\n', f'DB="{NEW}"  # why\n', id="double-quotes-and-comment-stay"),
        pytest.param("DB='old'\n", f"DB='{NEW}'\n", id="single-quotes-stay"),
        pytest.param("DB=old # why\n", f"DB={NEW} # why\n", id="inline-comment-stays"),
        pytest.param("DB= # why\n", f"DB= {NEW} # why\n", id="empty-value-before-a-comment"),
        pytest.param("DB=\nA=1\n", f"DB={NEW}\nA=1\n", id="empty-value"),
        pytest.param("DB\nA=1\n", f"DB={NEW}\nA=1\n", id="key-without-equals-sign"),
        pytest.param(
            "# DB=old\n#DB=older\nDB=old\n", f"# DB=old\n#DB=older\nDB={NEW}\n", id="commented-twins-stay"
        ),
        pytest.param(
            "DB=a\nTEST_DB=t\nDB=b\n", f"DB={NEW}\nTEST_DB=t\nDB={NEW}\n", id="all-duplicates-change"
        ),
        pytest.param('DB="a\nb"\nC=1\n', f'DB="{NEW}"\nC=1\n', id="value-of-two-lines"),
        pytest.param("no sense here\nDB=old\n", f"no sense here\nDB={NEW}\n", id="broken-lines-stay"),
        pytest.param("URL=${DB}/x\nDB=old\n", f"URL=${{DB}}/x\nDB={NEW}\n", id="references-stay"),
    ],
)
def test_sets_one_key_and_keeps_the_rest(before: str, after: str) -> None:
    assert _set(before) == after
    assert _set(after) == after


def test_a_value_that_needs_quotes_gets_them() -> None:
    assert _set("DB=old\n", "a # b") == 'DB="a # b"\n'
    assert _set("DB=old # c\n", " a ") == 'DB=" a " # c\n'


def test_a_missing_key_names_similar_ones_and_its_commented_twin() -> None:
    with pytest.raises(EditError, match="DATABASE_URL") as caught:
        _set("A=1\n# DB_URL=x\nDATABASE_URL=x\n", key="DB_URL")
    assert "DB_URL in a comment on line 2" in caught.value.message
    assert caught.value.hint


def test_an_error_shows_no_value() -> None:
    with pytest.raises(EditError) as caught:
        _set("TOKEN=s3cr3t-value\n")
    assert "s3cr3t" not in caught.value.message + caught.value.hint


_KEYS = st.sampled_from(["DB", "DB_URL", "A", "TOKEN"])
_PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="#'\"\\$="))
_VALUES = st.one_of(
    _PLAIN,
    _PLAIN.map(lambda v: f'"{v}"'),
    _PLAIN.map(lambda v: f"'{v}'"),
    st.tuples(_PLAIN.filter(bool), _PLAIN).map(lambda v: f"{v[0]} # {v[1]}"),
)
_LINES = st.one_of(
    st.tuples(st.sampled_from(["", "export ", "  "]), _KEYS, st.sampled_from(["=", " = "]), _VALUES).map(
        "".join
    ),
    _PLAIN.map(lambda v: f"# DB={v}"),
    st.just(""),
)


@given(
    lines=st.lists(_LINES, max_size=6),
    newline=st.sampled_from(["\n", "\r\n"]),
    value=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"))),
)
def test_only_the_key_changes_whatever_the_file_holds(lines: list[str], newline: str, value: str) -> None:
    before = newline.join([*lines, "DB=old"])
    after = _set(before, value)
    assert _read(after) == {**_read(before), "DB": value}
    assert _comments(after) == _comments(before)
    assert _set(after, value) == after


def _read(text: str) -> dict[str, str | None]:
    return dict(dotenv_values(stream=io.StringIO(text), interpolate=False))


def _comments(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("#")]
