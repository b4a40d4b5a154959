"""An application's tree as texts: which files it has, what they hold, where an import leads."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath

from unified_db.errors import EditError
from unified_db.migration.discovery.modules import Module
from unified_db.migration.edits import texts
from unified_db.migration.edits.masking import is_dotenv
from unified_db.migration.edits.survey import is_test, walk_folder

_MOST_FILES = 20_000
# Of the code that is looked through in any case, and of the rest what is parsed at most, in characters. To
# parse a million of them takes ten seconds.
_MOST_NEAR = 3_000_000
_MOST_FAR = 500_000
_SETTINGS_SUFFIXES = {".toml", ".yaml", ".yml", ".json", ".ini", ".cfg", ".conf"}
_TEMPLATE_END = re.compile(r"(?:example|sample|template|dist|tmpl|default)s?$", re.IGNORECASE)


class Tree:
    """The files of a tree below *root*; each is read and parsed at most once.

    Attributes:
        root: Absolute.
        overlay: Texts that stand in for those on the disk, by the file's name in the tree.
        unread: Files that could not be read or parsed, with the reason; grows as files are asked for.
    """

    def __init__(
        self, root: Path, overlay: Mapping[str, str] | None = None, *, known: Tree | None = None
    ) -> None:
        self.root = root.resolve()
        self.overlay = dict(overlay or {})
        self.unread: dict[str, str] = {}
        self._known = known
        self._texts: dict[str, str | None] = {}
        self._modules: dict[str, Module | None] = {}
        self._mentions: dict[re.Pattern[str], tuple[str, ...]] = {}
        self._room = _MOST_FAR
        self._far: set[str] = set()
        self._left: set[str] = set()

    def with_texts(self, overlay: Mapping[str, str]) -> Tree:
        """The same tree with *overlay* instead of its own; what this one has read is not read again."""
        tree = Tree(self.root, overlay, known=self)
        tree._texts = self._texts
        tree.unread = {f: why for f, why in self.unread.items() if f not in tree._others}
        tree._room, tree._far, tree._left = self._room, set(self._far), set(self._left)
        tree._modules = {f: module for f, module in self._modules.items() if f not in tree._others}
        return tree

    @cached_property
    def _others(self) -> frozenset[str]:
        """The files that may be others than in the tree that this one was made of."""
        return frozenset((*self.overlay, *(self._known.overlay if self._known else ())))

    @cached_property
    def files(self) -> frozenset[str]:
        """Every file of the tree up to 1 MB, by its name in it; at most 20,000."""
        if self._known is not None:
            return self._known.files
        found: set[str] = set()
        for path in walk_folder(self.root):
            found.add(path.relative_to(self.root).as_posix())
            if len(found) >= _MOST_FILES:
                self.unread["."] = f"more than {_MOST_FILES} files: the rest was not looked at"
                break
        return frozenset(found)

    @cached_property
    def python_files(self) -> tuple[str, ...]:
        """The Python files, sorted."""
        return tuple(sorted(f for f in self.files if f.endswith(".py")))

    @cached_property
    def dotenv_files(self) -> tuple[str, ...]:
        """The dotenv files, templates of them included."""
        return tuple(sorted(f for f in self.files if is_dotenv(f) or _is_dotenv_template(f)))

    @cached_property
    def settings_files(self) -> tuple[str, ...]:
        """TOML, YAML, JSON and INI files."""
        return tuple(sorted(f for f in self.files if PurePosixPath(f).suffix in _SETTINGS_SUFFIXES))

    def text(self, file: str) -> str | None:
        """What *file* holds; None where it is not in the tree, or no text."""
        if file in self.overlay:
            return self.overlay[file]
        if file not in self._texts:
            self._texts[file] = self._read(file) if file in self.files else None
        return self._texts[file]

    def _read(self, file: str) -> str | None:
        try:
            return texts.decode((self.root / file).read_bytes(), file=Path(file)).text
        except EditError as error:
            self.unread[file] = error.message
        except OSError as error:
            self.unread[file] = f"{file}: {error.strerror}"
        return None

    def module(self, file: str) -> Module | None:
        """*file* parsed; None where it is missing or no Python that can be parsed."""
        if file not in self._modules:
            text = self.text(file)
            self._modules[file] = None if text is None else self._parse(file, text)
        return self._modules[file]

    def _parse(self, file: str, text: str) -> Module | None:
        module = Module(file, self.root / file, text)
        try:
            _refuse_deep(text)
            module.parse()
        except EditError as error:
            self.unread[file] = error.message
        except RecursionError:
            self.unread[file] = f"{file}: nested too deeply to be read"
        else:
            return module
        return None

    def mentioning(self, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """Python files of the application itself whose text has *pattern*; its tests are left out.

        Where there is more code than an application has, only some of the files that are not :attr:`near`
        are among them; `unread` says so.
        """
        if pattern not in self._mentions:
            found = sorted(f for f in self._unsearched(pattern) if pattern.search(self.text(f) or ""))
            self._mentions[pattern] = self._admitted(found)
        return self._mentions[pattern]

    def _unsearched(self, pattern: re.Pattern[str]) -> Collection[str]:
        """The application's Python files that may have *pattern*."""
        if self._known is None:
            return self._own_python
        # What the other tree was asked counts for this one, but for the files that differ.
        return {*self._known.mentioning(pattern), *self._others} & self._own_python

    def calling(self, name: str) -> tuple[str, ...]:
        """Python files of the application itself, but for its tests, that call something of that *name*."""
        pattern = re.compile(rf"\b{re.escape(name)}\s*\(")
        texts_of = ((f, self.text(f) or "") for f in sorted(self.near | self._far))
        return tuple(f for f, text in texts_of if name in text and pattern.search(text))

    def _admitted(self, files: Sequence[str]) -> tuple[str, ...]:
        """Those of *files* that are near, and of the others as many as may still be parsed."""
        for file in sorted(set(files) - self.near - self._far, key=self._sizes_of_folders):
            self._room -= len(self.text(file) or "")
            if self._room < 0:
                break
            self._far.add(file)
        kept = [f for f in files if f in self.near or f in self._far]
        left = sorted(set(files) - set(kept))
        if left:
            self._left.update(left)
            home = os.path.commonpath([str(PurePosixPath(f).parent) for f in self._left]) or "the root"
            self.unread["far"] = (
                f"{home}: {len(self._left)} Python files, in larger folders than the rest and more code than "
                "is looked through"
            )
        return tuple(kept)

    @cached_property
    def near(self) -> frozenset[str]:
        """Python files of the application itself, those of the smallest folders first: at most 3 MB.

        An application's own folders are smaller than those of the libraries that lie beside it.
        """
        if self._known is not None:
            return self._known.near
        sizes = ((f, len(self.text(f) or "")) for f in sorted(self._own_python, key=self._sizes_of_folders))
        totals = accumulate(sizes, lambda above, each: (each[0], above[1] + each[1]))
        return frozenset(f for f, total in totals if total <= _MOST_NEAR)

    @cached_property
    def _own_python(self) -> frozenset[str]:
        return frozenset(f for f in self.python_files if not is_test(f))

    def _sizes_of_folders(self, file: str) -> tuple[list[int], str]:
        """How many Python files each folder around *file* has, the outermost first."""
        folders = list(PurePosixPath(file).parents)[-2::-1]
        return [self._python_below[f] for f in folders], file

    @cached_property
    def _python_below(self) -> Counter[PurePosixPath]:
        return Counter(p for f in self.python_files for p in PurePosixPath(f).parents)

    def find_module(self, dotted: str, importer: str, level: int = 0) -> tuple[str, str] | None:
        """(base folder, dotted name below it) of the module that *importer* imports; None for a library's.

        Folders that are packages are asked last: Python has their parent on its path. Of those
        that are left the nearest to the importer wins.
        """
        if level:
            parts = PurePosixPath(importer).parent.parts
            base = "/".join(parts[: len(parts) - level + 1])
            return (base, dotted) if not dotted or self.module_file(base, dotted) is not None else None
        return next(
            ((base, dotted) for base in self._bases(importer) if self.module_file(base, dotted) is not None),
            None,
        )

    def module_file(self, base: str, dotted: str) -> str | None:
        """The file of a module; "" for a folder with Python files and no `__init__.py`."""
        stem = "/".join(part for part in (base, dotted.replace(".", "/")) if part)
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in self.files:
                return file
        return "" if stem in self._folders else None

    @cached_property
    def _folders(self) -> frozenset[str]:
        parents = (PurePosixPath(f).parents for f in self.python_files)
        return frozenset(str(p) for each in parents for p in each if str(p) != ".")

    def _bases(self, importer: str) -> list[str]:
        folders = ["" if str(p) == "." else str(p) for p in PurePosixPath(importer).parents]
        folders += [f"{f}/src" if f else "src" for f in folders]
        return sorted(folders, key=lambda f: bool(f) and f"{f}/__init__.py" in self.files)

    def relative(self, path: str) -> str | None:
        """The name in the tree of an absolute *path*; None outside."""
        try:
            return Path(path).relative_to(self.root).as_posix()
        except ValueError:
            return None


def _refuse_deep(text: str) -> None:
    """Raise where Python itself gives up on the nesting.

    LibCST's parser would go on until its stack is used up, which ends the process.

    Raises:
        RecursionError: Nested too deeply.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the application's own strings
            ast.parse(text)
    except (SyntaxError, ValueError) as error:
        # Otherwise it may be the syntax of another release, which LibCST may know.
        if "too many" in str(error):
            raise RecursionError from error
    except MemoryError as error:
        raise RecursionError from error


def is_template(file: str) -> bool:
    """True for dotenv files that are there to be copied, such as `.env.example`."""
    return _is_dotenv_template(file)


def _is_dotenv_template(file: str) -> bool:
    name = PurePosixPath(file).name
    return "env" in name.lower().split(".") + name.lower().split("-") and bool(
        _TEMPLATE_END.search(name.removesuffix(".env"))
    )
