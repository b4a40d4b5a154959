"""Does the benchmark's gate open where nothing got slower and close where something did? By simulation.

    make gate-statistics                                     # all of it; writes docs/gate-statistics.*
    python -m benchmarks.gate_statistics --runs 100          # a part of it, with the noise that was kept

First the noise: the example's old application against a second copy of itself, in blocks as the gate
measures them. Then whole gates on simulated blocks that differ as those did: every look, every level,
all requests and operations at once, the 95th percentiles too, through the very code that judges a run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from unified_db.migration.config import BenchmarkConfig
from unified_db.migration.judging import LOOKS, Judgements, Part, Series
from unified_db.migration.statistics import Block, Decision

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOISE = DOCS / "gate-statistics.json"

_BLOCKS = 14
_PAIRS = 150
_LEAST_SHARE = 0.25


@dataclass(frozen=True)
class SeriesNoise:
    """How one request at one concurrency, or one operation, varied where nothing was different.

    Attributes:
        before_ms: Its median.
        requests: How many answers a block has of each side.
        biases: The log ratio of each measured block, less what its few requests explain.
        pairs: (before, after) of single answers, as logs of their ratio to the median of their side.
    """

    before_ms: float
    requests: int
    biases: Sequence[float]
    pairs: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Noise:
    """The noise of all series, measured in the same blocks, and where it was measured.

    Attributes:
        block_s: What a block takes.
        parts_s: What of it LangGraph's operations and the requests at each concurrency take.
    """

    series: Mapping[Series, SeriesNoise]
    operations: frozenset[Series]
    block_s: float
    parts_s: Mapping[Part, float]
    machine: str

    def seconds(self, without: Collection[Part]) -> float:
        """What a block takes that leaves out what is decided already."""
        if all(part in without for part in self.parts_s if part != "operations"):
            return self.parts_s["operations"]
        return self.block_s - sum(self.parts_s[part] for part in without)


@dataclass(frozen=True)
class Plant:
    """What is made slower: one request, at some concurrencies, by a factor."""

    name: str = ""
    factor: float = 1.0
    concurrencies: tuple[int, ...] = (1, 8)

    def of(self, series: Series) -> float:
        return self.factor if series[0] == self.name and series[1] in self.concurrencies else 1.0


@dataclass
class Simulated:
    """Blocks as `measuring` keeps them."""

    latencies: dict[Series, list[Block]] = field(default_factory=dict)
    operations: dict[Series, list[Block]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How one simulated gate ended.

    Attributes:
        undecided: Closed for want of evidence alone.
        tail: Closed by a 95th percentile alone.
    """

    opened: bool
    undecided: bool
    tail: bool
    blocks: int


def simulate_gate(
    seed: int,
    noise: Noise,
    plant: Plant,
    *,
    budget_s: float = BenchmarkConfig().budget_s,
    louder: float = 1.0,
) -> Outcome:
    """One whole gate on simulated blocks.

    Args:
        seed: The same seed gives the same gate.
        noise: What the blocks vary like.
        plant: What is slower.
        budget_s: As in unify.toml; the last look is where the next block would end after it.
        louder: Factor on how much blocks differ.
    """
    random = np.random.default_rng(seed)
    shown, judgements, rule = Simulated(), Judgements(), BenchmarkConfig()
    # The control has its three blocks first, or a third of the time.
    left_s = budget_s - min(3 * noise.block_s, budget_s / 3)
    blocks = 0
    for look in LOOKS:
        without = judgements.decided_parts
        while blocks < look and (left_s >= noise.seconds(without) or not blocks):
            _add_block(shown, noise, plant, random, louder=louder, without=without)
            left_s -= noise.seconds(without)
            blocks += 1
        last = look == LOOKS[-1] or blocks < look
        judgements.look(shown, rule, seed=seed, last=last)
        if last or judgements.final:
            break
    tail, decisions = bool(judgements.worse_tails(rule)), set(judgements.decisions)
    return Outcome(
        opened=decisions == {Decision.OPEN} and not tail,
        undecided=Decision.UNDECIDED in decisions and Decision.CLOSED not in decisions,
        tail=tail and decisions == {Decision.OPEN},
        blocks=blocks,
    )


def _add_block(
    shown: Simulated,
    noise: Noise,
    plant: Plant,
    random: np.random.Generator,
    *,
    louder: float,
    without: Collection[Part],
) -> None:
    # One measured block for all series, since a bad moment of the machine is one for all of them;
    # turned round at random, so that no side is the slower one.
    which, sign = random.integers(_count_blocks(noise)), random.choice([-1.0, 1.0])
    for series, found in noise.series.items():
        is_operation = series in noise.operations
        if ("operations" if is_operation else series[1]) in without:
            continue
        into = shown.operations if is_operation else shown.latencies
        bias = sign * louder * found.biases[int(which) % len(found.biases)]
        pairs = np.asarray(found.pairs)[random.integers(len(found.pairs), size=found.requests)]
        if random.random() < 0.5:
            pairs = pairs[:, ::-1]
        before = found.before_ms * np.exp(pairs[:, 0] - bias / 2)
        after = found.before_ms * np.exp(pairs[:, 1] + bias / 2) * plant.of(series)
        into.setdefault(series, []).append(Block(before, after))


