"""Sets one value of a YAML file and leaves every other character as it is.

PyYAML tells where each node stands. What the file says is compared as nodes rather than values,
so tags of an application's own (`!env`) need not be known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from unified_db.errors import EditError
from unified_db.migration.edits.texts import Splice, misfit, name_similar, splice, split_key

_BY_TEXT = "Give this edit as kind 'text'."


def set_yaml(text: str, key: str, value: str, file: Path) -> str:
    """*text* with the scalar at *key* set to *value*, in the quotes that it has now where they will do.

    Raises:
        EditError: No YAML, no such scalar, a block of text, an alias elsewhere that would change
            too, or a number where the new value is none.
    """
    documents = _compose(text, file)
    found = [n for n in (_find_node(d, split_key(key)) for d in documents) if n is not None]
    if len(found) != 1 or not isinstance(found[0], yaml.ScalarNode):
        what = "several" if len(found) > 1 else "no scalar"
        known = [k.value for d in documents if isinstance(d, yaml.MappingNode) for k, _ in d.value]
        seen = what if found else f"{name_similar(split_key(key)[0], known)} at the top"
        raise misfit(file, f"one value at {key}", seen, way_out="Give the dotted path to one value.")
    node = found[0]
    if node.value == value:
        return text
    if node.style in {"|", ">"}:
        raise misfit(file, f"a value on one line at {key}", "a block of text", way_out=_BY_TEXT)
    wanted = [_describe(d, node, value) for d in documents]
    start, end = node.start_mark.index, node.end_mark.index
    # An anchor and a tag count as part of the node; an empty value has its colon right before it.
    kept = re.match(r"(?:[&!]\S*\s+)*", text[start:end])
    head = (kept[0] if kept else "") or (" " if start == end else "")
    for literal in _yaml_literals(value, node.style):
        after = splice(text, [Splice(start, end, head + literal)])
        try:
            if [_describe(d) for d in _compose(after, file)] == wanted:
                return after
        except EditError:
            continue
    raise misfit(
        file,
        f"a way to write {key} in place",
        "an alias, or another type than the new value's",
        way_out=_BY_TEXT,
    )


def _compose(text: str, file: Path) -> list[Any]:
    try:
        return [d for d in yaml.compose_all(text, Loader=yaml.SafeLoader) if d is not None]
    except yaml.YAMLError as error:
        place = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" on line {place + 1}" if place is not None else ""
        raise misfit(
            file, "a YAML document", f"that it cannot be read{where}", way_out="Mend the file."
        ) from error


def _find_node(node: Any, path: list[str]) -> Any:
    if not path:
        return node
    if isinstance(node, yaml.MappingNode):
        inside = [v for k, v in node.value if k.value == path[0]]
        return _find_node(inside[-1], path[1:]) if inside else None
    if isinstance(node, yaml.SequenceNode) and path[0].isdigit() and int(path[0]) < len(node.value):
        return _find_node(node.value[int(path[0])], path[1:])
    return None


def _describe(node: Any, changed: Any = None, value: str = "") -> Any:
    """What a node says, without where it stands and how it is written; *changed* says *value*.

    An alias is the very node that its anchor names, so it changes with it and is told apart here.
    """

    def tell(each: Any, above: tuple[int, ...]) -> Any:
        if id(each) in above:
            return "itself"
        below = (*above, id(each))
        if isinstance(each, yaml.MappingNode):
            return each.tag, [(tell(k, below), tell(v, below)) for k, v in each.value]
        if isinstance(each, yaml.SequenceNode):
            return each.tag, [tell(v, below) for v in each.value]
        if each is changed and next(replaced, False):
            # A missing value that becomes a text changes its type by intention.
            tag = each.tag if not each.tag.endswith(":null") else "tag:yaml.org,2002:str"
            return tag, value
        return each.tag, each.value

    replaced = iter([True])  # once: a second place is an alias, whose change nobody asked for
    return tell(node, ())


def _yaml_literals(value: str, style: str | None) -> Iterator[str]:
    """Ways to write *value*, the file's own first."""
    escaped = json.dumps(value, ensure_ascii=False)
    double = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
    single = "'" + value.replace("'", "''") + "'"
    ways = {None: value, "'": single, '"': double}
    yield ways.pop(style, value)
    yield from (way for other, way in ways.items() if other)
