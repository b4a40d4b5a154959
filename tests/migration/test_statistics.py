import math

import numpy as np
import pytest

from benchmarks import gate_statistics
from benchmarks.gate_statistics import Plant
from unified_db.migration import judging, statistics
from unified_db.migration.statistics import Block, Comparison, Decision, Tail

GATES = 40


def simulate_block(random, *, slower=1.0, before_ms=20.0, bias=0.03, spread=0.15, requests=30):
    """Two processes that differ by *bias* for their life, and requests that differ by *spread*."""
    biases = random.normal(0, bias / math.sqrt(2), size=2)
    before, after = (
        before_ms * factor * np.exp(b + random.normal(0, spread, size=requests))
        for factor, b in zip((1.0, slower), biases, strict=True)
    )
    return Block(before, after)


def comparison(**values):
    usual = {
        "ratio": 1.0,
        "low": 0.98,
        "high": 1.02,
        "before_ms": 20.0,
        "after_ms": 20.0,
    }
    return Comparison(**{**usual, **values})


@pytest.fixture(scope="module")
def noise():
    """As it was measured on the example; `make gate-statistics` measures it anew."""
    return gate_statistics.load_noise()


@pytest.mark.parametrize(
    ("plant", "opens"),
    [
        pytest.param(Plant(), True, id="the-same-opens"),
        pytest.param(Plant("chat", 1.2), False, id="a-fifth-slower-closes"),
        pytest.param(Plant("chat", 1.5), False, id="half-slower-closes"),
        pytest.param(Plant("chat", 1.2, (8,)), False, id="a-fifth-slower-at-8-alone-closes"),
        pytest.param(Plant("history", 1.2, (8,)), False, id="another-a-fifth-slower-at-8-alone-closes"),
    ],
)
def test_a_whole_simulated_gate_is_right(noise, plant, opens):
    """All requests and operations at once; docs/gate-statistics.md has the table of many more gates."""
    outcomes = [gate_statistics.simulate_gate(seed, noise, plant) for seed in range(GATES)]
    assert len(noise.series) == 12
    assert sum(o.opened == opens for o in outcomes) >= GATES - 1


def test_noise_alone_is_never_said_to_be_surely_slower(noise):
    """Three times as loud as measured, a gate may stay undecided, but it does not accuse."""
    outcomes = [gate_statistics.simulate_gate(seed, noise, Plant(), louder=3.0) for seed in range(GATES)]
    assert all(o.opened or o.undecided for o in outcomes)


def test_the_levels_of_all_looks_together_are_the_level():
    assert sum(judging.LEVELS) == pytest.approx(0.10), "5 % on each side"
    assert len(judging.LEVELS) == len(judging.LOOKS)


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
        pytest.param({"ratio": 1.4, "after_ms": 42}, False, id="under-half-more"),
        pytest.param({"ratio": 1.6, "after_ms": 48}, True, id="over-half-more"),
        pytest.param({"ratio": 1.6, "after_ms": 48, "low": 0.9}, False, id="perhaps-noise"),
        pytest.param({"ratio": 1.6, "before_ms": 1, "after_ms": 1.6}, False, id="too-small-to-matter"),
    ],
)
def test_the_tail_closes_only_when_it_is_much_worse(values, worse):
    tail = Tail(**{"ratio": 1.0, "low": 1.2, "before_ms": 30, "after_ms": 30, **values})
    assert statistics.tail_got_worse(tail, max_ratio=1.5, min_diff_ms=1.0) == worse


def test_the_slowest_answers_are_compared_for_all_requests_at_once():
    random = np.random.default_rng(1)
    same = [simulate_block(random, bias=0.05, spread=0.4) for _ in range(5)]
    worse = [simulate_block(random, bias=0.05, spread=0.4) for _ in range(5)]
    # One answer in ten is ten times as slow, which no median shows.
    worse = [Block(b.before, np.where(np.arange(30) < 3, 10 * b.after, b.after)) for b in worse]
    first, second = statistics.compare_tails([same, worse], level=0.05)
    assert first.low < 1 < first.ratio * 1.5
    assert statistics.tail_got_worse(second, max_ratio=1.5, min_diff_ms=1.0)
    assert statistics.compare([*worse], level=0.05, seed=1).ratio < 1.3


def test_one_block_says_nothing_sure_of_the_slowest_answers():
    (tail,) = statistics.compare_tails([[simulate_block(np.random.default_rng(1), slower=9)]], level=0.05)
    assert tail.low == 0


def test_times_of_the_same_waves_are_compared_in_pairs():
    """Both sides wait longer in a wave with more slow requests; that is no doubt about their ratio."""
    random = np.random.default_rng(1)
    waves = 20 * np.exp(random.normal(0, 0.5, size=60))
    paired = Block(waves, waves * np.exp(random.normal(0, 0.05, size=60)))
    alone = Block(waves, np.append(paired.after, 20.0))
    assert paired.variance_within < alone.variance_within / 4


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [(0.975, 2, 4.30265), (0.995, 4, 4.60409), (0.975, 11, 2.20099), (0.5, 3, 0.0), (0.975, 1, 12.7062)],
)
def test_students_quantiles_are_those_of_the_tables(probability, degrees, quantile):
    assert statistics.student_quantile(probability, degrees) == pytest.approx(quantile, rel=1e-3, abs=1e-3)


def test_a_sample_is_thinned_and_a_short_one_is_kept():
    assert len(statistics.thin(np.arange(1000.0), keep=50, seed=1)) == 50
    assert statistics.thin(np.array([3.0, 1.0]), keep=50, seed=1) == (3.0, 1.0)
