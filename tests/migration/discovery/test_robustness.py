"""Trees that lie, loop, cannot be parsed or are large: told as they are, never a traceback."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import engine, grow, opened, read, saver
from unified_db.migration.discovery import tree
from unified_db.migration.discovery.reading import read_tree


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("import sqlite3\nprint 'python 2'\n", id="python-2"),
        pytest.param("import sqlite3\ndef (\n", id="syntax-error"),
        pytest.param("import sqlite3\nx = " + "(" * 3000 + ")" * 3000, id="nested-deeply"),
    ],
)
def test_python_that_cannot_be_parsed_is_told_as_unread(text: str, tmp_path: Path) -> None:
    reading = read(tmp_path, {"old.py": text, "app.py": saver("'c.db'")})
    assert opened(reading) == ["c.db"]
    assert len(reading.unread) == 1
    assert "old.py" in reading.unread[0]


def test_settings_that_cannot_be_parsed_are_told_as_unread(tmp_path: Path) -> None:
    code = "import sqlite3, yaml\nsqlite3.connect(yaml.safe_load(open('c.yaml'))['db'])\n"
    reading = read(tmp_path, {"app.py": code, "c.yaml": "db: [c.db\n"})
    assert "c.yaml" in reading.unread[0]
    assert opened(reading) == ["None"]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("A = B\nB = A\n", id="constants"),
        pytest.param("def f():\n    return g()\ndef g():\n    return f()\nA = f()\n", id="functions"),
        pytest.param(
            "class C:\n    def __init__(self):\n        self.a = self.b\n"
            "        self.b = self.a\nA = C().a\n",
            id="attributes",
        ),
        pytest.param("class C(C): ...\nA = C.x\n", id="own-base"),
        pytest.param("from app import A\n", id="own-import"),
        pytest.param("A = 'x' + A\n", id="own-value"),
        pytest.param("def f(n):\n    return f(n + '/x')\nA = f('a')\n", id="endless-recursion"),
    ],
)
def test_what_leads_back_to_itself_is_asked_for(head: str, tmp_path: Path) -> None:
    reading = read(tmp_path, {"app.py": saver("A", head)})
    assert opened(reading) == ["None"]
    assert "which file" in reading.asks[0]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("tempfile.mktemp()", id="temporary"),
        pytest.param("f'{uuid.uuid4()}.db'", id="random"),
        pytest.param("unknown_library.path()", id="library"),
        pytest.param("sys.argv[1]", id="argument"),
        pytest.param("input()", id="input"),
    ],
)
def test_a_path_that_is_computed_is_asked_for(path: str, tmp_path: Path) -> None:
    reading = read(tmp_path, {"app.py": saver(path, "import sys, tempfile, uuid, unknown_library\n")})
    assert opened(reading) == ["None"]
    assert reading.asks[0].startswith("app.py:")


def test_a_database_in_memory_is_not_asked_for(tmp_path: Path) -> None:
    reading = read(tmp_path, {"app.py": saver("':memory:'"), "db.py": engine("'sqlite://'")})
    assert opened(reading) == ["None", "None"]
    assert reading.asks == ()


def test_a_database_of_another_kind_is_not_asked_for(tmp_path: Path) -> None:
    reading = read(tmp_path, {"db.py": engine("'postgresql://u:p@h/d'")})
    assert reading.asks == ()
    assert "p@h" not in reading.model_dump_json()


def test_two_values_that_depend_on_what_nobody_knows_are_asked_for(tmp_path: Path) -> None:
    head = "import sys\nif sys.argv:\n    DB = 'a.db'\nelse:\n    DB = 'b.db'\n"
    reading = read(tmp_path, {"app.py": saver("DB", head)})
    assert any("a.db or b.db" in ask or "b.db or a.db" in ask for ask in reading.asks)


def test_a_tree_is_left_as_it_was_and_nothing_of_it_runs(tmp_path: Path) -> None:
    grow(tmp_path, {"app.py": saver("'c.db'", "open('ran', 'w')\nraise SystemExit(1)\n")})
    before = sorted(p.name for p in tmp_path.rglob("*"))
    read_tree(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_folders_of_tools_and_large_files_are_passed_over(tmp_path: Path) -> None:
    code = saver("'no.db'")
    large = saver("'no.db'") + "#" * 1_000_001
    tree = {
        ".venv/lib/x.py": code,
        "node_modules/x.py": code,
        "env/pyvenv.cfg": "",
        "env/x.py": code,
        "large.py": large,
    }
    assert opened(read(tmp_path, {**tree, "app.py": saver("'c.db'")})) == ["c.db"]


def test_of_too_much_code_the_smallest_folders_are_read_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = 2 * len(saver("'c.db'"))
    monkeypatch.setattr(tree, "_MOST_NEAR", two)
    monkeypatch.setattr(tree, "_MOST_FAR", two)
    far = {f"a/library/m{n}.py": saver(f"'{n}.db'") for n in range(5)}
    reading = read(tmp_path, {**far, "own/app.py": saver("'c.db'"), "main.py": saver("'d.db'")})
    assert set(opened(reading)) == {"c.db", "d.db", "0.db", "1.db"}
    assert reading.unread == (
        "a/library: 3 Python files, in larger folders than the rest and more code than is looked through",
    )


def test_savers_and_engines_of_tests_do_not_count(tmp_path: Path) -> None:
    tests = {"tests/conftest.py": saver("'t.db'"), "test_db.py": engine("'sqlite:///t.db'")}
    assert opened(read(tmp_path, {**tests, "app.py": saver("'c.db'")})) == ["c.db"]


def test_the_working_folder_is_where_relative_paths_name_files(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    with sqlite3.connect(tmp_path / "backend" / "c.db") as conn:
        conn.execute("CREATE TABLE t (x)")
    conn.close()
    reading = read(tmp_path, {"backend/app.py": saver("'c.db'") + "if __name__ == '__main__': ...\n"})
    assert reading.cwd == "backend"
    assert opened(reading) == ["backend/c.db"]
    assert reading.asks == ()


def test_the_working_folder_is_asked_for_where_nothing_tells_it(tmp_path: Path) -> None:
    tree = {
        "backend/app.py": "import db\n" + saver("'c.db'") + "if __name__ == '__main__': ...\n",
        "backend/db.py": "",
    }
    reading = read(tmp_path, tree)
    assert reading.cwd == "backend"
    assert "In which folder" in reading.asks[0]


def test_the_working_folder_is_the_one_that_was_given(tmp_path: Path) -> None:
    assert opened(read(tmp_path, {"app.py": saver("'c.db'")}, cwd="run")) == ["run/c.db"]


def test_an_overlay_stands_in_for_the_disk(tmp_path: Path) -> None:
    grow(tmp_path, {"app.py": saver("'c.db'")})
    assert opened(read_tree(tmp_path, overlay={"app.py": saver("'d.db'")})) == ["d.db"]


def test_a_tree_with_other_texts_finds_what_they_mention_and_keeps_what_was_parsed(tmp_path: Path) -> None:
    grow(tmp_path, {"a.py": "import sqlite3\n", "b.py": "x = 1\n"})
    before, pattern = tree.Tree(tmp_path), re.compile("sqlite3")
    assert before.mentioning(pattern) == ("a.py",)
    module = before.module("a.py")
    after = before.with_texts({"b.py": "import sqlite3\n"})
    assert after.mentioning(pattern) == ("a.py", "b.py")
    assert after.module("a.py") is module


def test_a_constant_that_nothing_opens_is_told_as_such(tmp_path: Path) -> None:
    reading = read(tmp_path, {"app.py": "VECTORS = 'data/chroma.sqlite3'\n"})
    assert [(s.key, s.wins, s.role) for s in reading.settings] == [("VECTORS", False, "unknown")]
