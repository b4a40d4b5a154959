import pytest

from tests.migration.discovery.trees import plant
from unified_db.migration.discovery.suites import find_suites
from unified_db.migration.discovery.syntax import Sources

PYTEST = "def test_a():\n    assert 1\n"
UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): ...\n"


@pytest.mark.parametrize(
    ("texts", "cwd", "commands"),
    [
        pytest.param(
            {"tests/test_a.py": PYTEST},
            ".",
            ["{python} -m pytest tests -q --junitxml {junit}"],
            id="one-folder",
        ),
        pytest.param(
            {
                "backend/pytest.ini": "[pytest]\n",
                "backend/tests/unit/test_a.py": "",
                "backend/tests/api/test_b.py": "",
            },
            "backend",
            [
                "{python} -m pytest tests/api -q --junitxml {junit}",
                "{python} -m pytest tests/unit -q --junitxml {junit}",
            ],
            id="a-suite-for-each-kind",
        ),
        pytest.param(
            {"test_a.py": PYTEST}, ".", ["{python} -m pytest -q --junitxml {junit}"], id="beside-the-code"
        ),
        pytest.param(
            {"tests/test_a.py": UNITTEST}, ".", ["{python} -m unittest discover -s tests"], id="unittest"
        ),
        pytest.param(
            {"tests/test_a.py": UNITTEST, "requirements-dev.txt": "pytest>=8\n"},
            ".",
            ["{python} -m pytest tests -q --junitxml {junit}"],
            id="unittest-run-by-pytest",
        ),
        pytest.param({"app.py": ""}, ".", [], id="none"),
    ],
)
def test_a_suite_is_a_command_that_tells_its_outcome(tmp_path, texts, cwd, commands):
    found = find_suites(Sources(plant(tmp_path, texts)), cwd=cwd)
    assert [s.command for s in found] == commands
    assert all(s.sure for s in found)


@pytest.mark.parametrize(
    ("texts", "cwd", "command"),
    [
        pytest.param({"Makefile": "test:\n\ttrue\n"}, ".", "make test", id="make"),
        pytest.param({"tox.ini": "[tox]\n"}, ".", "tox", id="tox"),
        pytest.param(
            {"tests/test_a.py": PYTEST, "backend/app.py": ""},
            "backend",
            "env PYTHONPATH={root} {python} -m pytest ../tests -q --junitxml {junit}",
            id="tests-outside-of-the-folder-that-commands-run-in",
        ),
    ],
)
def test_what_may_not_run_as_it_stands_is_a_question(tmp_path, texts, cwd, command):
    (found,) = find_suites(Sources(plant(tmp_path, texts)), cwd=cwd)
    assert found.command == command
    assert not found.sure
