"""Exchanges a text literal of Python code by its value, wherever it stands: in a call, a join, an f-string.

For paths that no constant and no parameter holds alone. Quotes, comments, documentation strings and
longer texts that contain the old one stay as they are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from unified_db.migration.edits.masking import mask_line
from unified_db.migration.edits.python_source import PythonSource, require_compiles, statements
from unified_db.migration.edits.python_values import assigned, enter, quote_like
from unified_db.migration.edits.texts import misfit, name_similar, splice

if TYPE_CHECKING:
    import libcst as cst

_WAY_OUT = "Copy the value of the literal as it is now, or give this edit as kind 'text'."


def exchange_literal(text: str, old: str, new: str, *, file: Path, within: str = "") -> str:
    """*text* with every text literal whose value is *old* set to *new*.

    Args:
        text: The module.
        old: The whole value of a literal; of an f-string the piece between two fields.
        new: The new value.
        file: For messages.
        within: The constant, function, class or method (`Class.name`) that has the literal;
            without it the whole module is meant.

    Raises:
        EditError: Neither *old* nor *new* is a literal there, or there is no such place.
    """
    source = PythonSource(text, file)
    literals = [each for node in _places(source, within) for each in _literals(source, node)]
    splices = [source.put(node, _write(source, node, new)) for node, value in literals if value == old]
    if not splices:
        if any(value == new for _, value in literals):
            return text
        where = f" in {within}" if within else ""
        raise misfit(
            file,
            f"the text literal {mask_line(old)!r}{where}",
            mask_line(name_similar(old, (value for _, value in literals))),
            way_out=_WAY_OUT,
        )
    after = splice(text, splices)
    require_compiles(text, after, file=file)
    return after


def _places(source: PythonSource, within: str) -> list[cst.CSTNode]:
    if not within:
        return [source.module]
    *path, last = within.split(".")
    owner = enter(source, source.module, path)
    values = [value for node in statements(owner) for name, value in assigned(node) if name == last]
    return values or [enter(source, owner, [last])]


def _literals(source: PythonSource, node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, str]]:
    """Every text literal of *node* with its value; of texts side by side the whole alone."""
    import libcst as cst
    from libcst import matchers as m

    kinds = m.SimpleString() | m.ConcatenatedString() | m.FormattedStringText()
    for found in m.findall(node, kinds):
        parent = source.parents.get(found)
        if isinstance(parent, (cst.Expr, cst.ConcatenatedString)) and isinstance(found, cst.BaseString):
            continue  # documentation, or part of a longer text
        value = _value(source, found)
        if isinstance(value, str):
            yield found, value


def _value(source: PythonSource, node: cst.CSTNode) -> object:
    import libcst as cst

    code = source.code(node)
    if isinstance(node, cst.FormattedStringText):
        prefix, quote = _string_around(source, node)
        code = f"{prefix}{quote}{code.replace('{{', '{').replace('}}', '}')}{quote}"
    try:
        # Lines of texts side by side are held together by parentheses alone.
        return ast.literal_eval(f"({code}\n)")
    except (SyntaxError, ValueError):
        return None


def _write(source: PythonSource, node: cst.CSTNode, value: str) -> str:
    import libcst as cst

    if not isinstance(node, cst.FormattedStringText):
        return quote_like(value, like=node)
    prefix, quote = _string_around(source, node)
    plain = value.replace("{", "{{").replace("}", "}}")
    escaped = plain.replace("\\", "\\\\").replace(quote[0], "\\" + quote[0])
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in escaped)
    if not prefix:
        return escaped
    if plain != escaped:
        raise misfit(
            source.file,
            "a value that a raw f-string can hold",
            f"{mask_line(value)!r} for line {source.line(node)}",
            way_out="Make this edit as kind 'text'.",
        )
    return plain


def _string_around(source: PythonSource, node: cst.CSTNode) -> tuple[str, str]:
    """("r" where it is raw, the quotes) of the f-string that *node* is a piece of."""
    import libcst as cst

    string: cst.CSTNode = node
    while not isinstance(string, cst.FormattedString):
        string = source.parents[string]
    return "r" if "r" in string.prefix.lower() else "", string.quote
