"""Every block of `docs/runtime.md` runs, on each set of versions that it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent.parent / "docs" / "runtime.md"
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


def run_guide(folder: Path) -> list[str]:
    """Run the guide's Python in *folder*, where its files are made too; the commands that it shows."""
    blocks = blocks_of(GUIDE)
    assert {language for language, _ in blocks} == {"python", "ini", "bash"}
    to_run, commands = [], []
    for language, code in blocks:
        named = re.match(r"# (\S+\.\w+)\n", code.lstrip("\n"))
        if named is not None:
            file = folder / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(code.lstrip("\n"))
        elif language == "python":
            to_run.append(code)
        else:
            commands += [line for line in code.splitlines() if line.strip()]
    assert len(to_run) > 10
    ran = run([sys.executable, "-c", RUN_BLOCKS], folder, stdin=json.dumps(to_run))
    assert ran.stdout == "all blocks ran\n"
    return commands


def run(command: list[str], folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran


def test_every_block_of_python_runs(tmp_path: Path) -> None:
    run_guide(tmp_path)


def test_every_command_says_what_the_guide_promises(tmp_path: Path) -> None:
    pytest.importorskip("alembic")
    commands = run_guide(tmp_path)
    assert commands
    for command in commands:
        line, _, promised = command.partition("#")
        assert promised.strip()
        assert promised.strip() in run([sys.executable, "-m", *line.split()], tmp_path).stdout
