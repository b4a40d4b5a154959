"""What is decided about response times after each look at growing evidence; measures nothing.

Kept apart from the measuring, so that its decisions can be tried on simulated blocks by the
thousand. What a difference of two sides means is the business of `statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, Protocol

from unified_db.migration import statistics
from unified_db.migration.config import BenchmarkConfig
from unified_db.migration.statistics import Block, Comparison, Decision, Tail

LOOKS = (3, 5, 8, 12, 18, 26)
"""After how many blocks the evidence is judged."""

MAX_TAIL_RATIO = 1.5

# 5 % on each side: to open at exactly `max_ratio`, and to close there.
_LEVEL = 0.10
# Stricter: nothing is measured on to make sure of a 95th percentile, so chance must not close for one.
_TAIL_LEVEL = 0.005
LEVELS = statistics.levels_of_looks(_LEVEL, (1, 1, 2, 2, 3, 3))
"""The level of each look. What is noisy is decided late, so the late looks have more of it."""

Series = tuple[str, int]
"""A request's or an operation's name and its concurrency."""

Part = int | Literal["operations"]
"""A part of a block: the requests at one concurrency, or LangGraph's operations."""

Blocks = Mapping[Series, Sequence[Block]]


class Shown(Protocol):
    """What blocks have shown: requests and LangGraph operations."""

    @property
    def latencies(self) -> Blocks:
        """Blocks of each request at each concurrency."""

    @property
    def operations(self) -> Blocks:
        """Blocks of each operation."""


@dataclass(frozen=True)
class Judged:
    """What was decided of one request or operation, after how many blocks, and on what grounds."""

    decision: Decision
    comparison: Comparison
    blocks: int


@dataclass
class Judgements:
    """What is decided so far; what was decided at one look is not opened again at a later one.

    Attributes:
        tails: The 95th percentiles of the requests, over all blocks of the last look.
    """

    latencies: dict[Series, Judged] = field(default_factory=dict)
    operations: dict[Series, Judged] = field(default_factory=dict)
    tails: dict[Series, Tail] = field(default_factory=dict)
    _looks: int = 0

    def look(self, shown: Shown, rule: BenchmarkConfig, *, seed: int, last: bool) -> None:
        """Judge what is not decided yet on all blocks so far; at most as often as there are `LOOKS`."""
        level = LEVELS[self._looks]
        self._looks += 1
        for judged, series in ((self.latencies, shown.latencies), (self.operations, shown.operations)):
            variances = [statistics.variance_between(blocks, seed=seed) for blocks in series.values()]
            usual = median(variances) if len(variances) > 1 else None
            for name, blocks in series.items():
                if name not in judged or judged[name].decision is Decision.UNDECIDED:
                    judged[name] = _judge(
                        blocks, rule, level=level, seed=seed, usual_variance=usual, last=last
                    )
        tails = statistics.compare_tails(list(shown.latencies.values()), level=_TAIL_LEVEL)
        self.tails = dict(zip(shown.latencies, tails, strict=True))

    @property
    def decisions(self) -> list[Decision]:
        """All of them."""
        return [j.decision for j in (*self.latencies.values(), *self.operations.values())]

    @property
    def decided_parts(self) -> frozenset[Part]:
        """The parts of a block in which nothing is open any more, so that they need not be measured."""
        parts: dict[Part, list[Decision]] = {}
        for (_, concurrency), judged in self.latencies.items():
            parts.setdefault(concurrency, []).append(judged.decision)
        if self.operations:
            parts["operations"] = [j.decision for j in self.operations.values()]
        return frozenset(p for p, decisions in parts.items() if Decision.UNDECIDED not in decisions)

    @property
    def final(self) -> bool:
        """True where more blocks would change nothing."""
        return Decision.CLOSED in self.decisions or Decision.UNDECIDED not in self.decisions

    def worse_tails(self, rule: BenchmarkConfig) -> list[Series]:
        """The requests whose slowest answers are surely and much slower."""
        return [
            series
            for series, tail in self.tails.items()
            if statistics.tail_got_worse(tail, max_ratio=MAX_TAIL_RATIO, min_diff_ms=rule.min_diff_ms)
        ]


def _judge(
    blocks: Sequence[Block],
    rule: BenchmarkConfig,
    *,
    level: float,
    seed: int,
    usual_variance: float | None,
    last: bool,
) -> Judged:
    found = statistics.compare(blocks, level=level, seed=seed, usual_variance=usual_variance)
    decision = statistics.decide(
        found, max_ratio=rule.max_ratio, min_diff_ms=rule.min_diff_ms, last_look=last
    )
    return Judged(decision, found, len(blocks))
