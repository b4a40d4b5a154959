import math

import numpy as np
import pytest

from unified_db.migration import statistics
from unified_db.migration.statistics import Block, Comparison, Decision

LOOKS = (3, 5, 8, 12, 18)
LEVEL = statistics.level_per_look(0.05, len(LOOKS))


def simulate_block(random, *, slower=1.0, before_ms=20.0, bias=0.03, spread=0.15, requests=30):
    """Two processes that differ by *bias* for their life, and requests that differ by *spread*."""
    biases = random.normal(0, bias / math.sqrt(2), size=2)
    before, after = (
        before_ms * factor * np.exp(b + random.normal(0, spread, size=requests))
        for factor, b in zip((1.0, slower), biases, strict=True)
    )
    return Block(before, after)


def simulate_gate(seed, *, series=3, **options):
    """Look at growing evidence as the benchmark does: what the gate says of each request in the end."""
    random = np.random.default_rng(seed)
    blocks = [[] for _ in range(series)]
    decided = [Decision.UNDECIDED] * series
    for look in LOOKS:
        for found in blocks:
            found += [simulate_block(random, **options) for _ in range(look - len(found))]
        usual = float(np.median([statistics.variance_between(found, seed=seed) for found in blocks]))
        for number, found in enumerate(blocks):
            if decided[number] is Decision.UNDECIDED:
                compared = statistics.compare(found, level=LEVEL, seed=seed, usual_variance=usual)
                decided[number] = statistics.decide(
                    compared, max_ratio=1.10, min_diff_ms=1.0, last_look=look == LOOKS[-1]
                )
        if Decision.UNDECIDED not in decided:
            break
    return decided


def comparison(**values):
    usual = {
        "ratio": 1.0,
        "low": 0.98,
        "high": 1.02,
        "before_ms": 20.0,
        "after_ms": 20.0,
        "before_p95_ms": 30.0,
        "after_p95_ms": 30.0,
        "p95_ratio": 1.0,
        "p95_low": 1.2,
    }
    return Comparison(**{**usual, **values})


@pytest.mark.parametrize(
    ("slower", "opens"),
    [
        pytest.param(1.0, True, id="the-same-opens"),
        pytest.param(1.2, False, id="a-fifth-slower-closes"),
        pytest.param(1.5, False, id="half-slower-closes"),
    ],
)
def test_the_gate_is_right_about_99_of_100_simulated_requests(slower, opens):
    decisions = [d for seed in range(34) for d in simulate_gate(seed, slower=slower)]
    assert sum((d is Decision.OPEN) == opens for d in decisions) >= 0.99 * len(decisions)


@pytest.mark.parametrize(
    "steadied", [pytest.param(False, id="alone"), pytest.param(True, id="steadied-by-others")]
)
def test_the_interval_misses_the_true_ratio_no_more_often_than_its_level_says(steadied):
    missed = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        series = [
            [simulate_block(random, slower=1.1, bias=bias) for _ in range(3)] for bias in (0.03, 0.05, 0.08)
        ]
        variances = [statistics.variance_between(blocks, seed=seed) for blocks in series]
        usual = float(np.median(variances)) if steadied else None
        found = statistics.compare(series[seed % 3], level=0.2, seed=seed, usual_variance=usual)
        missed += not found.low <= 1.1 <= found.high
    assert missed <= 20


def test_the_same_seed_gives_the_same_interval():
    blocks = [simulate_block(np.random.default_rng(n)) for n in range(5)]
    assert statistics.compare(blocks, level=0.05, seed=7) == statistics.compare(blocks, level=0.05, seed=7)


def test_one_block_decides_nothing():
    found = statistics.compare([simulate_block(np.random.default_rng(1), slower=9)], level=0.05, seed=1)
    assert statistics.decide(found, max_ratio=1.1, min_diff_ms=1.0) is Decision.UNDECIDED


def test_no_response_time_is_an_error():
    with pytest.raises(ValueError, match="nothing to compare"):
        statistics.compare([Block(np.array([]), np.array([1.0]))], level=0.05, seed=1)


SLOWER = {"low": 1.12, "high": 1.3, "after_ms": 24}
TINY = {"low": 2, "before_ms": 0.2, "after_ms": 0.5}


@pytest.mark.parametrize(
    ("values", "last_look", "decision"),
    [
        pytest.param({"high": 1.10}, False, Decision.OPEN, id="wholly-under-opens"),
        pytest.param(SLOWER, False, Decision.CLOSED, id="wholly-above-closes"),
        pytest.param({"high": 1.3, "after_ms": 22}, True, Decision.UNDECIDED, id="neither-is-undecided"),
        pytest.param({**TINY, "high": 3}, False, Decision.OPEN, id="too-small-to-matter-opens"),
        pytest.param({**TINY, "high": 9}, False, Decision.UNDECIDED, id="what-may-matter-is-measured-on"),
        pytest.param({**TINY, "high": 9}, True, Decision.OPEN, id="what-did-not-matter-opens-in-the-end"),
    ],
)
def test_decisions(values, last_look, decision):
    found = comparison(**values)
    assert statistics.decide(found, max_ratio=1.10, min_diff_ms=1.0, last_look=last_look) is decision


@pytest.mark.parametrize(
    ("values", "worse"),
    [
        pytest.param({"p95_ratio": 1.4, "after_p95_ms": 42}, False, id="under-half-more"),
        pytest.param({"p95_ratio": 1.6, "after_p95_ms": 48}, True, id="over-half-more"),
        pytest.param({"p95_ratio": 1.6, "p95_low": 0.9, "after_p95_ms": 48}, False, id="perhaps-noise"),
        pytest.param({"p95_ratio": 1.6, "after_p95_ms": 30.5}, False, id="too-small-to-matter"),
    ],
)
def test_the_tail_closes_only_when_it_is_much_worse(values, worse):
    assert statistics.tail_got_worse(comparison(**values), max_ratio=1.5, min_diff_ms=1.0) == worse


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [(0.975, 2, 4.30265), (0.995, 4, 4.60409), (0.975, 11, 2.20099), (0.5, 3, 0.0), (0.975, 1, 12.7062)],
)
def test_students_quantiles_are_those_of_the_tables(probability, degrees, quantile):
    assert statistics.student_quantile(probability, degrees) == pytest.approx(quantile, rel=1e-3, abs=1e-3)


def test_a_sample_is_thinned_and_a_short_one_is_kept():
    assert len(statistics.thin(np.arange(1000.0), keep=50, seed=1)) == 50
    assert statistics.thin(np.array([3.0, 1.0]), keep=50, seed=1) == (3.0, 1.0)
