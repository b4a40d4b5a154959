"""What of a tree is an application's own: neither its tools' nor installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.trees import plant
from unified_db.migration.edits.survey import find_installed, is_test, walk_folder

RECORD = (
    "library/__init__.py,sha256=x,1\nalone.py,,\n../../bin/tool,,\n"
    '"odd, name/a.py",,\nlibrary-1.0.dist-info/RECORD,,\n'
)


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in walk_folder(root)}


def test_what_was_installed_into_a_folder_is_left_out_and_what_lies_beside_it_is_not(tmp_path: Path) -> None:
    own = {"main.py": "", "libs/own.py": "", "libs/app/models.py": ""}
    installed = ("libs/library/deep/m.py", "libs/alone.py", "libs/odd, name/a.py")
    plant(tmp_path, {**own, **dict.fromkeys(installed, ""), "libs/library-1.0.dist-info/RECORD": RECORD})
    assert names(tmp_path) == set(own)
    assert find_installed(tmp_path) == {tmp_path / "libs": 1}


def test_an_application_that_is_installed_itself_is_not_left_out(tmp_path: Path) -> None:
    plant(tmp_path, {"library/__init__.py": "", "library-1.0.dist-info/RECORD": RECORD})
    assert "library/__init__.py" in names(tmp_path)
    assert find_installed(tmp_path) == {}


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history", "x/node_modules/a.py"])
def test_environments_and_packages_of_tools_are_left_out_under_any_name(tmp_path: Path, mark: str) -> None:
    plant(tmp_path, {"main.py": "", f"our-env/{mark}": ""})
    assert names(tmp_path) == {"main.py"}


@pytest.mark.parametrize("file", ["tests/a.py", "a/Test/b.py", "a/test_b.py", "b_test.py", "a/conftest.py"])
def test_a_test_is_known_by_its_name_or_folder(file: str) -> None:
    assert is_test(file)
    assert is_test(Path(file))


@pytest.mark.parametrize("file", ["latest/a.py", "contest.py", "testing.py", "attest/b.py", "a/protest_b.py"])
def test_what_only_sounds_like_a_test_is_none(file: str) -> None:
    assert not is_test(file)
