"""Edits that need no grammar: exact text, and a line in a list of requirements."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from unified_db.migration.edits.masking import mask_line
from unified_db.migration.edits.texts import misfit, newline_of

_NAME = "unify-db"
_ANY_NEWLINE = re.compile(r"\r\n|\r|\n")


def replace_text(text: str, old: str, new: str, *, file: Path) -> str:
    """*text* with every occurrence of *old* replaced by *new*; line endings follow the file.

    Raises:
        EditError: Neither *old* nor *new* is there, or a second run would edit again.
    """
    newline = newline_of(text)
    old, new = (_ANY_NEWLINE.sub(newline, part) for part in (old, new))
    if not old:
        raise misfit(file, "some text", "that the edit's `old` is empty", way_out="Give the old text.")
    after = _replace(text, old, new)
    if after == text and new not in text:
        raise misfit(
            file,
            f"the text {mask_line(old)!r}",
            "neither it nor the new text",
            way_out="Copy the old text from the file as it is now, with its spaces.",
        )
    if _replace(after, old, new) != after:
        raise misfit(
            file,
            f"the text {mask_line(old)!r}",
            "that it would appear again in the result",
            way_out="Make `old` longer, so that what comes out does not contain it.",
        )
    return after


def _replace(text: str, old: str, new: str) -> str:
    if old not in new:
        return text.replace(old, new)
    # "app.db" in "data/app.db" is the new text, not the old one once more.
    return new.join(piece.replace(old, new) for piece in text.split(new))


def add_requirement(text: str, line: str | None, *, file: Path) -> str:
    """*text* with the requirement *line*; without one, ours from where it was installed.

    A requirement for the same distribution is replaced by *line*, since pip refuses two; without
    a *line* it is left as it is.

    Raises:
        EditError: A list with hashes and a line without, or a file that is no such list.
    """
    if file.suffix in {".toml", ".lock", ".json", ".yaml", ".yml"}:
        raise misfit(
            file,
            "a list of requirements as pip reads it",
            "another format",
            way_out="Add unify-db with the tool that keeps this file, or edit it with kind 'text'.",
        )
    wanted = (line or own_requirement(file)).strip()
    if "--hash" in text and "--hash" not in wanted:
        raise misfit(
            file,
            "requirements without hashes",
            "--hash, and pip wants one for each line then",
            way_out="Give the whole line with its hash as `value`.",
        )
    lines = text.splitlines(keepends=True)
    place = next((i for i, each in enumerate(lines) if _names(each) == _names(wanted)), None)
    if place is None:
        newline = newline_of(text)
        return text + ("" if text.endswith(("\n", "\r")) or not text else newline) + wanted + newline
    if line is None:
        return text
    lines[place] = _exchange(lines[place], wanted, file=file)
    return "".join(lines)


def _exchange(old: str, wanted: str, *, file: Path) -> str:
    found = re.fullmatch(r"(\s*)(.*?)((?:\s+#.*)?\s*)", old, re.DOTALL)
    if not found or found[2].endswith("\\"):
        raise misfit(
            file,
            f"a requirement on one line in place of {mask_line(old.strip())!r}",
            "one that goes on in the next line",
            way_out="Edit that requirement by hand.",
        )
    return found[1] + wanted + found[3]


def _names(line: str) -> str:
    """The distribution that a line of requirements is about, normalised; "" where it names none."""
    found = (
        re.search(r"[#&]egg=([\w.-]+)", line)
        or re.match(r"[^#]*?(?:^|/)([A-Za-z0-9_.]+)-\d[^/\s]*\.whl", line.strip())
        or re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:$|[\[\]=<>!~@;#,\s])", line)
    )
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def own_requirement(file: Path) -> str:
    """The requirement that installs this unify-db again, from where this one came.

    The name on a public index may be a stranger's, so the place is named where it is known
    (PEP 610's direct_url.json).

    Raises:
        EditError: It cannot be known; *file* is where the line was wanted.
    """
    try:
        installed = metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        return _from_source_tree(file)
    origin = installed.read_text("direct_url.json")
    if origin is None:
        return f"{_NAME}=={installed.version}"
    return f"{_NAME} @ {_describe_origin(json.loads(origin))}"


def _describe_origin(origin: dict[str, Any]) -> str:
    url = str(origin["url"])
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    folder = origin.get("subdirectory")
    return f"{url}#subdirectory={folder}" if folder else url


def _from_source_tree(file: Path) -> str:
    import unified_db

    tree = Path(unified_db.__file__).resolve().parent.parent
    if (tree / "pyproject.toml").exists():
        return f"{_NAME} @ {tree.as_uri()}"
    raise misfit(
        file,
        "where unify-db was installed from",
        "no record of it",
        way_out="Give the requirement as `value`.",
    )
