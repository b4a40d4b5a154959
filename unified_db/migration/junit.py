"""JUnit XML files of any runner as test cases, in bounded memory and whatever characters they hold.

The files are written by the user's own tests, which print what they like: what is not needed is
dropped while it is read. What the cases mean for a gate is not known here.
"""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from unified_db.migration.kept_output import MASK
from unified_db.migration.probe.unify_db_names import NODE, RETRIED

PASSED, RETRIED_PASS, FAILED, ERROR = "passed", "passed on retry", "failed", "error"
SKIPPED, XFAILED, ABSENT = "skipped", "xfailed", "absent"
RED = (FAILED, ERROR)

_DETAIL_LINES = 12
_DETAIL_CHARS = 1500
_TEXT_CHARS = 64 * 1024
_CHUNK_CHARS = 64 * 1024
_LONGEST_REFERENCE = 12
_TOLD = {"error": ERROR, "failure": FAILED, "skipped": SKIPPED}
# How Maven's surefire writes a failure of a test that its own retries made pass.
_RETRIES = ("flakyFailure", "flakyError", "rerunFailure", "rerunError")
_WORST_FIRST = (ERROR, FAILED, RETRIED_PASS, SKIPPED, XFAILED, PASSED)

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCE = re.compile(r"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,8}));")
_DECLARED = re.compile(rb"<\?xml[^>]*\sencoding=[\"']([\w.-]+)[\"']")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SQLITE_WORDS = re.compile(
    r"database (?:\w+ )?is (?:locked|busy)|database disk image is malformed|file is not a database"
    r"|disk I/O error|no such (?:table|column|index|view|trigger)|has no column named|already exists"
    r"|(?:UNIQUE|FOREIGN KEY|NOT NULL|CHECK) constraint failed|readonly database"
    r"|unable to open database file|within a transaction|SQLITE_[A-Z]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Case:
    """What one test did in one run.

    Attributes:
        name: Class name and name, as JUnit has them.
        node: pytest's node id; empty where it is not known.
        outcome: passed, passed on retry, failed, error, skipped or xfailed.
        detail: The first lines of its failure, masked.
        complaints: What its failure says in SQLite's own words, such as "database is locked".
    """

    name: str
    node: str = ""
    outcome: str = PASSED
    detail: str = ""
    complaints: frozenset[str] = frozenset()


def read_junit(path: Path, *, secrets: Collection[str] = ()) -> dict[str, Case]:
    """The test cases in *path* by their id: pytest's node id where it is there, else class name and name.

    A test that occurs more than once gets a number from its second time on; of what pytest
    wrote about one node the worst counts (a failure and, in a case of its own, an error at teardown).

    Args:
        path: The file, as pytest and many others write it; of any size.
        secrets: Texts that are masked in ids and details; a case keeps its node id as it is.

    Raises:
        OSError: It cannot be read.
        ET.ParseError: Not XML, or cut off.
    """
    reader = _Reader(secrets)
    parser = ET.XMLParser(target=reader)  # noqa: S314 -- written by the user's own tests
    for chunk in _sane_chunks(path):
        parser.feed(chunk)
    parser.close()
    # The id of a parametrised test holds its values, which may be those of a dotenv file.
    return {mask(test, secrets): case for test, case in _by_id(reader.cases).items()}


def complaints_of(text: str) -> frozenset[str]:
    """What *text* says in the words in which SQLite reports errors, in lower case."""
    return frozenset(match.lower() for match in _SQLITE_WORDS.findall(text))


def first_lines(text: str, secrets: Collection[str] = ()) -> str:
    """The first lines of *text* that are not blank, with *secrets* masked."""
    lines = [line.rstrip() for line in mask(text, secrets).splitlines() if line.strip()]
    return "\n".join(lines[:_DETAIL_LINES])[:_DETAIL_CHARS]


def mask(text: str, secrets: Collection[str]) -> str:
    """*text* with each of *secrets* hidden."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _by_id(cases: Iterable[Case]) -> dict[str, Case]:
    cases = list(cases)
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for case in cases:
        nodes[case.name] |= {case.node} - {""}
    found: dict[str, Case] = {}
    seen: Counter[str] = Counter()
    for case in cases:
        # Older pytests leave the properties of a failed test to the case of its teardown.
        named = replace(case, node=next(iter(nodes[case.name]))) if len(nodes[case.name]) == 1 else case
        if named.node:
            found[named.node] = _worse(found.get(named.node, named), named)
            continue
        seen[case.name] += 1
        found[f"{case.name} ({seen[case.name]})" if seen[case.name] > 1 else case.name] = case
    return found


def _worse(one: Case, other: Case) -> Case:
    worse, better = sorted((one, other), key=lambda case: _WORST_FIRST.index(case.outcome))
    return replace(worse, complaints=worse.complaints | better.complaints)


class _Reader:
    """Takes a parser's events; keeps of each case what is needed and drops what tests printed."""

    def __init__(self, secrets: Collection[str]) -> None:
        self.cases: list[Case] = []
        self._secrets = secrets
        self._case: _OpenCase | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        if tag == "testcase":
            self._case = _OpenCase(attributes)
        elif self._case is not None:
            self._case.start(tag, attributes)

    def data(self, text: str) -> None:
        if self._case is not None:
            self._case.data(text)

    def end(self, tag: str) -> None:
        tag = tag.rpartition("}")[2]
        if self._case is None:
            return
        if tag == "testcase":
            self.cases.append(self._case.close(self._secrets))
            self._case = None
        else:
            self._case.end(tag)

    def close(self) -> None:
        """Asked for by the parser."""


class _OpenCase:
    """A test case that is being read."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self._name = "::".join(part for part in map(attributes.get, ("classname", "name")) if part)
        self._properties: dict[str, str] = {}
        self._outcomes: list[str] = []
        self._text: list[str] = []
        self._chars = 0
        self._reading = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "property":
            self._properties[attributes.get("name", "")] = attributes.get("value", "")
        if tag in _RETRIES:
            self._properties[RETRIED] = "yes"
        if tag in _TOLD or tag in _RETRIES:
            xfail = tag == "skipped" and attributes.get("type") == "pytest.xfail"
            self._outcomes += [XFAILED if xfail else _TOLD[tag]] if tag in _TOLD else []
            self._reading = True
            self.data(f"{attributes.get('message', '')}\n")

    def data(self, text: str) -> None:
        if self._reading and self._chars < _TEXT_CHARS:
            self._text.append(text[: _TEXT_CHARS - self._chars])
            self._chars += len(self._text[-1])

    def end(self, tag: str) -> None:
        if tag in _TOLD or tag in _RETRIES:
            self._reading = False
            self.data("\n")

    def close(self, secrets: Collection[str]) -> Case:
        passed = RETRIED_PASS if RETRIED in self._properties else PASSED
        text = "".join(self._text)
        return Case(
            name=self._name,
            node=self._properties.get(NODE, ""),
            outcome=min(self._outcomes, key=_WORST_FIRST.index, default=passed),
            detail=first_lines(text, secrets),
            complaints=complaints_of(text),
        )


def _sane_chunks(path: Path) -> Iterator[str]:
    """The text of *path* without what no XML file may hold, though tests print it."""
    held = ""
    with path.open(encoding=_encoding_of(path), errors="replace", newline="") as stream:
        while chunk := stream.read(_CHUNK_CHARS):
            text = held + chunk
            cut = text.rfind("&", max(0, len(text) - _LONGEST_REFERENCE))
            # A reference may lie across two chunks.
            held = text[cut:] if cut >= 0 and ";" not in text[cut:] else ""
            yield _sane(text[: len(text) - len(held)])
    yield _sane(held)


def _sane(text: str) -> str:
    return _NOT_XML.sub("\ufffd", _REFERENCE.sub(_sane_reference, text))


def _sane_reference(match: re.Match[str]) -> str:
    number = int(match[1], 16) if match[1] else int(match[2])
    valid = number <= 0x10FFFF and not _NOT_XML.match(chr(number))
    return match[0] if valid else "\ufffd"


def _encoding_of(path: Path) -> str:
    with path.open("rb") as stream:
        begin = stream.read(256)
    for mark, name in _BOMS:
        if begin.startswith(mark):
            return name
    declared = _DECLARED.search(begin)
    name = declared[1].decode("ascii") if declared else "utf-8"
    try:
        "".encode(name)
    except LookupError:
        return "utf-8"
    return name
