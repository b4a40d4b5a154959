"""The line that a literal stands on, as an edit of kind `text` that means this literal alone."""

from __future__ import annotations

import re


def line_edit(text: str, line: int, raw: str, value: str, *, quoted: bool = True) -> tuple[str, str] | None:
    """(old, new) lines of code with the literal *raw* exchanged for *value*; None where it is not alone.

    Args:
        text: The file.
        line: The line that the literal begins on, the first being 1.
        raw: What the literal says, or a part of an f-string.
        value: What it shall say.
        quoted: False for shells and their like, where a word needs no quotes.
    """
    lines = text.split("\n")
    if not 0 < line <= len(lines):
        return None
    code = lines[line - 1].rstrip("\r")
    # Within quotes or braces: `c.db` in "old-c.db" is another name.
    before, behind = (r"(?<=[\"'}])", r"(?=[\"'{])") if quoted else (r"(?<![\w./-])", r"(?![\w./-])")
    found = list(re.finditer(before + re.escape(raw) + behind, code))
    if len(found) != 1:
        return None
    start, end = found[0].span()
    new = code[:start] + value + code[end:]
    return code.strip(), new.strip()
