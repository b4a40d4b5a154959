"""A Python module read with LibCST: where each node stands, what each name means.

Edits splice characters into the text rather than printing a changed tree, so what an edit
is not about cannot change.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_db.migration.edits.texts import Splice, misfit

if TYPE_CHECKING:
    import libcst as cst
    from libcst.metadata import Scope


@dataclass(frozen=True)
class PythonSource:
    """The text of a Python module and, computed when asked for, what LibCST knows of it."""

    text: str
    file: Path

    @cached_property
    def _wrapper(self) -> Any:
        # LibCST takes a third of a second to import, and most runs edit no Python before the switch.
        import libcst as cst
        from libcst.metadata import MetadataWrapper

        try:
            return MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            raise misfit(
                self.file,
                "Python source",
                f"a syntax error on line {error.raw_line}",
                way_out="Mend the file.",
            ) from error

    @property
    def module(self) -> cst.Module:
        """The tree."""
        module: cst.Module = self._wrapper.module
        return module

    @cached_property
    def _spans(self) -> Mapping[Any, Any]:
        from libcst.metadata import ByteSpanPositionProvider

        spans: Mapping[Any, Any] = self._wrapper.resolve(ByteSpanPositionProvider)
        return spans

    @cached_property
    def _offsets(self) -> list[int]:
        """For each byte of the text in UTF-8 the character that it belongs to."""
        widths = (len(c.encode()) for c in self.text)
        offsets = itertools.chain.from_iterable([i] * n for i, n in enumerate(widths))
        return [*offsets, len(self.text)]

    @cached_property
    def parents(self) -> Mapping[cst.CSTNode, cst.CSTNode]:
        """The node that each node is part of."""
        from libcst.metadata import ParentNodeProvider

        parents: Mapping[cst.CSTNode, cst.CSTNode] = self._wrapper.resolve(ParentNodeProvider)
        return parents

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Every scope of the module once."""
        from libcst.metadata import ScopeProvider

        found = self._wrapper.resolve(ScopeProvider).values()
        return tuple(dict.fromkeys(s for s in found if s is not None))

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """First character of *node* and the one behind it; parentheses around it not counted."""
        span = self._spans[node]
        return self._offsets[span.start], self._offsets[span.start + span.length]

    def code(self, node: cst.CSTNode) -> str:
        """The text of *node* as it stands in the file."""
        start, end = self.span(node)
        return self.text[start:end]

    def line(self, node: cst.CSTNode) -> int:
        """The line that *node* begins on, the first being 1."""
        start = self.span(node)[0]
        return len(self.text[:start].splitlines()) + (start == 0 or self.text[start - 1] in "\r\n")

    def put(self, node: cst.CSTNode, text: str) -> Splice:
        """The splice that writes *text* in place of *node*."""
        return Splice(*self.span(node), text)


def statements(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The statements of *node*, in `if`, `try` and `with` too, but not in functions and classes."""
    import libcst as cst

    for child in node.children:
        if isinstance(child, (cst.ClassDef, cst.FunctionDef, cst.BaseSmallStatement)):
            yield child
        elif not isinstance(child, cst.BaseExpression):
            yield from statements(child)


def require_compiles(before: str, after: str, *, file: Path) -> None:
    """Nothing where *after* compiles.

    Raises:
        EditError: *before* compiled and *after* does not.
    """
    error = _syntax_error(after)
    if error and not _syntax_error(before):
        raise misfit(
            file,
            "an edit that leaves valid Python",
            f"that the result would not compile ({error.msg}, line {error.lineno})",
            way_out="Make this edit by hand or as kind 'text'.",
        )


def _syntax_error(text: str) -> SyntaxError | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the application's own strings
        try:
            compile(text, "<edited>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error
    return None
