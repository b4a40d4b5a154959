"""What the documents say is what the code says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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
# Runs blocks of one namespace as a notebook does: on one event loop, `await` outside of functions too.
RUN_BLOCKS = """
import ast, asyncio, inspect, json, sys

async def main():
    names = {"__name__": "__main__"}
    for code in json.load(sys.stdin):
        made = compile(code, "runtime.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(made, names)
        if made.co_flags & inspect.CO_COROUTINE:
            await result

asyncio.run(main())
print("all blocks ran")
"""


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Language and text of each code block, moved down to the lines that it has on the page."""
    text = page.read_text()
    return [
        (found[1], "\n" * text[: found.start(2)].count("\n") + found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def test_every_block_of_the_runtime_guide_runs(tmp_path: Path) -> None:
    blocks = blocks_of(GUIDE)
    assert {language for language, _ in blocks} == {"python", "ini", "bash"}
    to_run, commands = [], []
    for language, code in blocks:
        named = re.match(r"# (\S+\.\w+)\n", code.lstrip("\n"))
        if named is not None:
            file = tmp_path / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(code.lstrip("\n"))
        elif language == "python":
            to_run.append(code)
        else:
            commands += [line for line in code.splitlines() if line.strip()]
    ran = run([sys.executable, "-c", RUN_BLOCKS], tmp_path, stdin=json.dumps(to_run))
    assert ran.stdout == "all blocks ran\n"
    assert len(to_run) > 10
    for command in commands:
        line, _, promised = command.partition("#")
        shown = run([sys.executable, "-m", *line.split()], tmp_path)
        assert promised.strip() in shown.stdout
        assert promised


def run(command: list[str], folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran


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
