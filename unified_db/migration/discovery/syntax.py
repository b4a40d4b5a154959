"""The Python files of a tree, parsed where they are asked for: imports, names and constant texts.

Nothing is imported or run. A file that Python cannot parse counts as one that says nothing.
"""

from __future__ import annotations

import ast
import functools
import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from unified_db.migration.edits.survey import is_test, walk_folder

_MAX_FILES = 20_000


@dataclass(frozen=True)
class Module:
    """One Python file.

    Attributes:
        file: Relative to the root.
        imports: Each imported name: the module it comes from (dots lead to relative ones), and its
            name there; an empty name is the module itself.
    """

    file: PurePosixPath
    text: str
    tree: ast.Module = field(repr=False)
    imports: Mapping[str, tuple[str, str]] = field(repr=False)

    @functools.cached_property
    def constants(self) -> dict[str, str | int]:
        """Names of the module that are set to a plain text or number."""
        found: dict[str, str | int] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if isinstance(node.value.value, str | int):
                    found |= {t.id: node.value.value for t in targets if isinstance(t, ast.Name)}
        return found

    @functools.cached_property
    def is_run(self) -> bool:
        """True where the file does something when it is run: it has `if __name__ == "__main__"`."""
        return any(_asks_for_main(node) for node in self.tree.body)


class Sources:
    """All files of the tree at *root* that may say something, by their places relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = tuple(_list_files(root))
        self._python = tuple(f for f in self.files if f.suffix == ".py")
        self._own_python = tuple(f for f in self._python if not is_test(f))
        self._texts: dict[PurePosixPath, str] = {}
        self._modules: dict[PurePosixPath, Module | None] = {}

    def text(self, file: PurePosixPath) -> str:
        """The text of *file*; empty where it cannot be read."""
        if file not in self._texts:
            self._texts[file] = self._read(file)
        return self._texts[file]

    def _read(self, file: PurePosixPath) -> str:
        try:
            content = (self.root / file).read_bytes()
        except OSError:
            return ""
        return "" if b"\0" in content else content.decode("utf-8-sig", "replace")

    def module(self, file: PurePosixPath) -> Module | None:
        """The module in *file*; None where it is no Python."""
        if file not in self._modules:
            self._modules[file] = _parse(file, self.text(file))
        return self._modules[file]

    def mentioning(self, *words: str) -> Iterator[Module]:
        """The modules in whose text one of *words* stands; tests are left out."""
        for file, _ in self.texts_with(*words):
            module = self.module(file)
            if module is not None:
                yield module

    def texts_with(self, *words: str) -> Iterator[tuple[PurePosixPath, str]]:
        """The Python files in whose text one of *words* stands, with their texts; tests are left out."""
        texts = ((f, self.text(f)) for f in self._own_python)
        return ((f, text) for f, text in texts if any(w in text for w in words))

    def find(self, dotted: str, *, near: Module) -> Module | None:
        """The module of the tree that *near* calls *dotted*; None for one from elsewhere."""
        file = self._file_of(dotted, near.file.parent)
        return self.module(file) if file is not None else None

    def _file_of(self, dotted: str, folder: PurePosixPath) -> PurePosixPath | None:
        level = len(dotted) - len(dotted.lstrip("."))
        parts = [p for p in dotted.lstrip(".").split(".") if p]
        if level:
            homes = [(folder, *folder.parents)[min(level - 1, len(folder.parents))]]
        else:
            # The nearest folder counts, as it does where a script's own folder is looked at first.
            homes = [folder, *folder.parents]
        for home in homes:
            stem = home.joinpath(*parts)
            for file in (stem / "__init__.py", stem.with_name(stem.name + ".py") if parts else stem):
                if file in self._known:
                    return file
        return None

    @functools.cached_property
    def _known(self) -> frozenset[PurePosixPath]:
        return frozenset(self._python)

    @functools.cached_property
    def _folders(self) -> frozenset[PurePosixPath]:
        return frozenset(folder for file in self._python for folder in file.parents)

    def base_of(self, module: Module) -> PurePosixPath:
        """The folder from which *module* can be imported by its own name, as its own imports show."""
        for dotted, _ in module.imports.values():
            first = dotted.split(".")[0]
            file = self._file_of(first, module.file.parent) if first else None
            if file is not None:
                return file.parent.parent if file.name == "__init__.py" else file.parent
            for home in (module.file.parent, *module.file.parent.parents):
                # A package without __init__.py.
                if first and home / first in self._folders:
                    return home
        folder = module.file.parent
        while folder / "__init__.py" in self._known:
            folder = folder.parent
        return folder


def dotted_name(node: ast.AST | None) -> str:
    """`a.b.c` of a name or attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted_name(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def call_name(node: ast.AST | None) -> str:
    """The last part of the name that a call calls; empty where *node* is none."""
    return dotted_name(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of the keyword *name* in *call*."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def constant(node: ast.AST | None, module: Module) -> str | int | None:
    """The text or number that *node* is, followed through a constant of the module."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    return module.constants.get(node.id) if isinstance(node, ast.Name) else None


def _asks_for_main(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(dotted_name(s) == "__name__" for s in sides)


def _parse(file: PurePosixPath, text: str) -> Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return Module(file, text, tree, dict(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                local = name.asname or name.name.split(".")[0]
                yield local, (name.name if name.asname else local, "")
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            yield from ((n.asname or n.name, (home, n.name)) for n in node.names)


def _list_files(root: Path) -> Iterator[PurePosixPath]:
    for path in itertools.islice(walk_folder(root), _MAX_FILES):
        yield PurePosixPath(path.relative_to(root).as_posix())
