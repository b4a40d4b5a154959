"""Is it slower? Pure functions from response times of two sides to a decision.

The unit of evidence is a block: both servers freshly started, requests to both interleaved.
Two processes of the same code differ by some per cent for their whole life, so a thousand
requests to one pair of processes are one observation and not a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
"""Response times in milliseconds."""

_RESAMPLES = 400
_RESAMPLES_WITHIN = 100
_PRIOR_DEGREES = 4
_GRID = 200_001


class Decision(StrEnum):
    """What the blocks measured so far allow to say."""

    OPEN = "open"
    CLOSED = "closed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Block:
    """Response times of one request at one concurrency in one block, both sides.

    Where both sides have as many, the times in one place are of the same request in the same wave.
    """

    before: Samples
    after: Samples

    @cached_property
    def variance_within(self) -> float:
        """How far the log ratio of the medians is open within the block, from a bootstrap over requests.

        Over pairs where there are some: both sides wait longer in a wave with more slow requests.
        """
        random = np.random.default_rng(len(self.before))
        first = _resample(len(self.before), random)
        second = first if len(self.before) == len(self.after) else _resample(len(self.after), random)
        before = np.median(self.before[first], axis=1)
        after = np.median(self.after[second], axis=1)
        return float(np.log(after / before).var())


@dataclass(frozen=True)
class Comparison:
    """After against before.

    Attributes:
        ratio: Geometric mean over the blocks of median after by median before.
        low: Lower bound of the ratio's confidence interval.
        high: Upper bound of it.
        before_ms: Geometric mean over the blocks' medians, so that after_ms / before_ms is the ratio.
        after_ms: As before_ms.
    """

    ratio: float
    low: float
    high: float
    before_ms: float
    after_ms: float

    @property
    def difference_ms(self) -> float:
        """How much slower the median is; negative where it is faster."""
        return self.after_ms - self.before_ms


@dataclass(frozen=True)
class Tail:
    """The 95th percentile after against before.

    Attributes:
        ratio: Geometric mean over the blocks of p95 after by p95 before.
        low: Lower bound of the ratio; 0 for one block.
        before_ms: Geometric mean over the blocks, so that after_ms / before_ms is the ratio.
        after_ms: As before_ms.
    """

    ratio: float
    low: float
    before_ms: float
    after_ms: float


def compare(
    blocks: Sequence[Block], *, level: float, seed: int, usual_variance: float | None = None
) -> Comparison:
    """Compare two sides over *blocks*.

    The interval is that of the mean of the blocks' log ratios: its standard error from a
    bootstrap, widened by Student's factor for few blocks, since a bootstrap of three blocks
    alone believes itself far too much.

    Args:
        blocks: At least one; each with at least one response time per side.
        level: Probability that the interval misses the true ratio, such as 0.05.
        seed: Of the resampling; the same seed gives the same interval.
        usual_variance: What :func:`variance_between` says of other requests in the same blocks.
            Three blocks alone hardly know their own variance; this counts as four more
            (the moderated t of Smyth 2004, doi 10.2202/1544-6115.1027).

    Raises:
        ValueError: No block, or a block without a response time.
    """
    if not blocks or any(not len(b.before) or not len(b.after) for b in blocks):
        raise ValueError("nothing to compare: every block needs response times of both sides")
    ratios = np.array([_log_ratio(block) for block in blocks])
    centre = float(ratios.mean())
    half_width = _half_width(blocks, level=level, seed=seed, usual_variance=usual_variance)
    return Comparison(
        ratio=math.exp(centre),
        low=math.exp(centre - half_width),
        high=math.exp(min(centre + half_width, 50.0)),
        before_ms=_typical([b.before for b in blocks]),
        after_ms=_typical([b.after for b in blocks]),
    )


def variance_between(blocks: Sequence[Block], *, seed: int) -> float:
    """How much the log ratio varies from block to block, from a bootstrap over blocks and within them.

    Never less than what the spread of single requests within a block explains by itself, so that
    a few blocks which agree by luck do not look like certainty. Infinite for one block.
    """
    count = len(blocks)
    if count == 1:
        return math.inf
    random = np.random.default_rng(seed)
    within = float(np.mean([block.variance_within for block in blocks]))
    ratios = np.array([_log_ratio(block) for block in blocks])
    means = ratios[random.integers(count, size=(_RESAMPLES, count))].mean(axis=1)
    # Resampling n of n understates the variance between blocks by (n-1)/n.
    between = float(means.var()) * count * count / (count - 1)
    return max(between, within)


def decide(
    comparison: Comparison, *, max_ratio: float, min_diff_ms: float, last_look: bool = False
) -> Decision:
    """Say whether the median got slower by more than *max_ratio*.

    Open when the whole interval is at or under *max_ratio* or its upper bound means less than
    *min_diff_ms*; closed when the whole interval is above and the difference matters. A difference
    under *min_diff_ms* never closes, so on the last look it opens.
    """
    most_ms = comparison.before_ms * (comparison.high - 1)
    matters = comparison.difference_ms >= min_diff_ms
    if comparison.high <= max_ratio or most_ms < min_diff_ms:
        return Decision.OPEN
    if comparison.low > max_ratio and matters:
        return Decision.CLOSED
    if last_look and not matters:
        return Decision.OPEN
    return Decision.UNDECIDED


def compare_tails(series: Sequence[Sequence[Block]], *, level: float) -> list[Tail]:
    """The 95th percentiles of several requests, which were measured in the same blocks.

    Args:
        series: Blocks of each request.
        level: Probability that any of the lower bounds lies above its true ratio; it is split among
            the requests, since the worst of many looks bad by chance.
    """
    p95s = [np.log([[_p95(b.before), _p95(b.after)] for b in blocks]) for blocks in series]
    variances = [float(np.var(p[:, 1] - p[:, 0], ddof=1)) if len(p) > 1 else math.inf for p in p95s]
    usual = float(np.median(variances)) if len(variances) > 1 else None
    return [
        _tail(p, variance, usual, level=level / len(series))
        for p, variance in zip(p95s, variances, strict=True)
    ]


def tail_got_worse(tail: Tail, *, max_ratio: float, min_diff_ms: float) -> bool:
    """True where the 95th percentile is worse by *max_ratio*, and surely worse at all.

    The slowest of a few dozen answers are mostly noise.
    """
    return tail.ratio > max_ratio and tail.low > 1 and tail.after_ms - tail.before_ms >= min_diff_ms


def levels_of_looks(level: float, weights: Sequence[float]) -> tuple[float, ...]:
    """The level of each look at growing evidence, so that all of them together keep *level*.

    Bonferroni's split by *weights*: looking four times at 0.05 each would err far more often than in
    0.05. The later looks, which rest on more, may have more of it.
    """
    return tuple(level * weight / sum(weights) for weight in weights)


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, to five digits.

    With x = sqrt(n) tan(a) the density becomes cos(a)^(n-1) on a bounded interval, where a plain
    sum on a fine grid is exact enough.
    """
    angles = np.linspace(-math.pi / 2, math.pi / 2, _GRID)
    weights = np.cumsum(np.cos(angles) ** (degrees - 1))
    angle = float(np.interp(probability, weights / weights[-1], angles))
    return math.sqrt(degrees) * math.tan(angle)


