"""Conversations begun before the migration go on: the same requests get equal answers on both sides.

Part of the benchmark's verdict. That the stored state of every thread is equal, which needs no
server, is validation's to prove. Answers are data: what differs is named by its path alone.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import httpx

from unified_db.errors import ServerError
from unified_db.migration import asking, naming, stage, wording
from unified_db.migration.asking import Question
from unified_db.migration.config import MigrationConfig, RequestConfig
from unified_db.migration.continuity_config import ContinuityConfig
from unified_db.migration.load import Side
from unified_db.migration.records import Backups, Finding
from unified_db.migration.replies import WELL_KNOWN_KEYS, Difference, Reply, find_differences, parse_reply
from unified_db.migration.stage import Stages

log = logging.getLogger(__name__)

Serve = Callable[[Side], AbstractContextManager[int]]
"""Starts the staged server of a side for the block and gives its port."""

_TIMEOUT_S = 30.0
_MOST_SILENT = 2
_NOT_ASKED = f"not asked after {_MOST_SILENT} requests without an answer"
_MOST_BYTES = 64 * 1024 * 1024
_MOST_ROWS = 100
# As often as a test that fails is run again on the old files.
_MOST_REPEATS = 5
_NAMED = 5


Place = tuple[int, int, int]
"""A request: its conversation, the row of values, its number, each counted from 0."""


@dataclass(frozen=True)
class _Answer:
    """What came back, and what is wrong with it by the configuration; empty where nothing is."""

    reply: Reply
    wrong: str


Questions = Mapping[Place, Question]
Answers = Mapping[Place, _Answer]


@dataclass
class _Compared:
    """What differs between the two sides, and which of it differs on the old side alone."""

    differences: dict[Place, list[Difference]]
    varying: dict[Place, list[Difference]] = field(default_factory=dict)

    def note_varying(self, found: Mapping[Place, Sequence[Difference]]) -> None:
        """What another run on the old side answered otherwise."""
        for place, differences in found.items():
            self.varying.setdefault(place, []).extend(differences)

    def is_varying(self, place: Place, difference: Difference) -> bool:
        """True where the old side itself does not always answer alike there."""
        return any(known.explains(difference) for known in self.varying.get(place, ()))

    def real(self, place: Place) -> list[Difference]:
        """What differs there and is always alike on the old side."""
        return [d for d in self.differences.get(place, ()) if not self.is_varying(place, d)]

    @property
    def is_settled(self) -> bool:
        """True where asking the old side again would change nothing."""
        return not any(self.real(place) for place in self.differences)


def check_continuity(
    config: MigrationConfig, stages: Stages, backups: Backups, serve: Serve
) -> list[Finding]:
    """Let every configured conversation go on, on both sides; none configured, no finding.

    Each side is asked on fresh copies of its databases. Where the answers differ, the old side is
    asked again, up to five times, and what differs there as well is said to prove nothing. Leaves
    the staged databases changed.

    Returns:
        One finding for each conversation that went on alike, else one for each request that did not.

    Raises:
        ConfigError: A query for values cannot be used, or a request names no column of it.
        ServerError: The staged server does not start on the old files.
    """
    if not config.continuity:
        return []
    if not config.app.start:
        missing = "no app.start, so there is no server to ask"
        return [_finding("all", "equal answers on both sides", missing, passed=False)]
    asked = _expand(config, asking.read_backups(config, backups))
    log.info("continuity: %d requests of %d conversations", len(asked), len({p[:2] for p in asked}))
    old = _ask(asked, "before", stages, serve)
    if any(answer.wrong for answer in old.values()):
        return _wrong_before(config, asked, old)
    try:
        new = _ask(asked, "after", stages, serve)
    except ServerError as error:
        return [_does_not_start(error)]
    compared = _Compared(_differences(config, old, new))
    for _ in range(_MOST_REPEATS):
        if compared.is_settled:
            break
        log.info("continuity: asking the old side again, since answers differ")
        again = _ask(asked, "before", stages, serve)
        compared.note_varying(_differences(config, old, again))
    if not any(compared.differences.values()):
        return list(_judge(config, asked, compared, known=frozenset()))
    known = naming.find_words(stages.before) | WELL_KNOWN_KEYS
    return list(_judge(config, asked, compared, known=known))


def _expand(config: MigrationConfig, values: Mapping[str, Sequence[asking.Row]]) -> dict[Place, Question]:
    """All requests of all conversations in their order, each once for every row of its values."""
    asked = {}
    for number, conversation in enumerate(config.continuity):
        rows = values.get(asking.conversation_key(conversation), ({},))[:_MOST_ROWS]
        for row_number, row in enumerate(rows):
            # One for the whole conversation and both sides, else every answer that repeats it would differ.
            filled = {"uuid": str(uuid.uuid4()), **row}
            for step_number, step in enumerate(conversation.request):
                request = RequestConfig(
                    **step.model_dump(), name=_where(conversation, step_number), values=conversation.values
                )
                asked[number, row_number, step_number] = asking.ask(request, [filled])
    return asked


def _ask(asked: Questions, side: Side, stages: Stages, serve: Serve) -> dict[Place, _Answer]:
    """Send all requests to a fresh server on fresh copies, one after the other."""
    stage.reset_databases(stages, side=side)
    # Without what the environment says of proxies: the server is ours.
    answers: dict[Place, _Answer] = {}
    with serve(side) as port, httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
        for place, question in asked.items():
            silent = sum(bool(answer.reply.problem) for answer in answers.values())
            # A server that hangs would make each request wait its whole time.
            answers[place] = (
                _no_answer(_NOT_ASKED) if silent >= _MOST_SILENT else _send(client, port, question)
            )
    return answers


def _send(client: httpx.Client, port: int, question: Question) -> _Answer:
    deadline = time.monotonic() + _TIMEOUT_S
    headers = {} if question.body is None else {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}{question.path}"
    try:
        with client.stream(question.method, url, content=question.body, headers=headers) as response:
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES or time.monotonic() > deadline:
                    return _no_answer("an answer without an end")
        reply = parse_reply(response.status_code, response.headers.get("content-type", ""), body)
        return _Answer(reply, question.problem(response.status_code, body))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _no_answer(type(error).__name__)


def _no_answer(problem: str) -> _Answer:
    return _Answer(Reply(problem=problem), problem)


def _differences(config: MigrationConfig, old: Answers, other: Answers) -> dict[Place, list[Difference]]:
    return {
        place: find_differences(old[place].reply, other[place].reply, config.continuity[place[0]].ignore)
        for place in old
    }


def _judge(
    config: MigrationConfig, asked: Questions, compared: _Compared, *, known: Collection[str]
) -> Iterator[Finding]:
    for number, conversation in enumerate(config.continuity):
        places = [p for p in asked if p[0] == number]
        wrong = {p: found for p in places if (found := compared.real(p))}
        for request in sorted({p[2] for p in wrong}):
            of_request = {p: found for p, found in wrong.items() if p[2] == request}
            yield _differing(conversation, request, of_request, known)
        if not wrong:
            yield _alike(conversation, places, compared, known)


def _differing(
    conversation: ContinuityConfig,
    request: int,
    wrong: Mapping[Place, Sequence[Difference]],
    known: Collection[str],
) -> Finding:
    """One request that is answered otherwise on the unified file, in one or more conversations."""
    said = list(dict.fromkeys(f"{d.where(known)}: {d.what}" for found in wrong.values() for d in found))
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    rows = f", in {len(wrong)} conversations" if len(wrong) > 1 else ""
    return _finding(
        where=_where(conversation, request),
        required="equal answers on both sides",
        measured=f"{'; '.join(said[:_NAMED])}{more}{rows}; always alike on the old files",
        passed=False,
    )


def _alike(
    conversation: ContinuityConfig, places: Sequence[Place], compared: _Compared, known: Collection[str]
) -> Finding:
    """A conversation that went on; with what of it proves nothing."""
    differing = (d for place in places for d in compared.differences.get(place, ()))
    varying = list(dict.fromkeys(d.where(known, every=True) for d in differing))
    conversations = wording.count(len({p[1] for p in places}), "conversation")
    measured = f"{wording.count(len(places), 'answer')} in {conversations} alike"
    if varying:
        more = f" and {len(varying) - _NAMED} more" if len(varying) > _NAMED else ""
        measured += (
            f", but for {', '.join(varying[:_NAMED])}{more}: not comparable, it differs on the old files too "
            "and proves nothing (`ignore` says that it may)"
        )
    return _finding(conversation.name, "equal answers on both sides", measured, passed=True)


def _where(conversation: ContinuityConfig, request: int) -> str:
    return f"{conversation.name}, request {request + 1} of {len(conversation.request)}"


def _wrong_before(config: MigrationConfig, asked: Questions, old: Answers) -> list[Finding]:
    """Two wrong answers may be equal and would prove nothing."""
    found = [
        Finding(
            check="conversations are answered as expected on the old files",
            where=_where(config.continuity[place[0]], place[2]),
            required=f"status {asked[place].expect_status} and what the configuration expects",
            measured=answer.wrong,
            passed=False,
        )
        for place, answer in old.items()
        if answer.wrong
    ]
    return list(dict.fromkeys(found))


def _does_not_start(error: ServerError) -> Finding:
    return _finding("staged server on the unified file", "ready", error.message.splitlines()[0], passed=False)


def _finding(where: str, required: str, measured: str, *, passed: bool) -> Finding:
    return Finding(
        check="conversations begun before go on",
        where=where,
        required=required,
        measured=measured,
        passed=passed,
    )
