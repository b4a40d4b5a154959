"""The old files that a cut-over moved away: which they are, where each lies now, and out of the archive.

What is done to them on the way back is for `carry_back.py` and `undo.py`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import zstandard

from unified_db import files
from unified_db.errors import RollbackError
from unified_db.migration import copy
from unified_db.migration.journal import Act, acts, read_entries, standing_acts
from unified_db.migration.layout import SourceLayout, place
from unified_db.migration.records import Backups, Layout, SourceKind
from unified_db.migration.runs import RunFolder
from unified_db.sqlite import fold


@dataclass(frozen=True)
class OldFile:
    """An old file that the switch moved.

    Attributes:
        label: The source's name.
        path: Where it lies now.
        layout: What the unified file has otherwise than the sources.
        kind: What the source holds.
    """

    label: str
    path: Path
    layout: Layout
    kind: SourceKind = "other"

    def place(self, conn: sqlite3.Connection) -> SourceLayout:
        """Where its objects are in the unified file; *conn* has it as main."""
        objects = copy.read_objects(conn)
        here = {fold(o.name) for o in objects}
        # What was renamed may have been dropped since, here too where the way back was interrupted.
        left = (r for r in self.layout.renames if r.source != self.label or fold(r.object) in here)
        return place(self.label, objects, self.layout.model_copy(update={"renames": tuple(left)}))


@dataclass(frozen=True)
class OldFiles:
    """The old files of the cut-over that stands.

    Attributes:
        items: In the order in which they were moved; one that is moved back already is at its old place.
        complete: False where the cut-over did not come to move all of them, so that the application
            has not yet used the unified file.
    """

    items: tuple[OldFile, ...]
    complete: bool


def find_old_files(run: RunFolder) -> OldFiles:
    """The old files of *run* that were moved since its unified file was put in place.

    Raises:
        RollbackError: The record that tells what each of them is is gone.
    """
    known = acts(read_entries(run.journal))
    placed = max((a.ident for a in known if a.name == "place" and not a.undone), default=None)
    moves = [a for a in known if a.name == "move" and placed is not None and a.ident > placed]
    backups = run.load("backup", Backups)
    if backups is None and moves:
        # Without it nobody knows what is called otherwise in the unified file, or is united there.
        raise RollbackError(
            f"the record of the backups of run {run.name} is gone",
            hint=f"Nothing was changed. Put {run.evidence / 'backup.json'} back.",
        )
    items = {str(b.source): b for b in backups.items} if backups else {}
    layout = backups.layout if backups else Layout()
    found: list[OldFile] = []
    for act in moves:
        kept, path = Path(act.before["kept"]), Path(act.before["path"])
        lies_at = kept if kept.exists() else path
        if backup := items.get(str(path)):
            found.append(OldFile(backup.label, lies_at, layout, backup.kind))
        else:
            found.append(OldFile(str(path), lies_at, layout))
    return OldFiles(tuple(found), complete=len(found) >= len(items))


def archive_act(run: RunFolder, kept: Path) -> Act:
    """The newest act that archived the old file at *kept*."""
    found = [a for a in standing_acts(run) if a.name == "archive-file" and a.before["kept"] == str(kept)]
    return found[-1]


def unpack_archived(run: RunFolder) -> None:
    """Bring archived old files back to where the switch had moved them; the archive stays.

    Raises:
        RollbackError: An archived file is damaged.
    """
    for act in standing_acts(run):
        kept = Path(act.before.get("kept", ""))
        if act.name != "archive-file" or kept.exists():
            continue
        if not Path(act.before["archived"]).exists():
            raise _archive_is_gone(act)
        files.remove_partials(kept)
        with files.partial_file(kept) as partial:
            with Path(act.before["archived"]).open("rb") as packed, partial.open("wb") as plain:
                zstandard.ZstdDecompressor().copy_stream(packed, plain)
            partial.chmod(int(act.before["mode"]))
            files.fsync_file(partial)
            if files.digest_file(partial) != act.before["sha256"]:
                raise RollbackError(
                    f"the archive {act.before['archived']} is damaged: its content has another digest",
                    hint="Nothing was changed. The backup of the run is in its folder `backup`.",
                )


def _archive_is_gone(act: Act) -> RollbackError:
    return RollbackError(
        f"the archived file {act.before['archived']} is gone",
        hint="Nothing was changed. The backup of the run is in its folder `backup`; docs/runbook.md says "
        "how to go back by hand.",
    )
