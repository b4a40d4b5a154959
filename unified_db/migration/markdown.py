"""Markdown that stays what it says: tables, names and fences whose content cannot break out of them."""

from __future__ import annotations

import re

from unified_db.migration import wording
from unified_db.migration.tables import Cell, Table

MAX_BYTES = 280_000
"""Prefect refuses artifacts of 1 MB and its page is slow long before that."""

_CELL_CHARS = 400
_SPECIAL = re.compile(r"([\\`*\[\]<|~])")
# These mean something at the beginning of a line alone.
_LEADING = re.compile(r"^([#>+=-])")
# An underscore inside a word is text; only one at a word's edge can begin emphasis.
_EDGE_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")


def plain(text: str) -> str:
    """*text* on one line, with everything escaped that Markdown would read as markup."""
    flat = " ".join(wording.mask(text).split())
    return _LEADING.sub(r"\\\1", _EDGE_UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", flat)))


def code(text: str, *, in_table: bool = False) -> str:
    """*text* as a code span, whatever backticks it holds."""
    flat = " ".join(wording.mask(text).split())
    if not flat:
        return ""
    ticks = "`" * (1 + max((len(m) for m in re.findall(r"`+", flat)), default=0))
    edge = " " if flat[0] == "`" or flat[-1] == "`" else ""
    flat = flat.replace("|", "\\|") if in_table else flat
    return f"{ticks}{edge}{flat}{edge}{ticks}"


def fence(text: str, language: str = "") -> str:
    """*text* as a code block, whatever fences it holds."""
    masked = wording.mask(text).rstrip("\n")
    ticks = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", masked)), default=0))
    return f"{ticks}{language}\n{masked}\n{ticks}"


def table(content: Table, *, limit: int = 200) -> str:
    """*content* as a pipe table of at most *limit* rows and a count of the rest; empty without rows."""
    if not content.rows:
        return ""
    shown = content.rows[:limit]
    align = ["---:" if _is_number(content, i) else "---" for i in range(len(content.columns))]
    lines = [f"| {' | '.join(content.columns)} |", f"| {' | '.join(align)} |"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in shown]
    rest = len(content.rows) - len(shown)
    more = f"\n\n{wording.count(rest, 'more row')} in the run's report.html." if rest else ""
    return "\n".join(lines) + more


def join(*parts: str) -> str:
    """The parts that say something, a blank line between them, never longer than an artifact may be."""
    return bound("\n\n".join(p for p in parts if p) + "\n")


def bound(text: str) -> str:
    """*text* cut at a line's end where it is too long for an artifact."""
    if len(text.encode()) <= MAX_BYTES:
        return text
    cut = text.encode()[:MAX_BYTES].decode(errors="ignore")
    cut = cut[: cut.rfind("\n")]
    closing = "\n```" if cut.count("\n```") % 2 else ""
    return f"{cut}{closing}\n\nCut here; all of it is in the run's report.html.\n"


def _cell(cell: Cell) -> str:
    short = wording.shorten(cell.text, _CELL_CHARS)
    if cell.kind == "code":
        return code(short, in_table=True)
    # A result that breaks after its sign reads badly in a narrow column.
    return plain(short).replace(" ", "\u00a0") if cell.kind == "mark" else plain(short)


def _is_number(content: Table, column: int) -> bool:
    return all(row[column].kind == "number" for row in content.rows)


def titled(content: Table, *, limit: int = 200) -> str:
    """*content* under a heading that says its caption; empty without rows."""
    body = table(content, limit=limit)
    return f"## {content.caption}\n\n{body}" if body else ""
