"""What a server answered, and where two answers differ; pure.

A place in an answer is told by its path, such as `messages[2].content`. What stands there is data
and is told nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int, ...]
"""Keys and positions from the root of an answer's content; empty for the root itself."""

# Fields of event streams, of FastAPI's errors and of what LangChain and LangGraph serialize, which no
# application writes out itself.
WELL_KNOWN_KEYS = frozenset(
    {
        "additional_kwargs",
        "args",
        "checkpoint",
        "checkpoint_id",
        "checkpoint_ns",
        "configurable",
        "content",
        "created_at",
        "data",
        "detail",
        "event",
        "id",
        "input",
        "invalid_tool_calls",
        "kwargs",
        "lc",
        "loc",
        "messages",
        "metadata",
        "msg",
        "name",
        "next",
        "output",
        "parent_ids",
        "response_metadata",
        "retry",
        "run_id",
        "status",
        "tags",
        "tasks",
        "thread_id",
        "tool_call_id",
        "tool_calls",
        "type",
        "updated_at",
        "usage_metadata",
        "value",
        "values",
    }
)
_ADDED = "not there before"
_STEP = re.compile(r"\[(?P<position>\d*)\]|(?P<key>[^.\[\]]+)")


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: Its HTTP status, 0 where there was no answer.
        media_type: As its header says, without parameters.
        content: The JSON value; a list of events or of lines for a stream of them; text; else bytes.
        problem: Why there was no whole answer; empty where there was one.
    """

    status: int = 0
    media_type: str = ""
    content: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Difference:
    """One thing that is not alike in two answers.

    Attributes:
        part: "problem", "status", "content type" or "content".
        place: Where in the content.
        what: How they differ, without a value.
    """

    part: str
    place: Place
    what: str

    def explains(self, other: Difference) -> bool:
        """True where *other* is at the same place or below it, or both are keys that came to the same table.

        A table keyed by something fresh has another new key every time.
        """
        if self.part != other.part:
            return False
        if self.what == other.what == _ADDED and self.place[:-1] == other.place[:-1]:
            return True
        return other.place[: len(self.place)] == self.place

    def where(self, known: Collection[str], *, every: bool = False) -> str:
        """The place for people; *known* and *every* as for :func:`show_place`."""
        if self.part != "content":
            return self.part
        return show_place(self.place, known, every=every) or "the whole answer"


def parse_reply(status: int, content_type: str, body: bytes) -> Reply:
    """The answer with its content as what its type says; what does not parse is compared as text."""
    media_type = content_type.partition(";")[0].strip().lower()
    return Reply(status, media_type, _parse_content(media_type, body))


def _parse_content(media_type: str, body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return body
    try:
        if media_type == "text/event-stream":
            return list(_events(text))
        if media_type in {"application/x-ndjson", "application/jsonl", "application/json-lines"}:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        if media_type == "application/json" or media_type.endswith("+json"):
            return json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text


def _events(text: str) -> Iterator[dict[str, Any]]:
    """Server-sent events as {field: value}, `data` parsed where it is JSON.

    By the rules of the HTML standard: an empty line ends an event, lines of `data` are joined, a
    line that begins with a colon is a comment (a heartbeat, which comes as it likes). Unlike there
    the last event counts without its empty line too: a stream that was cut off must not look whole.
    """
    event: dict[str, Any] = {}
    for line in [*re.split(r"\r\n|\n|\r", text), ""]:
        if not line:
            if event:
                yield {**event, "data": _parse_data(event["data"])} if "data" in event else event
            event = {}
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data" and "data" in event:
            event["data"] += f"\n{value}"
        elif field:
            event[field] = value


def _parse_data(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def find_differences(old: Reply, new: Reply, ignore: Sequence[str] = ()) -> list[Difference]:
    """Where *new* is not as *old*; what is under a place that differs in kind or length is not looked at.

    Args:
        old: The answer that counts as right.
        new: The other one.
        ignore: Fields that may differ, by name wherever they are (`created_at`) or by path from the
            root of the content (`messages[].id`; [] for every position, * for every key).
    """
    if old.problem or new.problem:
        return [] if old.problem == new.problem else [Difference("problem", (), _of_problem(old, new))]
    found = []
    if old.status != new.status:
        found.append(Difference("status", (), f"{new.status} instead of {old.status}"))
    if old.media_type != new.media_type:
        found.append(Difference("content type", (), "another one"))
    ignored = [_parse_pattern(pattern) for pattern in ignore]
    return found or list(_compare(old.content, new.content, ignored))


def _of_problem(old: Reply, new: Reply) -> str:
    return f"{new.problem or 'an answer'} instead of {old.problem or 'an answer'}"


_Pattern = tuple[bool, tuple[str | int | None, ...]]
"""(anchored at the root, steps); None is every position, "*" every key."""


def _parse_pattern(text: str) -> _Pattern:
    steps: list[str | int | None] = []
    for found in _STEP.finditer(text.removeprefix("$").removeprefix(".")):
        position = found["position"]
        steps.append(found["key"] if position is None else int(position) if position else None)
    return len(steps) > 1 or steps[:1] == [None], tuple(steps)


def is_pattern(text: str) -> bool:
    """True where *text* names a field or a path as `ignore` takes them."""
    return bool(re.fullmatch(r"(\$\.?)?([^.\[\]]+|\[\d*\])(\.[^.\[\]]+|\[\d*\])*", text))


def _is_ignored(place: Place, patterns: Sequence[_Pattern]) -> bool:
    for anchored, steps in patterns:
        if not anchored and place[-1:] == steps:
            return True
        if anchored and len(place) == len(steps) and all(map(_fits, place, steps)):
            return True
    return False


def _fits(part: str | int, step: str | int | None) -> bool:
    if isinstance(part, int):
        return step is None or step == part
    return step in ("*", part)


def _compare(old: Any, new: Any, ignored: Sequence[_Pattern]) -> Iterator[Difference]:
    # A stack instead of recursion: an answer may be nested deeper than Python recurses.
    waiting: list[tuple[Place, Any, Any]] = [((), old, new)]
    while waiting:
        place, one, other = waiting.pop()
        if _is_ignored(place, ignored):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted(one.keys() ^ other.keys()):
                if not _is_ignored((*place, key), ignored):
                    what = "missing" if key in one else _ADDED
                    yield Difference("content", (*place, key), what)
            waiting += [((*place, key), one[key], other[key]) for key in one if key in other]
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            waiting += [((*place, n), a, b) for n, (a, b) in enumerate(zip(one, other, strict=True))]
        elif what := _difference(one, other):
            yield Difference("content", place, what)


def _difference(one: Any, other: Any) -> str:
    """How two values differ, empty where they do not; 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return "another type"
    if isinstance(one, list):
        return f"{len(other)} items instead of {len(one)}"
    if one == other or (one != one and other != other):
        return ""
    if isinstance(one, str) and "\n" in one:
        lines = zip(one.splitlines(), other.splitlines(), strict=False)
        alike = next((n for n, (a, b) in enumerate(lines) if a != b), None)
        return f"another text from line {alike + 1} on" if alike is not None else "shorter or longer text"
    return "another value"


def show_place(place: Place, known: Collection[str], *, every: bool = False) -> str:
    """*place* as a path; with *every*, [] for each position, as `ignore` takes it.

    A key may be data itself, such as the name of a user. Only those that are in *known* are shown,
    any other as *.
    """
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += "[]" if every else f"[{part}]"
        else:
            shown += "." * bool(shown) + (part if part in known else "*")
    return shown
