"""Unified diffs: for people with secrets masked, for `git apply` with nothing changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from unified_db.migration.edits.masking import is_dotenv, is_secret_name, mask_lines


def render_masked(name: str, before: bytes, after: bytes) -> str:
    """A unified diff for people: a/ and b/ before *name*, secrets masked, "" where nothing changes.

    A dotenv file, or one whose name speaks of secrets, shows its changed lines alone.
    """
    old, new = (_lines(content.decode("utf-8", "replace")) for content in (before, after))
    shown = mask_lines(name, old), mask_lines(name, new)
    context = 0 if is_dotenv(name) or is_secret_name(name) else 3
    return render(name, (old, new), shown=shown, context=context)


def split_lines(content: bytes) -> list[str]:
    """The lines of *content* with their ends, so that joining and encoding gives the same bytes."""
    return _lines(content.decode("utf-8", "surrogateescape"))


def render(
    name: str, lines: tuple[list[str], list[str]], *, shown: tuple[list[str], list[str]], context: int
) -> str:
    """A unified diff of *lines* (before, after) that prints *shown* in their place; "" without changes."""
    groups = list(changed_groups(*lines, context=context))
    if not groups:
        return ""
    # git ends a name that has a space with a tab, since others put a date behind the name.
    end = "\t\n" if " " in name else "\n"
    out = [f"--- {_quote_name('a/' + name)}{end}", f"+++ {_quote_name('b/' + name)}{end}"]
    for group in groups:
        old = _range(group[0][1], group[-1][2])
        new = _range(group[0][3], group[-1][4])
        out.append(f"@@ -{old} +{new} @@\n")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                out += [_line(" ", line) for line in shown[0][i1:i2]]
            else:
                out += [_line("-", line) for line in shown[0][i1:i2]]
                out += [_line("+", line) for line in shown[1][j1:j2]]
    return "".join(out)


def changed_groups(
    old: list[str], new: list[str], *, context: int
) -> Iterator[list[tuple[str, int, int, int, int]]]:
    """The hunks between two lists of lines, as difflib's opcodes with *context* equal lines around."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(context):
        # Without context difflib leaves empty "equal" parts at both ends, which would spoil the range.
        parts = [p for p in group if p[0] != "equal" or p[2] > p[1]]
        if any(p[0] != "equal" for p in parts):
            yield parts


def _lines(text: str) -> list[str]:
    # git counts lines by "\n" alone; splitlines would also cut at a form feed.
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _range(start: int, stop: int) -> str:
    count = stop - start
    # An empty range stands behind the line that it names.
    first = start + 1 if count else start
    return f"{first}" if count == 1 else f"{first},{count}"


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _quote_name(name: str) -> str:
    """*name* as git writes it: in C quotes where it holds a quote, a backslash or a control character."""
    if not re.search(r'["\\\x00-\x1f\x7f]', name):
        return name
    quoted = re.sub(r'["\\]', lambda m: "\\" + m[0], name)
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\{ord(m[0]):03o}", quoted) + '"'
