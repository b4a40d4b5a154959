"""Sets one key of a dotenv file and leaves the rest of the file as it is.

What a line means is python-dotenv's decision, since that is what applications read the file
with; how a line is written stays the file's own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from unified_db.migration.edits.texts import misfit, name_similar

# The same grammar as dotenv.parser, kept as one expression to know where the value stands.
_ASSIGNMENT = re.compile(
    r"""(?P<key>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*)
        (?:(?P<equal>=[^\S\r\n]*)
           (?P<value>'(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" | [^\r\n]*))?""",
    re.DOTALL | re.VERBOSE,
)


def set_key(text: str, key: str, value: str, *, file: Path) -> str:
    """*text* with *key* set to *value* wherever it is assigned.

    Of several assignments the last one wins, so all are set: nobody shall find the old value
    above the new one. A commented twin is a note of its author and stays.

    Raises:
        EditError: The key is not assigned; similar ones are named.
    """
    bindings = list(read(text))
    if not any(name == key for name, _, _ in bindings):
        raise _missing(bindings, text, key, file)
    after = "".join(
        _assign(original, key, value, file=file) if name == key and old != value else original
        for name, old, original in bindings
    )
    wanted = [(name, value if name == key else old) for name, old, _ in bindings]
    if [(name, now) for name, now, _ in read(after)] != wanted:
        raise misfit(
            file,
            f"a way to set {key} alone",
            "that other keys would change with it",
            way_out="Set it by hand, or give this edit as kind 'text'.",
        )
    return after


def read(text: str) -> Iterator[tuple[str | None, str | None, str]]:
    """(key, value, the characters it was read from) of every piece; together they are *text*."""
    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text)):
        yield binding.key, binding.value, binding.original.string


def _assign(original: str, key: str, value: str, *, file: Path) -> str:
    found = _ASSIGNMENT.match(original)
    if found:
        old = found["value"] or ""
        quote = old[:1] if old[:1] in {"'", '"'} else ""
        if not quote:
            old = _strip_comment(old, spaced=len(found["equal"] or "") > 1)
        head = found["key"] + (found["equal"] or "=")
        tail = original[len(found["key"] + (found["equal"] or "")) + len(old) :]
        for literal in _literals(value, quote):
            line = head + literal + (" " if tail.startswith("#") else "") + tail
            if [(k, v) for k, v, _ in read(line)] == [(key, value)]:
                return line
    raise misfit(
        file,
        f"a way to write the new value of {key}",
        "none that a dotenv file can hold",
        way_out="Choose a value without control characters.",
    )


def _strip_comment(unquoted: str, *, spaced: bool) -> str:
    if spaced and unquoted.startswith("#"):
        return ""
    return re.sub(r"\s+#.*", "", unquoted).rstrip()


def _literals(value: str, quote: str) -> Iterator[str]:
    """Ways to write *value*, the file's own first."""
    escaped = value.replace("\\", "\\\\")
    ways = {
        "": value,
        '"': '"' + escaped.replace('"', '\\"') + '"',
        "'": "'" + escaped.replace("'", "\\'") + "'",
    }
    yield ways.pop(quote)
    yield from (way for other, way in ways.items() if other)


def _missing(
    bindings: list[tuple[str | None, str | None, str]], text: str, key: str, file: Path
) -> Exception:
    twin = re.search(rf"^[^\S\r\n]*#[^\S\r\n]*(?:export\s+)?{re.escape(key)}[^\S\r\n]*=", text, re.MULTILINE)
    found = name_similar(key, (name for name, _, _ in bindings if name))
    if twin:
        found += f", and {key} in a comment on line {text.count(chr(10), 0, twin.start()) + 1}"
    return misfit(
        file,
        f"the key {key}",
        found,
        way_out="Name the key that the application reads, or add it to the file with its present value.",
    )
