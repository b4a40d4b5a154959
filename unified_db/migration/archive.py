"""Compresses the old files once the cut-over has held, and updates the scripts that name their paths.

An original goes only after its archived copy was read back and has the same digest. A manifest
beside them tells what each file was; nothing is deleted at the end of the retention by itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard

from unified_db import files
from unified_db.errors import SourceError, UsageError
from unified_db.migration import switch, undo
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import Journal
from unified_db.migration.old_files import archive_act
from unified_db.migration.records import ArchivedFile, ArchiveRecord, Backup, Backups, CutoverRecord
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

_LEVEL = 6
_CHUNK_BYTES = 1 << 20


def archive_originals(config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
    """Archive the old files of *run* and make the edits that wait for it.

    Calling again after a crash goes on where it stopped.

    Raises:
        UsageError: *run* has not switched anything.
        SourceError: An archived copy reads back differently; the original stays.
    """
    cutover, backups = run.load("cutover", CutoverRecord), run.load("backup", Backups)
    if cutover is None or backups is None:
        raise UsageError(
            f"run {run.name} has switched nothing", hint="`unify-db status` shows where it stands."
        )
    journal = Journal(run)
    files.make_folder(run.archive, mode=0o700)
    kept_at = dict(cutover.originals)
    archived = tuple(_archive(journal, b, kept_at[b.source], run.archive) for b in backups.items)
    edited = _edit_scripts(config, journal)
    record = ArchiveRecord(
        run=run.name,
        archived_at=datetime.now(UTC),
        folder=run.archive,
        files=archived,
        edited=edited,
        mentions=switch.find_mentions(config, [b.source.name for b in backups.items]),
        keep_until=datetime.now(UTC) + timedelta(days=config.archive.retention_days),
    )
    manifest = run.archive / "manifest.json"
    files.write_durably(manifest, record.model_dump_json(indent=2).encode() + b"\n", mode=0o600)
    journal.write("archive", "done")
    log.info("archive: %d old files in %s", len(archived), run.archive)
    return record


def _archive(journal: Journal, item: Backup, kept: Path, folder: Path) -> ArchivedFile:
    packed = folder / f"{kept.name}.zst"
    if kept.exists():
        status = kept.stat()
        digest = files.digest_file(kept)
        with journal.act(
            "archive-file",
            kept=str(kept),
            archived=str(packed),
            sha256=digest,
            mode=status.st_mode & 0o7777,
            size_bytes=status.st_size,
        ):
            _pack(kept, packed)
            if _digest_packed(packed) != digest:
                raise SourceError(
                    f"{packed} does not read back as {kept}", hint=f"The old file stays at {kept}. Run again."
                )
            files.remove_durably(kept)
    act = archive_act(journal.run, kept)
    return ArchivedFile(
        label=item.label,
        original=item.source,
        archived=packed,
        original_bytes=int(act.before["size_bytes"]),
        archived_bytes=packed.stat().st_size,
        sha256=str(act.before["sha256"]),
        mode=int(act.before["mode"]),
        journal_mode=item.journal_mode,
    )


def _pack(plain: Path, packed: Path) -> None:
    with files.partial_file(packed) as partial:
        with plain.open("rb") as source, partial.open("wb") as target:
            zstandard.ZstdCompressor(level=_LEVEL, threads=os.cpu_count() or 1).copy_stream(source, target)
        partial.chmod(0o600)
        status = plain.stat()
        os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
        files.fsync_file(partial)


def _digest_packed(packed: Path) -> str:
    digest = hashlib.sha256()
    with packed.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _edit_scripts(config: MigrationConfig, journal: Journal) -> tuple[Path, ...]:
    edits = [e for e in switch.plan_edits(config, "archive") if e.before != e.after]
    for edit in edits:
        undo.write_edit(journal, edit)
    return tuple(e.file for e in edits)
