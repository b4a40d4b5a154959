"""What all edits share: decoding that loses nothing, splices, and errors that say what was found."""

from __future__ import annotations

import difflib
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unified_db.errors import EditError

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Decoded:
    """The text of a file, and what it takes to write it back as it was."""

    text: str
    bom: bytes
    encoding: str

    def encode(self, text: str) -> bytes:
        """*text* as bytes in the file's own encoding, with its byte order mark if it had one."""
        return self.bom + text.encode(self.encoding, "surrogateescape")


@dataclass(frozen=True, order=True)
class Splice:
    """Characters from *start* to *end* become *text*."""

    start: int
    end: int
    text: str


def decode(content: bytes, *, file: Path) -> Decoded:
    """Read *content* so that :meth:`Decoded.encode` gives back the same bytes.

    Python source is read in the encoding that it declares. Elsewhere bytes that are no UTF-8
    pass through untouched.

    Raises:
        EditError: A binary file, UTF-16, or Python source that breaks its own declaration.
    """
    bom = _BOM if content.startswith(_BOM) else b""
    body = content[len(bom) :]
    if b"\0" in body:
        raise misfit(file, "text", "a NUL byte (a binary file, or UTF-16)", way_out="Save it as UTF-8.")
    if file.suffix not in {".py", ".pyi"}:
        return Decoded(body.decode("utf-8", "surrogateescape"), bom, "utf-8")
    try:
        # With its BOM a file is "utf-8-sig", which would drop the BOM a second time.
        encoding = tokenize.detect_encoding(io.BytesIO(body).readline)[0]
        return Decoded(body.decode(encoding), bom, encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise misfit(file, "Python source", str(error), way_out="Mend the file.") from error


def splice(text: str, splices: Iterable[Splice]) -> str:
    """*text* with all *splices* made; they must not overlap, and equal ones count once."""
    for item in sorted(set(splices), reverse=True):
        text = text[: item.start] + item.text + text[item.end :]
    return text


def newline_of(text: str) -> str:
    """The line ending that *text* uses first; a newline where it has none."""
    found = re.search(r"\r\n|\n|\r", text)
    return found[0] if found else "\n"


def split_key(key: str) -> list[str]:
    """The parts of a dotted key; double quotes keep a part with dots together."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^."]+)', key)]


def misfit(file: Path, looked_for: str, found: str, *, way_out: str) -> EditError:
    """The error for an edit that does not fit *file*."""
    return EditError(
        f"{file}: looked for {looked_for}, found {found}",
        hint=f"This file was not changed. {way_out}",
    )


def name_similar(name: str, known: Iterable[str]) -> str:
    """Words for an error: the known names that *name* may have been meant to be."""
    names = list(dict.fromkeys(known))
    if not names:
        return "none at all"
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.5)
    if close:
        return "only similar ones: " + ", ".join(folded[c] for c in close)
    return "only " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
