"""Takes secrets out of what people are shown: values of telling names, passwords and tokens in URLs.

A line may be part of a secret because of a line above it, so files are masked whole before a
diff shows any part of them.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import PurePath

MASK = "***"
# What is longer was not written by a person, and searching it for pairs would take long.
_LONGEST_LINE = 4000

_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd\b|_pw\b|(?:api|access|private|auth|signing|account)[_-]?key|credential|\bdsn\b",
    re.IGNORECASE,
)
# scheme://user:password@host; greedy, since a password may hold any of / : @ unescaped.
_URL_PASSWORD = re.compile(r"(\b[a-zA-Z][\w+.-]{0,30}://[^\s:/@\"'<>]*):([^\s\"'<>]+)@")
# https://TOKEN@host has no colon to tell it by.
_URL_TOKEN = re.compile(r"((?:git\+)?https?://)[^\s:/@\"'<>*]+@")
_URL_QUERY = re.compile(
    r"([?&][\w-]*(?:secret|token|passw|pwd|api_?key|signature)[\w-]*=)[^&\s\"'<>]+", re.IGNORECASE
)
# Possessive, so that a long line of blanks is not tried in every way to split it.
_PAIR = re.compile(
    r"""(?P<head>[\s\-{,]*+(?:(?:export|set)\s++)?["']?)(?P<name>[\w.$][\w.$\- ]*+)
        (?P<sign>["']?\s*+[:=]\s*+)(?P<value>.*)""",
    re.VERBOSE,
)
_INLINE_PAIR = re.compile(
    r"""(?P<head>["']?(?<![\w-])(?P<name>[\w-]++)["']?\]?\s*(?::\s*[\w.\[\]| ]+?)?\s*[:=]\s*(?:[\w.]+\()?)
        (?P<value>[rbuRBU]{0,2}(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))""",
    re.VERBOSE,
)
# A name whose value begins on the next line, or goes on there: `API_KEY = (`, `"token":`.
_OPENED = re.compile(
    r"""(?<![\w-])(?P<name>[\w-]++)["']?\]?\s*(?:(?::[^=]*)?=|(?<=["'])\s*:)\s*[rbuRBU]{0,2}
        (?P<value>[\(\[{\\]?|\"{3}.*|'{3}.*)\s*$""",
    re.VERBOSE,
)
_LITERAL = re.compile(r"""[rbuRBU]{0,2}(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_SECTION = re.compile(r"^\s*\[+\s*(?P<name>[^\]]+?)\s*\]+")
_PEM_BEGIN, _PEM_END = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    re.compile(r"-----END [A-Z ]*PRIVATE KEY"),
)

_LONG_QUOTES = ('"""', "'''")
_STRUCTURED = {".toml", ".yaml", ".yml", ".json", ".ini", ".cfg", ".conf", ".properties", ".env"}


def is_dotenv(name: str) -> bool:
    """True for the names that dotenv files go by, such as `.env`, `.env.local`, `prod.env`."""
    base = PurePath(name).name
    return any(fnmatch.fnmatch(base, pattern) for pattern in (".env", ".env.*", "*.env", ".envrc"))


def is_secret_name(name: str) -> bool:
    """True where a key of this name usually holds something that must not be shown."""
    return bool(_SECRET_NAME.search(name))


def mask_value(name: str, value: str) -> str:
    """*value* for people: all of it masked where *name* is a secret's, else its URLs' passwords."""
    return MASK if is_secret_name(name) else mask_line(value)


def mask_line(line: str) -> str:
    """*line* without passwords and tokens in URLs and without text literals named like secrets."""
    if len(line) > _LONGEST_LINE:
        return MASK
    line = _URL_PASSWORD.sub(rf"\1:{MASK}@", line)
    line = _URL_TOKEN.sub(rf"\1{MASK}@", line)
    line = _URL_QUERY.sub(rf"\1{MASK}", line)
    return _INLINE_PAIR.sub(lambda m: m["head"] + MASK if is_secret_name(m["name"]) else m[0], line)


def mask_lines(name: str, lines: list[str]) -> list[str]:
    """The lines of the file called *name*, each masked where it holds a secret; as many lines as before."""
    masker = _Masker(structured=is_dotenv(name) or PurePath(name).suffix in _STRUCTURED)
    return [masker.mask(line) for line in lines]


class _Masker:
    """Goes through a file's lines and remembers what a line's masking depends on above it."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured
        self._section_secret = False
        self._deeper_than: int | None = None
        self._closing = ""
        self._in_pem = False

    def mask(self, line: str) -> str:
        """*line*, masked."""
        body, end = _split_end(line)
        if self._in_pem or _PEM_BEGIN.search(body):
            self._in_pem = not _PEM_END.search(body)
            return MASK + end
        if self._closing:
            self._closing = "" if self._closing in body else self._closing
            return MASK + end
        return (self._mask_structured(body) if self._structured else self._mask_code(body)) + end

    def _mask_code(self, body: str) -> str:
        indent = len(body) - len(body.lstrip())
        if self._deeper_than is not None and body.strip() and indent > self._deeper_than:
            return _LITERAL.sub(MASK, mask_line(body))
        self._deeper_than = None
        opened = _OPENED.search(body) if len(body) <= _LONGEST_LINE else None
        if opened and is_secret_name(opened["name"]):
            self._deeper_than = indent
            if opened["value"][:3] in _LONG_QUOTES:
                self._await_closing(opened["value"])
                return body[: opened.start("value")] + MASK
        return mask_line(body)

    def _await_closing(self, value: str) -> None:
        """Mask what follows up to the end of a text over several lines that *value* begins."""
        quotes = value[:3]
        if quotes in _LONG_QUOTES and quotes not in value[3:]:
            self._closing = quotes

    def _mask_structured(self, body: str) -> str:
        indent = len(body) - len(body.lstrip())
        if self._deeper_than is not None and (not body.strip() or indent > self._deeper_than):
            return MASK if body.strip() else body
        self._deeper_than = None
        section = _SECTION.match(body)
        if section and not body.strip().endswith(","):
            self._section_secret = is_secret_name(section["name"])
            return body
        pair = _PAIR.match(body.rstrip())
        if not pair or not (self._section_secret or is_secret_name(pair["name"])):
            return mask_line(body)
        return self._mask_pair(pair, indent)

    def _mask_pair(self, pair: re.Match[str], indent: int) -> str:
        value = pair["value"].removesuffix(",")
        self._deeper_than = indent
        self._await_closing(value)
        opens = value in {"", "{", "[", "|", ">", "|-", ">-"}
        tail = "," if pair["value"].endswith(",") else ""
        return pair["head"] + pair["name"] + pair["sign"] + (value if opens else MASK) + tail


def _split_end(line: str) -> tuple[str, str]:
    body = line.rstrip("\r\n")
    return body, line[len(body) :]
