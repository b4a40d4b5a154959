"""Which pages a write-ahead log holds (sqlite.org/fileformat2.html, "The Write-Ahead Log").

SQLite locks no byte of that file, so opening and closing it by hand drops no lock of this process.
"""

from __future__ import annotations

import struct
from collections.abc import Set
from pathlib import Path

import numpy as np

from unified_db import files

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = (0x377F0682, 0x377F0683)
_FRAMES_AT_ONCE = 512


def pages_in(path: Path) -> Set[int] | None:
    """The numbers of all pages that were written since the WAL of the database at *path* began anew.

    Nobody may be writing to it. Frames of a transaction that was given up may be among them, which names
    a page too many and never one too few.

    Returns:
        None where there is no WAL, or none that can be read as one; nothing is known then.
    """
    # SQLite follows a link before it names what lies beside.
    wal = files.sidecar(path.resolve(), "-wal")
    found: set[int] = set()
    try:
        with wal.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
            if not head:
                return found
            magic, _, page_bytes = struct.unpack_from(">III", head)
            if magic not in _MAGIC:
                return None
            frame_bytes = FRAME_HEADER_BYTES + page_bytes
            while content := stream.read(frame_bytes * _FRAMES_AT_ONCE):
                found.update(_pages(content, frame_bytes, salts=head[16:24]))
    except (OSError, struct.error):
        return None
    return found


def _pages(content: bytes, frame_bytes: int, *, salts: bytes) -> list[int]:
    """The page of each frame in *content*; those of an earlier round of the file have other salts."""
    count = len(content) // frame_bytes
    frames = np.frombuffer(content, dtype=np.uint8, count=count * frame_bytes).reshape(count, frame_bytes)
    fields = np.ascontiguousarray(frames[:, :16]).view(">u4")
    wanted = np.frombuffer(salts, dtype=">u4")
    valid = (fields[:, 2:] == wanted).all(axis=1)
    return [int(page) for page in np.unique(fields[valid, 0])]
