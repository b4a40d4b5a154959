"""Exact text, and the line that requires unify-db."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unified_db.errors import EditError
from unified_db.migration.edits import plain
from unified_db.migration.edits.plain import add_requirement, replace_text

FILE = Path("backup.sh")
LIST = Path("requirements.txt")
OURS = "unify-db @ https://example.org/unify_db-1-py3-none-any.whl"


def test_every_occurrence_is_replaced() -> None:
    assert replace_text("cp a.db b; cp a.db c", "a.db", "one.db", file=FILE) == "cp one.db b; cp one.db c"


def test_a_new_text_that_holds_the_old_one_is_not_replaced_again() -> None:
    once = replace_text("cp app.db x", "app.db", "data/app.db", file=FILE)
    assert once == "cp data/app.db x"
    assert replace_text(once, "app.db", "data/app.db", file=FILE) == once


def test_text_of_several_lines_takes_the_file_s_line_ends() -> None:
    assert replace_text("a\r\nb\r\nc\r\n", "a\nb", "x\ny", file=FILE) == "x\r\ny\r\nc\r\n"


def test_neither_old_nor_new_is_an_error() -> None:
    with pytest.raises(EditError, match=r"looked for the text 'a\.db'"):
        replace_text("nothing", "a.db", "b.db", file=FILE)


def test_a_replacement_that_would_apply_again_is_refused() -> None:
    with pytest.raises(EditError, match="appear again"):
        replace_text("aab", "ab", "b", file=FILE)


@given(text=st.text("ab/\n", max_size=30), old=st.text("ab/", max_size=4), new=st.text("ab/", max_size=6))
def test_a_second_run_changes_nothing(text: str, old: str, new: str) -> None:
    try:
        after = replace_text(text, old, new, file=FILE)
    except EditError:
        assume(False)
    assert replace_text(after, old, new, file=FILE) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("a==1\n", f"a==1\n{OURS}\n", id="added-at-the-end"),
        pytest.param("a==1", f"a==1\n{OURS}\n", id="after-a-line-without-an-end"),
        pytest.param("a==1\r\n", f"a==1\r\n{OURS}\r\n", id="windows-line-ends"),
        pytest.param("", f"{OURS}\n", id="empty-list"),
        pytest.param("Unify_DB>=0.1  # ours\nb\n", f"{OURS}  # ours\nb\n", id="another-version-is-replaced"),
        pytest.param("git+https://h/x#egg=unify-db\n", f"{OURS}\n", id="another-place-is-replaced"),
        pytest.param("./unify_db-0.1-py3-none-any.whl\n", f"{OURS}\n", id="a-wheel-is-replaced"),
        pytest.param("unify-db-extras==1\n", f"unify-db-extras==1\n{OURS}\n", id="a-longer-name-is-another"),
        pytest.param("# unify-db\n", f"# unify-db\n{OURS}\n", id="a-comment-is-none"),
    ],
)
def test_the_requirement_is_there_once(before: str, after: str) -> None:
    assert add_requirement(before, OURS, file=LIST) == after
    assert add_requirement(after, OURS, file=LIST) == after


def test_without_a_value_a_requirement_of_its_author_stays() -> None:
    assert add_requirement("unify-db==0.1\n", None, file=LIST) == "unify-db==0.1\n"


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(EditError, match="another format"):
        add_requirement("", OURS, file=Path(name))


def test_a_list_with_hashes_wants_a_hash() -> None:
    with pytest.raises(EditError, match="hash"):
        add_requirement("a==1 --hash=sha256:00\n", OURS, file=LIST)


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        pytest.param(
            {"url": "file:///src/unify", "dir_info": {"editable": True}},
            "unify-db @ file:///src/unify",
            id="folder",
        ),
        pytest.param(
            {"url": "https://h/u.whl", "archive_info": {}}, "unify-db @ https://h/u.whl", id="archive"
        ),
        pytest.param(
            {"url": "https://h/u.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "py"},
            "unify-db @ git+https://h/u.git@abc#subdirectory=py",
            id="repository",
        ),
        pytest.param(None, "unify-db==9.9", id="an-index"),
    ],
)
def test_the_requirement_names_where_it_was_installed_from(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, line: str
) -> None:
    class Installed:
        version = "9.9"

        def read_text(self, _name: str) -> str | None:
            return json.dumps(origin) if origin else None

    monkeypatch.setattr(plain.metadata, "distribution", lambda _name: Installed())
    assert plain.own_requirement(LIST) == line


def test_from_a_source_tree_the_requirement_names_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise plain.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(plain.metadata, "distribution", missing)
    assert plain.own_requirement(LIST).startswith("unify-db @ file:///")
