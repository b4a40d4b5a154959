"""What staged processes printed, as it is kept in a run's folder: without the application's secrets."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

MASK = "***"

_CHUNK_BYTES = 1024 * 1024


def mask_file(path: Path, secrets: Collection[str]) -> None:
    """Replace *secrets*, plain or as XML has them, in the file at *path*, if it is there.

    Of any size: a megabyte is in memory at a time. The file is replaced as a whole.
    """
    needles = _needles(secrets)
    if not needles or not path.exists():
        return
    masked = path.with_name(f"{path.name}.masked")
    longest = max(map(len, needles))
    with path.open("rb") as source, masked.open("wb") as target:
        held = b""
        while chunk := source.read(_CHUNK_BYTES):
            text = _replace(held + chunk, needles)
            # A secret may lie across two chunks.
            cut = max(0, len(text) - longest + 1)
            target.write(text[:cut])
            held = text[cut:]
        target.write(held)
    masked.chmod(path.stat().st_mode & 0o777)
    masked.replace(path)


def _needles(secrets: Collection[str]) -> list[bytes]:
    written = {form for s in secrets if s for form in (s, escape(s), quoteattr(s)[1:-1])}
    # The longest first: a secret may begin with another one.
    return sorted((form.encode() for form in written), key=len, reverse=True)


def _replace(text: bytes, needles: list[bytes]) -> bytes:
    for needle in needles:
        text = text.replace(needle, MASK.encode())
    return text
