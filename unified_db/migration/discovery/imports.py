"""Which modules of a tree import which, told from their text without parsing them."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import cache, cached_property

from unified_db.migration.discovery.tree import Tree
from unified_db.migration.edits.survey import is_test

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#;]+)"
    r"|import[ \t]+(?P<modules>[\w., \t]+))",
    re.MULTILINE,
)


class ImportGraph:
    """The imports of a tree's own modules."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._direct = cache(self._read)
        self._closed = cache(self._close)
        self._importing = cache(self._close_upwards)

    def meet(self, one: str, other: str) -> bool:
        """True where both files run in one process: one imports the other, or something imports both."""
        if one == other or other in self._closed(one) or one in self._closed(other):
            return True
        return not self._importing(one).isdisjoint(self._importing(other))

    def bases(self, file: str) -> frozenset[str]:
        """The folders that must be on Python's path for the absolute imports of *file*."""
        return frozenset(base for base, _, level in self._named(file) if not level)

    def _close(self, file: str) -> frozenset[str]:
        """*file* and all that it imports, through others too."""
        return _reached(file, self._direct)

    def _close_upwards(self, file: str) -> frozenset[str]:
        """*file* and all that import it, through others too; tests are left out."""
        return _reached(file, lambda each: self._importers.get(each, set()))

    @cached_property
    def _importers(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for file in (f for f in self._tree.python_files if not is_test(f)):
            for imported in self._direct(file):
                found.setdefault(imported, set()).add(file)
        return found

    def _read(self, file: str) -> frozenset[str]:
        found = (self._tree.module_file(base, dotted) for base, dotted, _ in self._named(file))
        return frozenset(f for f in found if f)

    def _named(self, file: str) -> set[tuple[str, str, int]]:
        """(base folder, dotted name, dots) of each module of the tree that *file* may import."""
        found: set[tuple[str, str, int]] = set()
        for match in _IMPORT.finditer(self._tree.text(file) or ""):
            level = len(match["dots"] or "")
            for dotted in _modules(match):
                place = self._tree.find_module(dotted, file, level)
                if place is not None:
                    found.add((*place, level))
        return found


def _reached(first: str, following: Callable[[str], AbstractSet[str]]) -> frozenset[str]:
    """*first* and all that *following* leads to from there."""
    found = {first}
    waiting = [first]
    while waiting:
        new = following(waiting.pop()) - found
        found |= new
        waiting += new
    return frozenset(found)


def _modules(match: re.Match[str]) -> list[str]:
    if match["modules"]:
        return [each.split()[0] for each in match["modules"].split(",") if each.strip()]
    names = re.sub(r"#[^\n]*", "", match["names"]).strip("() \n\t")
    imported = [each.split()[0] for each in names.split(",") if each.strip()]
    module = match["module"]
    # `from package import name` may mean a module of the package.
    below = [f"{module}.{name}" if module else name for name in imported if name != "*"]
    return ([module] if module else []) + below
