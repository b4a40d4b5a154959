r"""How a name that is no UTF-8 is written for people: each byte that is none as `\xff`.

Python holds such a byte as a lone surrogate (PEP 383), which neither a terminal nor JSON nor a file
in UTF-8 takes. Files are always opened by the name itself; what is spelled is only read.
"""

from __future__ import annotations

import codecs
import re

# For `errors=` of whatever encodes.
ERRORS = "unify-db-spelled"

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("[\udc80-\udcff]")


def spelled(text: str) -> str:
    """*text* in characters that every output can show and that are no lone surrogates."""
    return _SURROGATE.sub(_spell, text)


def spelled_in_json(line: str) -> str:
    """As :func:`spelled` for what is JSON already, where a backslash is written as two."""
    return _SURROGATE.sub(lambda found: _spell(found).replace("\\", "\\\\"), line)


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if _BYTE.fullmatch(found[0]) else f"\\u{code:04x}"


def _spell_what_cannot_be_encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = spelled(error.object[error.start : error.end])
    # What the encoding has not got for another reason, such as a tick in ASCII.
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(ERRORS, _spell_what_cannot_be_encoded)
