"""Where a literal stands, as edits name it: the constant or function that has it, or its line."""

from __future__ import annotations

import re

import libcst as cst

from unified_db.migration.discovery.modules import Module
from unified_db.migration.discovery.texts_of import qualified_name


def scope_name(module: Module, line: int, raw: str) -> str | None:
    """The constant, function or class that has the literal *raw* of a line; "" for none of them.

    None where no literal of that value begins on the line; of an f-string *raw* is the piece between two
    fields.
    """
    for node in module.nodes:
        value: object = None
        if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
            value = node.evaluated_value
        elif isinstance(node, cst.FormattedStringText):
            value = node.value.replace("{{", "{").replace("}}", "}")
        if value == raw and module.line(node) == line:
            return scope_around(module, node)
    return None


def scope_around(module: Module, node: cst.CSTNode) -> str:
    """The constant, function or class that *node* is in, as edits name it; "" for none of them."""
    for above in module.above(node):
        if isinstance(above, (cst.FunctionDef, cst.ClassDef)):
            return qualified_name(module, above)
        if isinstance(above, (cst.Assign, cst.AnnAssign)):
            target = above.targets[0].target if isinstance(above, cst.Assign) else above.target
            scope = module.scope_of(above)
            if isinstance(target, cst.Name) and isinstance(scope, cst.Module):
                return target.value
            if isinstance(target, cst.Name) and isinstance(scope, cst.ClassDef):
                return f"{qualified_name(module, scope)}.{target.value}"
    return ""


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
