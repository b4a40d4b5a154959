"""Sets one option of an INI file line by line; configparser says whether it came out right."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

from unified_db.migration.edits.texts import misfit, name_similar, newline_of

_BY_TEXT = "Give this edit as kind 'text'."


def set_ini(text: str, key: str, value: str, file: Path) -> str:
    """*text* with the option *key* (section.option; either may hold dots) set to *value*.

    The value is written as it is, so `%(here)s` keeps its meaning and a plain percent sign is `%%`.

    Raises:
        EditError: No INI file, no such option, or a value of more than one line.
    """
    before = _read_ini(text, file)
    section, option = _find_option(before, key, file)
    if before[section][option] == value:
        return text
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    for first, last, head in reversed(list(_option_lines(lines, section, option))):
        newline = re.search(r"[\r\n]*\Z", lines[last])
        lines[first : last + 1] = [head + value + (newline[0] if newline else newline_of(text))]
    after = "".join(lines)
    before[section][option] = value
    if _read_ini(after, file) != before:
        raise misfit(file, f"a way to set {key} alone", "none on one line", way_out=_BY_TEXT)
    return after


def _read_ini(text: str, file: Path) -> dict[str, dict[str, str | None]]:
    """Section -> option -> value as written; what DEFAULT gives to others is not repeated there."""
    # A section of this name inherits nothing, so DEFAULT is read like any other.
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, default_section="\0")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise misfit(
            file,
            "an INI file",
            f"that it cannot be read: {type(error).__name__}",
            way_out="Mend the file.",
        ) from error
    return {s: dict(parser.items(s)) for s in parser.sections()}


def _find_option(document: dict[str, dict[str, str | None]], key: str, file: Path) -> tuple[str, str]:
    dots = [m.start() for m in re.finditer(r"\.", key)]
    places = [(key[:dot], key[dot + 1 :].lower()) for dot in dots]
    for section, option in places:
        if option in document.get(section, {}):
            return section, option
    known = [f"{s}.{o}" for s, options in document.items() for o in options]
    raise misfit(file, f"the option {key}", name_similar(key, known), way_out="Give it as section.option.")


def _option_lines(lines: list[str], section: str, option: str) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, all before the value) of each place where the option is set."""
    current, index = "", 0
    while index < len(lines):
        line = lines[index]
        header = re.match(r"\s*\[(.+)\]", line)
        found = re.match(
            r"(?P<indent>\s*)(?P<name>[^\s#;\[][^=:\r\n]*?)\s*(?P<delimiter>[=:])[^\S\r\n]*", line
        )
        last = index
        if header:
            current = header[1]
        elif found:
            last = _last_line(lines, index, len(found["indent"]))
            if current == section and found["name"].lower() == option:
                yield index, last, found[0]
        index = last + 1


def _last_line(lines: list[str], first: int, indent: int) -> int:
    """The line on which a value ends that goes on in deeper lines."""
    last = first
    for index in range(first + 1, len(lines)):
        body = lines[index].strip()
        if not body or body[0] in "#;":
            continue
        if len(lines[index]) - len(lines[index].lstrip()) <= indent:
            break
        last = index
    return last
