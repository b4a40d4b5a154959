"""The application's own test suites as commands: pytest, unittest, make, tox."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from unified_db.migration.discovery.commands import make_targets
from unified_db.migration.discovery.finds import SuiteFind
from unified_db.migration.discovery.syntax import Sources

_TEST_FILE = re.compile(r"^(?:test_.*|.*_test|tests?)\.py$")
_PYTEST_SETTINGS = {
    "pytest.ini": re.compile(r"^\[pytest\]", re.MULTILINE),
    "pyproject.toml": re.compile(r"^\[tool\.pytest\.", re.MULTILINE),
    "tox.ini": re.compile(r"^\[pytest\]", re.MULTILINE),
    "setup.cfg": re.compile(r"^\[tool:pytest\]", re.MULTILINE),
}
_NAMES_PYTEST = re.compile(r"^\s*(?:import|from)\s+pytest\b|^pytest\b|[\"']pytest\b", re.MULTILINE)
_UNITTEST = re.compile(r"\bunittest\.TestCase\b|from unittest import .*TestCase")
_LISTS = ("requirements", "pyproject.toml", "Pipfile", "setup.cfg", "tox.ini")


def find_suites(sources: Sources, *, cwd: str) -> tuple[SuiteFind, ...]:
    """The suites of the tree, as commands that run in *cwd*; one for each kind of tests where they are apart.

    `{junit}` is in every command whose runner can write it: then the outcome is read test by test.
    """
    tests = [f for f in sources.files if _TEST_FILE.match(f.name)]
    if not tests:
        return tuple(_of_tools(sources, cwd))
    if _is_pytest(sources, tests):
        return tuple(_of_pytest(sources, tests, cwd))
    folder = _common(tests)
    above = _relative(_rootdir(sources, folder, cwd), cwd)
    start = f"-s {_relative(folder, cwd)}" + ("" if above == "." else f" -t {above}")
    why = f"{tests[0]} has unittest's tests, and nothing names pytest"
    command = f"{{python}} -m unittest discover {start}"
    return (SuiteFind(name="tests", command=command, why=why, sure=True),)


def _is_pytest(sources: Sources, tests: list[PurePosixPath]) -> bool:
    if any(f.name == "conftest.py" or _has_settings(sources, f) for f in sources.files):
        return True
    if any(_NAMES_PYTEST.search(sources.text(f)) for f in tests):
        return True
    lists = [f for f in sources.files if f.name.startswith(_LISTS)]
    if any(_NAMES_PYTEST.search(sources.text(f)) for f in lists):
        return True
    # Functions alone: nobody else would run them.
    return not any(_UNITTEST.search(sources.text(f)) for f in tests)


def _has_settings(sources: Sources, file: PurePosixPath) -> bool:
    pattern = _PYTEST_SETTINGS.get(file.name)
    return bool(pattern and pattern.search(sources.text(file)))


def _of_pytest(sources: Sources, tests: list[PurePosixPath], cwd: str) -> Iterator[SuiteFind]:
    folder = _common(tests)
    rootdir = _rootdir(sources, folder, cwd)
    kinds = sorted({f.relative_to(folder).parts[0] for f in tests if len(f.relative_to(folder).parts) > 1})
    apart = len(kinds) > 1 and all(len(f.relative_to(folder).parts) > 1 for f in tests)
    # Tests that lie beside the modules that they test are one suite, whatever folders they are in.
    places = [folder / kind for kind in kinds] if apart and folder.name in {"tests", "test"} else [folder]
    here = rootdir == PurePosixPath(cwd) or _inside(folder, cwd)
    for place in places:
        runner = "{python} -m pytest"
        if not here:
            # `python -m pytest` puts the folder it runs in on Python's path, which is another one here.
            above = "" if str(rootdir) == "." else f"/{rootdir}"
            runner = f"env PYTHONPATH={{root}}{above} {runner}"
        where = _relative(place, cwd)
        yield SuiteFind(
            name="tests" if place == folder else place.name,
            command=f"{runner}{'' if where == '.' else f' {where}'} -q --junitxml {{junit}}",
            why=f"{_count(tests, place)} in {place}",
            sure=here,
        )


def _count(tests: list[PurePosixPath], place: PurePosixPath) -> str:
    number = sum(1 for f in tests if f.is_relative_to(place))
    return f"{number} file{'s' * (number != 1)} of tests"


def _of_tools(sources: Sources, cwd: str) -> Iterator[SuiteFind]:
    for makefile, target in make_targets(sources):
        if target in {"test", "tests", "check"}:
            folder = _relative(makefile.parent, cwd)
            command = f"make {target}" if folder == "." else f"make -C {folder} {target}"
            yield SuiteFind(name=target, command=command, why=f"{makefile} has it", sure=False)
            return
    if any(str(f) == "tox.ini" for f in sources.files):
        yield SuiteFind(name="tox", command="tox", why="tox.ini is there", sure=False)


def _common(files: list[PurePosixPath]) -> PurePosixPath:
    """The folder of all *files*, or the nearest `tests` above it."""
    folder = PurePosixPath(os.path.commonpath([str(f.parent) for f in files]) or ".")
    above = [p for p in (folder, *folder.parents) if p.name in {"tests", "test"}]
    return above[-1] if above else folder


def _rootdir(sources: Sources, folder: PurePosixPath, cwd: str) -> PurePosixPath:
    """Where the suite is run from: the folder of its settings, else the one above the tests."""
    for home in (folder, *folder.parents):
        if any(
            _has_settings(sources, home / name) for name in _PYTEST_SETTINGS if home / name in sources.files
        ):
            return home
    return PurePosixPath(cwd) if _inside(folder, cwd) else folder.parent


def _inside(folder: PurePosixPath, cwd: str) -> bool:
    return folder.is_relative_to(PurePosixPath(cwd))


def _relative(place: PurePosixPath, cwd: str) -> str:
    return os.path.relpath(place, cwd)
