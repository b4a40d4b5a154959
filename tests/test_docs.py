"""What the documents say is what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from flows.reference import reference_markdown as command_markdown
from unified_db import errors
from unified_db.errors import ExitCode
from unified_db.migration.reference import reference_markdown

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])


def test_the_configuration_page_is_made_from_the_model() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference_markdown(), "run `make docs`"


def test_the_page_of_the_command_is_made_from_the_command() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == command_markdown(), "run `make docs`"


def load(script: str) -> ModuleType:
    """One of the programs in docs/ that draw its pictures."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIGURES = {**load("figures").FIGURES, **load("pictures").PICTURES}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_what_its_program_draws(name: str) -> None:
    drawn = FIGURES[name]()
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert (ROOT / "docs" / name).read_text() == drawn, "run `make docs`"


def test_the_readme_shows_the_lock_up_as_it_was_measured() -> None:
    measured = (ROOT / "docs" / "lock-up.md").read_text()
    rows = [line for line in measured.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert "\n".join(rows) in (ROOT / "README.md").read_text()


def test_no_document_names_a_place_of_the_machine_that_it_was_made_on() -> None:
    # One of these anywhere, or an absolute path of no kind that examples use.
    place = re.compile(
        r"/tmp/|/home/|/root/|/work/|(?<![\w.:/}>*)-])/(?!(?:srv|path|absolute|api)/)[A-Za-z]+/[\w.-]+"
    )
    made = [*PAGES, *(ROOT / "docs").glob("*.svg")]
    assert {p.name: found for p in made if (found := place.findall(p.read_text()))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_runbook_lists_every_exit_code() -> None:
    table = (ROOT / "docs" / "runbook.md").read_text().split("## Exit codes")[1]
    listed = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for n in row.split(",")}
    assert listed == {int(code) for code in ExitCode}


# --- docs/runtime.md ----------------------------------------------------------------------------------

GUIDE = ROOT / "docs" / "runtime.md"


def test_the_runtime_guide_lists_every_error() -> None:
    table = GUIDE.read_text().split("## Errors")[1].split("```")[0]
    listed = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    own = {
        n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, errors.RuntimeUseError)
    }
    assert listed == own | {"UsageError"}


def test_the_runtime_guide_names_the_tested_versions() -> None:
    table = GUIDE.read_text().split("## Tested versions")[1].split("## ")[0]
    rows = re.findall(r"^\| `(\S+)` \| (\S+) \| (\S+) \|$", table, re.MULTILINE)
    assert len(rows) == 5
    for place, name in ((1, "oldest"), (2, "newest")):
        lock = (ROOT / "tests" / "locks" / f"{name}.lock").read_text()
        locked = dict(re.findall(r"^([a-z-]+)(?:\[\w+\])?==(\S+)", lock, re.MULTILINE))
        assert {row[0]: row[place] for row in rows} == {row[0]: locked[row[0]] for row in rows}
