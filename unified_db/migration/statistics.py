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
from functools import cache

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


@dataclass(frozen=True)
class Block:
    """Response times of one request at one concurrency in one block, both sides."""

    before: Samples
    after: Samples


@dataclass(frozen=True)
class Comparison:
    """After against before.

    Attributes:
        ratio: Geometric mean over the blocks of median after by median before.
        low: Lower bound of the ratio's confidence interval.
        high: Upper bound of it.
        before_ms: Geometric mean over the blocks' medians, so that after_ms / before_ms is the ratio.
        after_ms: As before_ms.
        p95_ratio: Median over the blocks of the ratio of 95th percentiles.
        p95_low: Lower bound of that ratio's 95 % confidence interval; 0 for one block.
    """

    ratio: float
    low: float
    high: float
    before_ms: float
    after_ms: float
    before_p95_ms: float
    after_p95_ms: float
    p95_ratio: float
    p95_low: float

    @property
    def difference_ms(self) -> float:
        """How much slower the median is; negative where it is faster."""
        return self.after_ms - self.before_ms


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
    p95s = np.array([[np.percentile(b.before, 95), np.percentile(b.after, 95)] for b in blocks])
    return Comparison(
        ratio=math.exp(centre),
        low=math.exp(centre - half_width),
        high=math.exp(min(centre + half_width, 50.0)),
        before_ms=_typical([b.before for b in blocks]),
        after_ms=_typical([b.after for b in blocks]),
        before_p95_ms=float(np.median(p95s[:, 0])),
        after_p95_ms=float(np.median(p95s[:, 1])),
        p95_ratio=float(np.median(p95s[:, 1] / p95s[:, 0])),
        p95_low=_lower_bound(np.log(p95s[:, 1] / p95s[:, 0])),
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
    within = float(np.mean([_resampled_log_ratios(block, random).var() for block in blocks]))
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


def tail_got_worse(comparison: Comparison, *, max_ratio: float, min_diff_ms: float) -> bool:
    """True where the 95th percentile is worse by *max_ratio* in more than half of the blocks.

    And surely worse at all: the slowest of a few dozen answers are mostly noise.
    """
    difference_ms = comparison.after_p95_ms - comparison.before_p95_ms
    return comparison.p95_ratio > max_ratio and comparison.p95_low > 1 and difference_ms >= min_diff_ms


def level_per_look(level: float, looks: int) -> float:
    """The level of each of *looks* looks at growing evidence, so that all of them together keep *level*.

    Bonferroni's split: looking four times at 0.05 each would err far more often than in 0.05.
    """
    return level / looks


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


def _lower_bound(log_ratios: Samples) -> float:
    count = len(log_ratios)
    if count == 1:
        return 0.0
    half_width = student_quantile(0.975, count - 1) * float(log_ratios.std(ddof=1)) / math.sqrt(count)
    return math.exp(float(log_ratios.mean()) - half_width)


def _typical(sides: Sequence[Samples]) -> float:
    return math.exp(float(np.mean([math.log(float(np.median(side))) for side in sides])))


def _log_ratio(block: Block) -> float:
    return math.log(float(np.median(block.after)) / float(np.median(block.before)))


def _half_width(blocks: Sequence[Block], *, level: float, seed: int, usual_variance: float | None) -> float:
    degrees, variance = len(blocks) - 1, variance_between(blocks, seed=seed)
    # One block says nothing of how much blocks differ.
    if not degrees:
        return math.inf
    if usual_variance is not None:
        weighted = degrees * variance + _PRIOR_DEGREES * usual_variance
        degrees += _PRIOR_DEGREES
        variance = weighted / degrees
    return student_quantile(1 - level / 2, degrees) * math.sqrt(variance / len(blocks))


def _resampled_log_ratios(block: Block, random: np.random.Generator) -> Samples:
    before, after = (
        np.median(side[random.integers(len(side), size=(_RESAMPLES_WITHIN, len(side)))], axis=1)
        for side in (block.before, block.after)
    )
    return np.asarray(np.log(after / before))