def _count_blocks(noise: Noise) -> int:
    return max(len(s.biases) for s in noise.series.values())


# ---- the noise ------------------------------------------------------------------------------------


def measure_noise(blocks: int = _BLOCKS) -> Noise:
    """Measure the example's old application against a second copy of itself; a few minutes."""
    from flows import example
    from unified_db.migration import measuring, phases, strays
    from unified_db.migration.runs import create_run

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(measuring, "CONTROL_BLOCKS", blocks):
        config, log_file = example.copy_example(Path(folder) / "chat"), Path(folder) / "example.log"
        example.create_tables(config, log_file)
        example.start(config, log_file)
        try:
            example.seed(config, log_file)
        finally:
            example.stop(config, log_file)
        run = create_run(config.state_folder)
        backups = phases.backup(run, phases.plan(config, run))
        unified = phases.merge(run, backups)
        stages = phases.stage(config, run, backups, unified)
        guard = strays.Guard(config, stages)
        bench = measuring.Bench(config, stages, run, guard=guard, deadline=math.inf)
        with guard:
            if not bench.prepare(backups, unified):
                raise RuntimeError(f"the example answers wrongly: {bench.measured.errors}")
            begun = time.monotonic()
            bench.run_control(until=math.inf)
            took_s = time.monotonic() - begun
        control = bench.measured.control
        if control.problem:
            raise RuntimeError(control.problem)
        block_s = round(took_s / blocks, 2)
        parts_s = {part: round(seconds / blocks, 2) for part, seconds in control.seconds.items()}
        measured = {**control.latencies, **control.operations}
        series = {s: _describe(found) for s, found in measured.items()}
        return Noise(series, frozenset(control.operations), block_s, parts_s, _machine())


def _describe(blocks: Sequence[Block]) -> SeriesNoise:
    ratios = np.array([math.log(np.median(b.after) / np.median(b.before)) for b in blocks])
    within = float(np.mean([b.variance_within for b in blocks]))
    # What the few requests of a block explain is drawn anew with its requests.
    share = math.sqrt(max(_LEAST_SHARE, 1 - within / float(ratios.var(ddof=1))))
    pairs = np.concatenate(
        [
            np.log([b.before[:n] / np.median(b.before), b.after[:n] / np.median(b.after)]).T
            for b in blocks
            for n in [min(len(b.before), len(b.after))]
        ]
    )
    kept = pairs[np.random.default_rng(1).choice(len(pairs), size=min(_PAIRS, len(pairs)), replace=False)]
    return SeriesNoise(
        before_ms=round(float(np.median([np.median(b.before) for b in blocks])), 3),
        requests=round(float(np.median([len(b.before) for b in blocks]))),
        biases=[round(float(r) * share, 4) for r in ratios],
        pairs=[[round(float(v), 3) for v in pair] for pair in kept],
    )


def _machine() -> str:
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {python}"


def load_noise(path: Path = NOISE) -> Noise:
    """The noise that was kept."""
    kept = json.loads(path.read_text())
    series = {(s["name"], s["concurrency"]): s for s in kept["series"]}
    return Noise(
        series={
            key: SeriesNoise(s["before_ms"], s["requests"], s["biases"], s["pairs"])
            for key, s in series.items()
        },
        operations=frozenset(key for key, s in series.items() if s["operation"]),
        block_s=kept["block_s"],
        parts_s={"operations" if p == "operations" else int(p): t for p, t in kept["parts_s"].items()},
        machine=kept["machine"],
    )


def save_noise(noise: Noise, path: Path = NOISE) -> None:
    """Keep *noise*."""
    series: list[dict[str, Any]] = [
        {
            "name": name,
            "concurrency": concurrency,
            "operation": (name, concurrency) in noise.operations,
            "before_ms": s.before_ms,
            "requests": s.requests,
            "biases": list(s.biases),
            "pairs": [list(p) for p in s.pairs],
        }
        for (name, concurrency), s in noise.series.items()
    ]
    lines = ",\n  ".join(json.dumps(s) for s in series)
    parts = json.dumps({str(part): seconds for part, seconds in noise.parts_s.items()})
    head = f'"machine": {json.dumps(noise.machine)}, "block_s": {noise.block_s}, "parts_s": {parts}'
    path.write_text(f'{{{head}, "series": [\n  {lines}\n]}}\n')


# ---- the table ------------------------------------------------------------------------------------

