"""Copies an application's tree: what belongs to it, links and modes kept, no way back to the real files.

What is left out weighs much or is made anew: version control, virtual environments, caches; the real
databases, which get staged copies of their own; and what is no file: sockets, pipes, devices.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unified_db import files
from unified_db.errors import UsageError
from unified_db.migration.config import MigrationConfig
from unified_db.migration.edits import survey

# Dependencies that lie in the tree and are no environment come along: the application may run on them.
_LEFT_OUT = survey.SKIPPED_FOLDERS - {"site-packages", "venv"}


@dataclass(frozen=True)
class Tree:
    """An application's tree and what of it a copy holds.

    Attributes:
        config: The application's configuration.
        places: Each real database to its place below the root; not copied, and links to one lead there.
        within: Folders outside of the root that are being copied in the place of a link.
    """

    config: MigrationConfig
    places: Mapping[Path, Path]
    within: tuple[Path, ...] = field(default=())

    def copy(self, root: Path, *, twin: Path | None = None) -> None:
        """Copy the tree to *root*, which must not exist.

        File systems that can share blocks between files do (copy_file_range(2)): then a copy takes no
        room until somebody writes. A staged write never reaches the original, nor the other copy but
        for what `staging.shared` names.

        Args:
            root: Where to.
            twin: Another copy. What `staging.shared` names is one file of both, where it has it.
        """
        self._copy_folder(self.config.root, root, root=root, twin=twin)

    def files(self) -> Iterator[Path]:
        """The files of the application's tree that a copy holds; links are not followed."""
        yield from self._files_below(self.config.root)

    def is_shared(self, path: Path) -> bool:
        """True where both copies have *path* as one file."""
        # What the switch edits differs between the two.
        edited = any(self.config.resolve(edit.file) == path for edit in self.config.edit)
        return not edited and _matches(path.relative_to(self.config.root), self.config.staging.shared)

    def _files_below(self, folder: Path) -> Iterator[Path]:
        for path in self._kept_entries(folder):
            if path.is_symlink():
                continue
            if path.is_dir():
                yield from self._files_below(path)
            elif path.is_file():
                yield path

    def _copy_folder(self, folder: Path, copy: Path, *, root: Path, twin: Path | None) -> None:
        copy.mkdir()
        for path in self._kept_entries(folder):
            target = copy / path.name
            if path.is_symlink():
                self._copy_link(path, target, root=root, twin=twin)
            elif path.is_dir():
                self._copy_folder(path, target, root=root, twin=twin)
            elif path.is_file():
                self._copy_file(path, target, twin=twin)
        shutil.copystat(folder, copy)
        # A folder that we may not write to could not be removed again.
        copy.chmod(copy.stat().st_mode | 0o700)

    def _copy_file(self, path: Path, target: Path, *, twin: Path | None) -> None:
        other = twin / path.relative_to(self.config.root) if twin else None
        if other is not None and self.is_shared(path) and other.is_file() and not other.is_symlink():
            target.hardlink_to(other)
            return
        try:
            files.copy_content(path, target)
        except FileNotFoundError:
            return  # the application goes on working, and has removed it since
        except PermissionError as error:
            raise UsageError(
                f"{self.config.label(path)} cannot be copied to rehearse on: {error.strerror}",
                hint="Nothing was changed. Make it readable, or name it in [staging] exclude.",
            ) from error
        shutil.copystat(path, target)

    def _kept_entries(self, folder: Path) -> list[Path]:
        skipped = {self.config.state_folder, *self._databases()}
        staging = self.config.staging
        # With the real server's pid file a staged one would take itself for running, or stop the real one.
        left_out = ("*.pid", *(glob.rstrip("/") for glob in staging.exclude))
        wanted = tuple(glob.rstrip("/") for glob in staging.include)

        def is_kept(path: Path) -> bool:
            relative = path.relative_to(self.config.root)
            if path in skipped or _matches(relative, left_out[1:]):
                return False
            if _matches(relative, wanted):
                return True
            is_of_tools = path.name in _LEFT_OUT or survey.is_environment(path)
            return not (is_of_tools or _matches(relative, left_out))

        return [path for path in sorted(folder.iterdir()) if is_kept(path)]

    def _databases(self) -> list[Path]:
        # By their own names too: where one is a link, the link is not copied either.
        named = [self.config.root / place for place in self.places.values()]
        return [path for base in (*self.places, *named) for path in files.family(base)]

    def _copy_link(self, link: Path, target: Path, *, root: Path, twin: Path | None) -> None:
        """A link into the tree leads into the copy; one out of it still leads there, but to no database."""
        text, aim = link.readlink(), link.resolve()
        if aim in self.places:
            target.symlink_to(os.path.relpath(root / self.places[aim], target.parent))
        elif self._leads_to_databases(aim):
            inner = Tree(self.config, self.places, (*self.within, aim))
            inner._copy_folder(link, target, root=root, twin=twin)
        elif not text.is_absolute() and self._stays(link):
            target.symlink_to(text)
        elif aim.is_relative_to(self.config.root):
            target.symlink_to(os.path.relpath(root / aim.relative_to(self.config.root), target.parent))
        elif not any(folder.is_relative_to(aim) for folder in self.within):
            target.symlink_to(aim)

    def _leads_to_databases(self, aim: Path) -> bool:
        """True for a folder outside of the tree that holds a real database."""
        root = self.config.root
        if aim.is_relative_to(root) or root.is_relative_to(aim) or not aim.is_dir():
            return False
        # A link in there that leads to a folder on the way would never come to an end.
        if any(folder.is_relative_to(aim) for folder in self.within):
            return False
        return any(real.is_relative_to(aim) for real in self.places)

    def _stays(self, link: Path) -> bool:
        """True where the text of the relative *link* never climbs above the root."""
        depth = len(link.parent.relative_to(self.config.root).parts)
        for part in link.readlink().parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                return False
        return True


def _matches(relative: Path, globs: tuple[str, ...]) -> bool:
    names = (relative.name, relative.as_posix())
    # A glob that names a folder means what is in it too.
    folders = tuple(parent.as_posix() for parent in relative.parents if parent.name)
    return any(fnmatch.fnmatch(name, glob.rstrip("/")) for glob in globs for name in (*names, *folders))
