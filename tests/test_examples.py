"""The two examples: one application before the move, and after it.

The configuration's edits and then `one-transaction.diff`, which an application's developer makes by
hand, turn the first into the second. `python -m tests.test_examples` writes that diff anew.
"""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unified_db.migration import switch
from unified_db.migration.config import load_config

EXAMPLES = Path(__file__).parent.parent / "examples"
BY_HAND = EXAMPLES / "chat_backend_unified" / "one-transaction.diff"
# What differs by intention: who the page speaks to, what moves it, and where unify-db was installed from.
OF_ITS_OWN = {"README.md", "unify.toml", BY_HAND.name}
MADE_BY_TOOLS = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".unify-db", ".hypothesis"}
MADE_BY_RUNNING = ("*.db*", "*.sqlite*", "*.pid", "*.log")


def test_the_configured_edits_and_the_diff_make_the_unified_example(tmp_path: Path) -> None:
    made, shown = make_by_edits(tmp_path), read_tree(EXAMPLES / "chat_backend_unified")
    assert sorted(made) == sorted(shown)
    assert BY_HAND.read_text() == diff_of(made, shown), "run `make docs`"


def test_the_edits_alone_make_an_application_whose_tests_pass_as_before(tmp_path: Path) -> None:
    make_by_edits(tmp_path)
    assert run_tests(tmp_path / "chat_backend" / "backend") == "1 failed, 68 passed"


def test_the_unified_example_passes_its_tests_and_alembic_finds_nothing_to_do(tmp_path: Path) -> None:
    backend = copy_of("chat_backend_unified", tmp_path) / "backend"
    assert run_tests(backend) == "1 failed, 68 passed"
    check = subprocess.run(
        [sys.executable, "-m", "alembic", "check"], cwd=backend, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr
    assert "No new upgrade operations detected." in check.stdout


@pytest.mark.parametrize("example", ["chat_backend", "chat_backend_unified"])
def test_the_page_says_how_its_tests_end(example: str) -> None:
    assert "# 1 failed, 68 passed" in (EXAMPLES / example / "README.md").read_text()


def run_tests(backend: Path) -> str:
    """How an example's own tests end. The one that fails is a bug that it is shown with."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider"],
        cwd=backend,
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.findall(r"^FAILED (\S+)", run.stdout, re.MULTILINE)
    name = (
        "tests/integration/test_providers_api.py::test_a_providers_name_cannot_be_used_twice_in_another_case"
    )
    assert failed == [name], run.stdout[-3000:]
    found = re.search(r"^\d+ failed, \d+ passed", run.stdout, re.MULTILINE)
    return found[0] if found else run.stdout[-3000:]


# --- Trees -----------------------------------------------------------------------------------------


def copy_of(example: str, into: Path) -> Path:
    ignored = shutil.ignore_patterns(*MADE_BY_TOOLS, *MADE_BY_RUNNING)
    return shutil.copytree(EXAMPLES / example, into / example, ignore=ignored)


def make_by_edits(into: Path) -> dict[str, list[str]]:
    """A copy of the first example as the move leaves it."""
    copy = copy_of("chat_backend", into)
    config = load_config(copy)
    switch.apply_edits(config, copy, "switch")
    switch.apply_edits(config, copy, "archive")
    return read_tree(copy)


def diff_of(made: dict[str, list[str]], shown: dict[str, list[str]]) -> str:
    """What is left to be done by hand, as `git apply` takes it."""
    lines: list[str] = []
    for name in sorted(shown):
        lines += difflib.unified_diff(made[name], shown[name], f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(lines) + "\n"


def read_tree(root: Path) -> dict[str, list[str]]:
    """Name and lines of each file, without the requirement of unify-db and its comment."""
    files = (p for p in root.rglob("*") if p.is_file() and not MADE_BY_TOOLS & set(p.parts))
    made_by_running = {".pid", ".log", ".db", ".sqlite"}
    return {
        str(p.relative_to(root)): _read_lines(p)
        for p in files
        if p.name not in OF_ITS_OWN and not any(p.name.split("-")[0].endswith(end) for end in made_by_running)
    }


def _read_lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines()
    if file.name != "requirements.txt":
        return lines
    return [line for line in lines if "unify-db" not in line and "public index" not in line and line]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        BY_HAND.write_text(diff_of(make_by_edits(Path(folder)), read_tree(EXAMPLES / "chat_backend_unified")))
