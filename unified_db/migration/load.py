"""Requests to two servers side by side, timed: the hands of the benchmark, which judges nothing.

The standard library's client is used, since a general one adds as much time as a quick answer takes.
It knows no proxies, so none in the environment can stand in between.
"""

from __future__ import annotations

import http.client
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import numpy as np

from unified_db.migration.asking import Question, Row, ask
from unified_db.migration.config import RequestConfig
from unified_db.migration.statistics import Block

Side = Literal["before", "after"]
SIDES: tuple[Side, Side] = ("before", "after")

REQUEST_TIMEOUT_S = 15.0


@dataclass
class Tally:
    """What was measured in one block.

    Attributes:
        times: (side, name, concurrency) to response times in ms, of good answers only.
        errors: (side, name, what) to how often.
    """

    times: dict[tuple[Side, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[tuple[Side, str, str]] = field(default_factory=Counter)

    def add(self, side: Side, name: str, concurrency: int, answer: Answer) -> None:
        """Count one answer."""
        if answer.problem:
            self.errors[side, name, answer.problem] += 1
        else:
            self.times[side, name, concurrency].append(answer.ms)

    def error_count(self, side: Side) -> int:
        """Errors of one side."""
        return sum(n for (s, _, _), n in self.errors.items() if s == side)

    def blocks(self) -> Iterator[tuple[tuple[str, int], Block]]:
        """((name, concurrency), both sides' times) for what both sides answered."""
        for name, concurrency in dict.fromkeys((n, c) for _, n, c in self.times):
            before, after = (self.times.get((side, name, concurrency), []) for side in SIDES)
            if before and after:
                yield (name, concurrency), Block(np.array(before), np.array(after))


@dataclass(frozen=True)
class Answer:
    """One answer: how long it took, and what was wrong with it, empty where nothing was."""

    ms: float
    problem: str = ""


class Client:
    """One connection to a server on 127.0.0.1, kept alive where the server allows it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, question: Question) -> Answer:
        """Send *question* and wait for the whole answer."""
        kept_alive = self._connection.sock is not None
        answer = self._exchange(question)
        # A server may close an idle connection at any moment; that is no error of its.
        if answer.problem in _CLOSED and kept_alive:
            answer = self._exchange(question)
        return answer

    def _exchange(self, question: Question) -> Answer:
        begun = time.perf_counter()
        try:
            if self._connection.sock is None:
                self._connection.connect()
                begun = time.perf_counter()
            headers = {} if question.body is None else {"Content-Type": "application/json"}
            self._connection.request(question.method, question.path, question.body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(_ms_since(begun), type(error).__name__)
        took_ms = _ms_since(begun)
        return Answer(took_ms, question.problem(response.status, content))


_CLOSED = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")


@dataclass(frozen=True)
class Load:
    """What is sent to two servers and where its answers are counted.

    Both methods end early at the deadline and after an error that only the after side has.

    Attributes:
        rounds: How often each request is sent to each side.
        random: Decides the order, and which rows values are taken from.
        deadline: Monotonic seconds.
        rows: Name of a request to the rows that it takes values from.
    """

    requests: Sequence[RequestConfig]
    ports: Mapping[Side, int]
    tally: Tally
    rounds: int
    random: Random
    deadline: float
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def send_one_by_one(self) -> None:
        """Send every request to both sides in turn, in random order, one at a time."""
        with ExitStack() as stack:
            clients = {side: stack.enter_context(closing(Client(self.ports[side]))) for side in SIDES}
            for _ in range(self.rounds):
                for request in self.random.sample(list(self.requests), len(self.requests)):
                    question = self._ask(request)
                    for side in self.random.sample(SIDES, 2):
                        self.tally.add(side, request.name, 1, clients[side].send(question))
                    if self._is_over():
                        return

    def send_at_once(self, concurrency: int) -> None:
        """Send all requests mixed, in waves of *concurrency* at a time.

        Both sides get the same waves, in turn, and a wave begins when the one before is answered.
        Were each answer followed by the next request at once, a server that is quicker with the
        slow requests would be asked more of the quick ones at a time and look slower at them.
        """
        with ThreadPoolExecutor(concurrency) as pool, ExitStack() as stack:
            clients = {
                side: [stack.enter_context(closing(Client(self.ports[side]))) for _ in range(concurrency)]
                for side in SIDES
            }
            for wave in self._waves(concurrency):
                if self._is_over():
                    return
                questions = [self._ask(request) for request in wave]
                for side in self.random.sample(SIDES, 2):
                    answers = pool.map(Client.send, clients[side], questions)
                    for question, answer in zip(questions, answers, strict=True):
                        self.tally.add(side, question.name, concurrency, answer)

    def _ask(self, request: RequestConfig) -> Question:
        """One question for both sides: what differs between them is the application alone."""
        return ask(request, self.rows.get(request.name, ()), random=self.random)

    def _waves(self, concurrency: int) -> Iterator[Sequence[RequestConfig]]:
        """All rounds in random order, *concurrency* at a time; filled up from the beginning."""
        order = self.random.sample(list(self.requests) * self.rounds, len(self.requests) * self.rounds)
        order += order[: -len(order) % concurrency]
        return (order[at : at + concurrency] for at in range(0, len(order), concurrency))

    def _is_over(self) -> bool:
        new_error = self.tally.error_count("after") > self.tally.error_count("before")
        return new_error or time.monotonic() > self.deadline


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