def thin(samples: Samples, *, keep: int, seed: int) -> tuple[float, ...]:
    """At most *keep* of *samples*, chosen at random, in their order and rounded for a plot."""
    if len(samples) > keep:
        chosen = np.sort(np.random.default_rng(seed).choice(len(samples), size=keep, replace=False))
        samples = samples[chosen]
    return tuple(round(float(s), 3) for s in samples)


def _p95(samples: Samples) -> float:
    return float(np.percentile(samples, 95))


def _tail(log_p95s: Samples, variance: float, usual_variance: float | None, *, level: float) -> Tail:
    before, after = (float(side) for side in log_p95s.mean(axis=0))
    # A lower bound alone is meant, so all of the level lies on one side.
    half_width = _student_width(variance, usual_variance, blocks=len(log_p95s), probability=1 - level)
    return Tail(
        ratio=math.exp(after - before),
        low=math.exp(after - before - half_width),
        before_ms=math.exp(before),
        after_ms=math.exp(after),
    )


def _typical(sides: Sequence[Samples]) -> float:
    return math.exp(float(np.mean([math.log(float(np.median(side))) for side in sides])))


def _log_ratio(block: Block) -> float:
    return math.log(float(np.median(block.after)) / float(np.median(block.before)))


def _half_width(blocks: Sequence[Block], *, level: float, seed: int, usual_variance: float | None) -> float:
    variance = variance_between(blocks, seed=seed)
    return _student_width(variance, usual_variance, blocks=len(blocks), probability=1 - level / 2)


def _student_width(
    variance: float, usual_variance: float | None, *, blocks: int, probability: float
) -> float:
    degrees = blocks - 1
    # One block says nothing of how much blocks differ.
    if not degrees:
        return math.inf
    if usual_variance is not None:
        weighted = degrees * variance + _PRIOR_DEGREES * usual_variance
        degrees += _PRIOR_DEGREES
        variance = weighted / degrees
    return student_quantile(probability, degrees) * math.sqrt(variance / blocks)


def _resample(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.integers(count, size=(_RESAMPLES_WITHIN, count))
