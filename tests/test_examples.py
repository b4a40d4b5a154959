"""The example's configuration turns it into the example that shows how it looks afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

from unified_db.migration import switch
from unified_db.migration.config import load_config

EXAMPLES = Path(__file__).parent.parent / "examples"
# What differs by intention: who the page speaks to, what moves it, and where unify-db was installed from.
OF_ITS_OWN = {"README.md", "unify.toml"}
MADE_BY_TOOLS = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".unify-db", ".hypothesis"}


def test_the_configured_edits_make_the_unified_example(tmp_path: Path) -> None:
    copy = tmp_path / "chat_backend"
    ignored = shutil.ignore_patterns(*MADE_BY_TOOLS, "*.db*", "*.sqlite*", "*.pid", "*.log")
    shutil.copytree(EXAMPLES / "chat_backend", copy, ignore=ignored)
    config = load_config(copy)
    switch.apply_edits(config, copy, "switch")
    switch.apply_edits(config, copy, "archive")
    made, shown = _read_tree(copy), _read_tree(EXAMPLES / "chat_backend_unified")
    assert sorted(made) == sorted(shown)
    assert [name for name in shown if made[name] != shown[name]] == []


def _read_tree(root: Path) -> dict[str, list[str]]:
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
