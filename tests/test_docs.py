"""What the documents say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