CASES: tuple[tuple[str, Plant, float], ...] = (
    ("nothing slower", Plant(), 1.0),
    ("chat 5 % slower", Plant("chat", 1.05), 1.0),
    ("chat 20 % slower", Plant("chat", 1.2), 1.0),
    ("chat 50 % slower", Plant("chat", 1.5), 1.0),
    ("chat 20 % slower at 8 alone", Plant("chat", 1.2, (8,)), 1.0),
    ("chat 50 % slower at 8 alone", Plant("chat", 1.5, (8,)), 1.0),
    ("history 20 % slower at 8 alone", Plant("history", 1.2, (8,)), 1.0),
    ("nothing slower, blocks differ half more", Plant(), 1.5),
    ("chat 20 % slower, blocks differ half more", Plant("chat", 1.2), 1.5),
)


def simulate(case: tuple[str, Plant, float], noise: Noise, *, runs: int, budget_s: float) -> list[Outcome]:
    """*runs* gates of one case, on all cores."""
    _, plant, louder = case
    gate = partial(simulate_gate, noise=noise, plant=plant, budget_s=budget_s, louder=louder)
    with ProcessPoolExecutor() as pool:
        return list(pool.map(gate, range(runs), chunksize=20))


def write_page(noise: Noise, rows: Sequence[str], *, budget_s: float) -> str:
    """docs/gate-statistics.md."""
    series = "\n".join(_series_row(key, s) for key, s in noise.series.items())
    table = "\n".join(rows)
    looks = ", ".join(map(str, LOOKS))
    return f"""# Is the benchmark's gate right? By simulation

Made by `make gate-statistics` (`benchmarks/gate_statistics.py`), {datetime.now(UTC):%Y-%m-%d}.
{noise.machine}.

A simulated gate is the whole procedure: looks after {looks} blocks with the level split among
them, {len(noise.series)} series at once, the variance steadied by the other series, `min_diff_ms` 1,
`max_ratio` 1.10, `budget_s` {budget_s:g} (three blocks of it for the control), and the 95th percentiles. It
is judged by the code that judges a run (`unified_db/migration/judging.py`). Blocks vary as the measured ones
did: what a block's processes are like, and single answers, are drawn from them, one measured block for all
series of a simulated one. "Not decided" closes.

| case | gates | open | not decided | closed by a 95th percentile | blocks: median | of 9 in 10 at most |
|---|---:|---:|---:|---:|---:|---:|
{table}

The aim is at least 99 % open in the first row and at most 1 % open from 20 % slower on; at 5 % either counts.
The rows where blocks differ half more than measured show how far that holds on a louder machine.

## The noise
The example's old application against a second copy of itself, {_count_blocks(noise)} blocks of
{noise.block_s:g} s with fresh processes in each. "Between" is the standard deviation of a block's log ratio
without what its few answers explain, "single" that of the log of one answer.

| request or operation | at a time | median | answers a block | between | single | correlation of sides |
|---|---:|---:|---:|---:|---:|---:|
{series}
"""


def _series_row(key: Series, s: SeriesNoise) -> str:
    pairs = np.asarray(s.pairs)
    between, single = float(np.std(s.biases)), float(pairs.std())
    correlation = float(np.corrcoef(pairs.T)[0, 1])
    return (
        f"| {key[0]} | {key[1]} | {s.before_ms:.2f} ms | {s.requests} | {between:.3f} | {single:.2f} "
        f"| {correlation:.2f} |"
    )


def table_row(name: str, outcomes: Sequence[Outcome]) -> str:
    """One case as a row of the table."""
    runs = len(outcomes)
    opened, undecided, tails = (
        100 * sum(getattr(o, what) for o in outcomes) / runs for what in ("opened", "undecided", "tail")
    )
    blocks = sorted(o.blocks for o in outcomes)
    return (
        f"| {name} | {runs:,} | {opened:.1f} % | {undecided:.1f} % | {tails:.1f} % "
        f"| {blocks[runs // 2]} | {blocks[int(runs * 0.9)]} |"
    )


def main() -> None:
    """Measure, simulate and write the page, or print a part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated gates for each case")
    parser.add_argument("--budget-s", type=float, default=BenchmarkConfig().budget_s)
    parser.add_argument("--measure", action="store_true", help="measure the noise anew; keeps it")
    parser.add_argument("--write", action="store_true", help="write docs/gate-statistics.md")
    options = parser.parse_args()
    if options.measure:
        save_noise(measure_noise())
    noise, rows = load_noise(), []
    for case in CASES:
        outcomes = simulate(case, noise, runs=options.runs, budget_s=options.budget_s)
        rows.append(table_row(case[0], outcomes))
        print(rows[-1], flush=True)
    if options.write:
        page = write_page(noise, rows, budget_s=options.budget_s)
        (DOCS / "gate-statistics.md").write_text(page)


if __name__ == "__main__":
    main()
