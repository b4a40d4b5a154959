"""What the documents say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unified_db import errors
from unified_db.errors import ExitCode
from unified_db.migration.reference import reference_markdown

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])


def test_the_configuration_page_is_made_from_the_model() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference_markdown(), "run `make docs`"


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
