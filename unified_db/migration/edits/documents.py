"""Sets one value of a TOML or JSON document and leaves every other character as it is.

No parser tells where a value stands, so each place where the old literal stands is tried until
one gives the wanted document: nothing but that value may change.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unified_db.errors import EditError
from unified_db.migration.edits.ini_document import set_ini
from unified_db.migration.edits.texts import Splice, misfit, name_similar, splice, split_key
from unified_db.migration.edits.yaml_document import set_yaml

_BY_TEXT = "Give this edit as kind 'text'."
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null')


def set_value(kind: str, text: str, key: str, value: str, *, file: Path) -> str:
    """*text* with the scalar at *key* set to *value*; where a number or true/false stands, so is the new one.

    Args:
        kind: "toml", "yaml", "json" or "ini".
        text: The whole document.
        key: `a.b.0.c`; a part that holds a dot stands in double quotes. INI: `section.option`.
        value: The new value; in an INI file written as it is, `%` included.
        file: For messages.

    Raises:
        EditError: No such document, no such key, no scalar there, or no way to write it in place.
    """
    setters: dict[str, Callable[[str, str, str, Path], str]] = {
        "toml": _set_toml,
        "yaml": set_yaml,
        "json": _set_json,
        "ini": set_ini,
    }
    return setters[kind](text, key, value, file)


def _set_toml(text: str, key: str, value: str, file: Path) -> str:
    import tomlkit
    from tomlkit.items import Item

    document = _parse(tomllib.loads, text, "TOML", file)
    path, old = _walk(document, key, file)
    new = _convert(old, value, key, file)
    # tomlkit keeps how the value is written, which tomllib does not tell.
    item: Any = tomlkit.parse(text)
    for part in path:
        item = item[part]
    written = item.as_string() if isinstance(item, Item) else json.dumps(old)
    quote = next((q for q in ('"""', "'''", '"', "'") if written.startswith(q)), '"')
    literal = _toml_literal(new, quote)
    places = (m.span() for m in re.finditer(re.escape(written), text))
    wanted = _replaced(document, path, new)
    return _write(text, places, literal, tomllib.loads, (wanted, key, file))


def _toml_literal(value: Any, quote: str) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if quote.startswith("'") and value.isprintable() and "'" not in value:
        return quote + value + quote
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _set_json(text: str, key: str, value: str, file: Path) -> str:
    document = _parse(json.loads, text, "JSON", file)
    path, old = _walk(document, key, file)
    new = _convert(old, value, key, file)
    places = (m.span() for m in _JSON_TOKEN.finditer(text) if json.loads(m[0], strict=False) == old)
    wanted = _replaced(document, path, new)
    return _write(text, places, json.dumps(new, ensure_ascii=text.isascii()), json.loads, (wanted, key, file))


def _parse(read: Callable[[str], Any], text: str, name: str, file: Path) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise misfit(
            file, f"a {name} document", f"that it cannot be read: {error}", way_out=_BY_TEXT
        ) from error


def _walk(document: Any, key: str, file: Path) -> tuple[list[str | int], Any]:
    """The way to *key* and the scalar there."""
    path: list[str | int] = []
    node = document
    for part in split_key(key):
        step: str | int = int(part) if isinstance(node, list) and part.isdigit() else part
        known = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
        if step not in known:
            raise _no_key(key, path, [str(k) for k in known], file)
        node = node[step]
        path.append(step)
    if not path or isinstance(node, (dict, list)):
        raise misfit(file, f"one value at {key}", "a table or a list", way_out="Give the key of one value.")
    return path, node


def _no_key(key: str, path: Iterable[str | int], known: Iterable[str], file: Path) -> EditError:
    way = [str(part) for part in path]
    at = ".".join(way)
    wanted = split_key(key)[len(way)]
    where = f" in {at}" if at else ""
    return misfit(
        file,
        f"the key {key}",
        name_similar(wanted, known) + where,
        way_out="Give the key as the file has it.",
    )


def _convert(old: Any, value: str, key: str, file: Path) -> Any:
    """*value* in the type of *old*."""
    if old is None or isinstance(old, str):
        return value
    try:
        new = json.loads(value)
    except ValueError:
        new = None
    if type(new) is not type(old):
        raise misfit(
            file,
            f"a text at {key}",
            f"{type(old).__name__} there, and the new value is none",
            way_out=_BY_TEXT,
        )
    return new


def _replaced(document: Any, path: list[str | int], value: Any) -> Any:
    document = copy.deepcopy(document)
    node = document
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return document


def _write(
    text: str,
    places: Iterable[tuple[int, int]],
    literal: str,
    read: Callable[[str], Any],
    goal: tuple[Any, str, Path],
) -> str:
    """*text* with *literal* at the one place that makes the document what it shall be."""
    wanted, key, file = goal
    # repr tells 1 from 1.0 and True, which == does not.
    if repr(read(text)) == repr(wanted):
        return text
    for start, end in places:
        after = splice(text, [Splice(start, end, literal)])
        try:
            if repr(read(after)) == repr(wanted):
                return after
        except ValueError:
            continue
    raise misfit(file, f"the place of {key} in the text", "none that changes it alone", way_out=_BY_TEXT)
