"""What a power cut may leave, at every point of what a process of ours did: a recording, and its replay.

The file system of this model keeps the content of a file only after an fsync of the file, and a name only
after an fsync of its folder, each as it was at that moment. What was not synced may be there or not: so
four things may be found after a cut at a point (:data:`WORLDS`). SQLite keeps what it commits, as it
says (sqlite.org/atomiccommit.html); the end of its own journals needs a sync of the folder as any name.

The process that is recorded waits at each point until this one has looked at the files: who opens and
closes a database by hand drops the locks of his own process, so nobody does so there.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.migration import crash_points

# Folders and files by their paths in the tree: mode, and of a file its content.
Tree = dict[str, tuple[int, bytes | None]]
WORLDS = (
    "only what was synced",
    "names before contents",
    "contents before names",
    "half of what was appended",
)


@dataclass(frozen=True)
class Cut:
    """What a power cut at a point may leave.

    Attributes:
        point: Its number, and what was about to be done.
        world: Which of :data:`WORLDS`.
    """

    point: str
    world: str
    tree: Tree = field(repr=False)

    def write(self, root: Path) -> None:
        """Have *root* be this tree and nothing else."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, (mode, content) in self.tree.items():
            path = root / name
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)
            path.chmod(stat.S_IMODE(mode))


@dataclass
class Disk:
    """The files under *root* as they are, and as they would be found after a power cut now."""

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, tuple[int, bytes | None]] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)

    def sync_all(self) -> None:
        """Everything is on the disk, as after a while without any work."""
        self.names, self.contents = self._look()

    def sync(self, path: Path) -> None:
        """An fsync of *path* has returned."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            self.names[status.st_ino] = {e.name: e.inode() for e in os.scandir(path)}
            self.contents.setdefault(status.st_ino, (status.st_mode, None))
        else:
            self.contents[status.st_ino] = (status.st_mode, path.read_bytes())

    def note_statement(self, sql: str, database: str, connection: int) -> None:
        """SQLite is about to execute *sql*; what it commits is synced once it has."""
        if sql.startswith("SQL BEGIN"):
            self.begun.add(connection)
        elif sql.startswith("SQL ROLLBACK"):
            self.begun.discard(connection)
        elif sql.startswith(("SQL COMMIT", "SQL close")) or connection not in self.begun:
            self.begun.discard(connection)
            self.pending.add(database)

    def settle(self) -> None:
        """The statements that were noted have ended."""
        for database in self.pending:
            for suffix in ("", "-wal"):
                self.sync(Path(database + suffix))
        self.pending.clear()

    def cuts(self, point: str) -> Iterator[Cut]:
        """What a power cut may leave now."""
        names, contents = self._look()
        top = self.root.stat().st_ino
        for world, which, what in (
            (WORLDS[0], self.names, self.contents),
            (WORLDS[1], names, self.contents),
            (WORLDS[2], self.names, {**self.contents, **contents}),
            (WORLDS[3], names, self._halves(contents)),
        ):
            yield Cut(point, world, dict(_walk("", top, which, what, contents)))

    def _look(self) -> tuple[dict[int, dict[str, int]], dict[int, tuple[int, bytes | None]]]:
        names: dict[int, dict[str, int]] = {}
        contents: dict[int, tuple[int, bytes | None]] = {}
        for folder, _, files in os.walk(self.root):
            place = Path(folder)
            status = place.stat()
            names[status.st_ino] = {e.name: e.inode() for e in os.scandir(place)}
            contents[status.st_ino] = (status.st_mode, None)
            for file in files:
                status = (place / file).stat()
                contents[status.st_ino] = (status.st_mode, (place / file).read_bytes())
        return names, contents

    def _halves(self, now: dict[int, tuple[int, bytes | None]]) -> dict[int, tuple[int, bytes | None]]:
        halves = dict(self.contents)
        for inode, (mode, content) in now.items():
            known = (self.contents.get(inode) or (0, b""))[1] or b""
            if content is not None and content != known and content.startswith(known):
                halves[inode] = (mode, content[: (len(known) + len(content)) // 2])
        return halves


def _walk(
    prefix: str,
    folder: int,
    names: dict[int, dict[str, int]],
    contents: dict[int, tuple[int, bytes | None]],
    now: dict[int, tuple[int, bytes | None]],
) -> Iterator[tuple[str, tuple[int, bytes | None]]]:
    for name, inode in sorted(names.get(folder, {}).items()):
        path = f"{prefix}{name}"
        mode = (contents.get(inode) or now.get(inode) or (0o600, b""))[0]
        if inode in names or (inode in now and now[inode][1] is None):
            yield path, (mode, None)
            yield from _walk(f"{path}/", inode, names, contents, now)
        else:
            # A name whose file was never synced: it may be empty.
            yield path, (mode, (contents.get(inode) or (0, b""))[1] or b"")


def record(root: Path, work: Callable[[], object], disk: Disk) -> Iterator[Cut]:
    """Do *work* in a process of its own; what a power cut may leave at each of its points, and at its end.

    Raises:
        RuntimeError: It failed.
    """
    for number, told in enumerate(crash_points.follow(root, work), 1):
        disk.settle()
        if "synced" in told:
            disk.sync(Path(told["synced"]))
        elif not told.get("half"):
            yield from disk.cuts(f"{number} {told['name']}")
            if "database" in told:
                disk.note_statement(told["name"], told["database"], told["connection"])
    disk.settle()
    yield from disk.cuts("end")
