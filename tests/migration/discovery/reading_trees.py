"""Tiny trees for reading: files as text, and modules that open what an expression names."""

from __future__ import annotations

from pathlib import Path

from unified_db.migration.discovery.finds import PathSetting, TreeReading
from unified_db.migration.discovery.reading import read_tree

_SAVER = """
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

async def main():
    async with AsyncSqliteSaver.from_conn_string({path}) as saver:
        ...
"""


def grow(root: Path, files: dict[str, str]) -> Path:
    """A tree with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def read(root: Path, files: dict[str, str], cwd: str | None = None) -> TreeReading:
    """What a tree with these files tells."""
    return read_tree(grow(root, files), None if cwd is None else Path(cwd))


def saver(path: str, head: str = "") -> str:
    """A module that opens the checkpoints at the expression *path*."""
    return head + _SAVER.replace("{path}", path)


def engine(url: str, head: str = "") -> str:
    """A module that makes an engine for the expression *url*."""
    return f"from sqlalchemy import create_engine\n{head}\nengine = create_engine({url})\n"


def winner(reading: TreeReading) -> PathSetting:
    """The one setting that counts."""
    winners = [s for s in reading.settings if s.wins]
    assert len(winners) == 1, winners
    return winners[0]


def losers(reading: TreeReading) -> list[tuple[str, str]]:
    """(place, resolved) of what does not count."""
    return [(str(s.place), str(s.resolved)) for s in reading.settings if not s.wins]


def opened(reading: TreeReading) -> list[str]:
    """The files that savers and engines open."""
    return [str(u.resolved) for u in (*reading.savers, *reading.engines)]
