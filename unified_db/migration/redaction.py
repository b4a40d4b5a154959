"""What of a staged process's output people may see: its own words, none of the data it works with.

A failed test and a server that does not start print whatever they hold: rows, request bodies, settings.
Secrets that are known are replaced wherever they stand. Of the rest, a word stays only where the
application's source code has it, or Python, SQLite or pytest say it themselves; everything else is
taken for data.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from unified_db.migration import naming, wording

# A file with its line says where, not what; an exception's name says what happened.
_PLACE = re.compile(r"[\w./\\-]*[\w-]\.(?:py|js|ts|go|rs|rb|sh|sql):\d+|[\w./\\-]*/[\w-]+\.(?:py|js|ts)\b")
_WORD = re.compile(r"\w+(?:[-@.+][\w@.+-]*\w)?", re.UNICODE)
_PART = re.compile(r"[^\W_]+(?:_+[^\W_]+)*|_+")
_EXCEPTION = re.compile(r"[A-Z][A-Za-z]*(?:Error|Exception|Warning|Interrupt|Timeout)")
_MASK_RUN = re.compile(rf"{wording.MASK}(?:\s*{wording.MASK})+")
_MOST_DIGITS = 3

_SAID_BY_SQLITE = """
database is locked table disk image malformed file not a encrypted or readonly attempt to write no such
column index unique constraint failed foreign key null check mismatch datatype syntax error near incomplete
input full unable open schema has changed already exists another row available abort busy interrupted
misuse out of memory i/o protocol authorization denied too many terms variables trigger view duplicate
name ambiguous aggregate cannot start transaction within commit rollback savepoint statements in progress
bound parameters string or blob big integer overflow primary autoincrement wal journal pragma begin vacuum
"""
_SAID_BY_PYTHON = """
a an and are as at be been before after but by can did do does for from had has have if in into is it its
more most must never no none not nothing of off on only or other out over should than that the then there
this to too true false under until up was were when where which while who will with without would you your
object attribute module named import name type value key list dict set str int float bool bytes tuple
index range argument arguments keyword positional required missing unexpected got expected takes given
returned return result call called caller function method class instance iterable subscriptable callable
awaited coroutine await async task future event loop running closed timeout timed exceeded recursion depth
maximum division zero invalid literal base could convert unpack enough values many unhashable supported
operand between instances during handling above exception occurred following direct cause traceback recent
last line file exit code exited signal killed status connection refused reset broken pipe address already
use permission denied directory exists found process server client request response http internal bad
gateway unavailable unauthorized forbidden method allowed entity unprocessable ok error errors failed
failure fail passed skipped warning assert assertion raised raise fixture setup teardown test tests
session collected message nonetype self args kwargs json decode encode utf codec byte position start stop
thread lock acquire release sqlite sqlite3 sqlalchemy exc core
 exceptions aiosqlite langgraph checkpoint operationalerror integrityerror
background see https sqlalche me e ms s seconds second
"""


@dataclass(frozen=True)
class Redaction:
    """Knows which words may be shown.

    Attributes:
        words: Those of the application's source code.
        secrets: Texts that are never shown, not even where the source code has them.
    """

    words: frozenset[str]
    secrets: tuple[str, ...] = ()

    def clean(self, text: str) -> str:
        """All lines of *text* without secrets, compared values, and words that may be data."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, wording.MASK)
        lines = wording.mask_output(text).splitlines()
        return "\n".join(self._clean_line(line) for line in lines)

    def _clean_line(self, line: str) -> str:
        kept, at = [], 0
        for place in _PLACE.finditer(line):
            kept += [self._hide(line[at : place.start()]), place[0]]
            at = place.end()
        return _MASK_RUN.sub(wording.MASK, "".join((*kept, self._hide(line[at:]))))

    def _hide(self, text: str) -> str:
        return _WORD.sub(lambda word: word[0] if self._is_known(word[0]) else wording.MASK, text)

    def _is_known(self, word: str) -> bool:
        """True where every part is known: an identifier of data has one that is not."""
        return word in self.words or all(self._is_known_part(part) for part in _PART.findall(word))

    def _is_known_part(self, part: str) -> bool:
        if part.isdigit():
            return len(part) <= _MOST_DIGITS
        known = part in self.words or part.lower() in _said_by_others()
        return known or bool(_EXCEPTION.fullmatch(part))


def redaction_of(root: Path, secrets: Collection[str] = ()) -> Redaction:
    """What may be shown of processes that run the source code below *root*."""
    return Redaction(naming.find_words(root), tuple(secrets))


@cache
def _said_by_others() -> frozenset[str]:
    exceptions = [name for name in dir(builtins) if name[0].isupper()]
    systems = [os.strerror(number) for number in errno.errorcode]
    return frozenset(" ".join((_SAID_BY_SQLITE, _SAID_BY_PYTHON, *exceptions, *systems)).lower().split())
