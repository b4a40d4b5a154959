"""The application's own response times decide: the old files against the unified file.

Blocks are measured until every request is decided or the time is up, and judged here.
How they are measured is the business of `measuring`, what a difference means that of `statistics`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from unified_db.errors import ServerError
from unified_db.migration import stage, statistics, strays
from unified_db.migration.config import BenchmarkConfig, MigrationConfig
from unified_db.migration.continuity import check_continuity
from unified_db.migration.load import Side
from unified_db.migration.measuring import Bench, Measured, Series
from unified_db.migration.records import (
    Backups,
    BenchmarkEvidence,
    Finding,
    GateName,
    Latency,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages
from unified_db.migration.statistics import Block, Comparison, Decision

log = logging.getLogger(__name__)

LOOKS = (3, 5, 8, 12, 18)
"""After how many blocks the evidence is judged."""

_LEVEL = statistics.level_per_look(0.05, len(LOOKS))
_MAX_TAIL_RATIO = 1.5
_MAX_MEMORY_RATIO = 1.10
_MEMORY_TOLERANCE_BYTES = 20 * 1024 * 1024
_MAX_SIZE_RATIO = 1.10
_SIZE_TOLERANCE_BYTES = 64 * 1024
_SAMPLE = 400
_MIB = 1024 * 1024


@dataclass(frozen=True)
class _Judged:
    """What was decided of one request or operation, after how many blocks, and on what grounds."""

    decision: Decision
    comparison: Comparison
    blocks: int


@dataclass
class _Judgements:
    """What is decided so far; what was decided at one look is not opened again at a later one."""

    latencies: dict[Series, _Judged] = field(default_factory=dict)
    operations: dict[Series, _Judged] = field(default_factory=dict)

    def look(self, measured: Measured, rule: BenchmarkConfig, *, seed: int, last: bool) -> None:
        """Judge what is not decided yet on all blocks so far."""
        for judged, series in (
            (self.latencies, measured.latencies),
            (self.operations, measured.operations),
        ):
            variances = [statistics.variance_between(blocks, seed=seed) for blocks in series.values()]
            usual = median(variances) if len(variances) > 1 else None
            for name, blocks in series.items():
                if name not in judged or judged[name].decision is Decision.UNDECIDED:
                    judged[name] = _judge(blocks, rule, seed=seed, usual_variance=usual, last=last)

    @property
    def decisions(self) -> list[Decision]:
        return [j.decision for j in (*self.latencies.values(), *self.operations.values())]

    @property
    def final(self) -> bool:
        """True where more blocks would change nothing."""
        return Decision.CLOSED in self.decisions or Decision.UNDECIDED not in self.decisions


def run_benchmark(
    config: MigrationConfig, stages: Stages, backups: Backups, unified: UnifiedFile, run: RunFolder
) -> tuple[BenchmarkEvidence, Verdict]:
    """Measure both staged servers and LangGraph's operations on both files, and judge.

    First conversations go on, see :func:`unified_db.migration.continuity.check_continuity`. Then
    measuring takes about `benchmark.budget_s` at most. The staged databases are made fresh before and are
    changed by it.

    Returns:
        What was measured, and the verdict: closed where a median got slower by more than
        `max_ratio`, where that could not be decided in time, where nothing was asked, and where
        there are new errors, other answers, more memory, a larger file or a touched real file.

    Raises:
        ServerError: The staged server does not start on the old files.
    """
    begun = time.monotonic()
    guard = strays.Guard(config, stages)
    # A deadline of its own: conversations that go on are no part of the time for measuring.
    asking = Bench(config, stages, run, guard=guard, deadline=math.inf)
    judgements = _Judgements()
    with guard:
        continued = check_continuity(config, stages, backups, asking.serving)
        deadline = time.monotonic() + config.benchmark.budget_s
        bench = Bench(config, stages, run, guard=guard, deadline=deadline)
        stage.reset_databases(stages)
        stopped = _measure(bench, judgements, config, backups=backups, unified=unified)
    measured = bench.measured
    evidence = _collect(measured, judgements, backups, unified, seed=bench.seed)
    findings = [
        *stopped,
        *continued,
        *_judge_errors(measured),
        *(() if stopped else _judge_coverage(config, judgements)),
        *_judge_times(config.benchmark, judgements),
        *_judge_footprint(evidence, has_server=bool(measured.rss_bytes["after"])),
        *guard.findings(),
    ]
    seconds = round(time.monotonic() - begun, 3)
    verdict = Verdict(gate=GateName.BENCHMARK, findings=tuple(findings), seconds=seconds)
    log.info(verdict.sentence())
    return evidence, verdict


def _measure(
    bench: Bench,
    judgements: _Judgements,
    config: MigrationConfig,
    *,
    backups: Backups,
    unified: UnifiedFile,
) -> Sequence[Finding]:
    """Measure and look until all is decided; a finding where something stands in the way of measuring."""
    if not bench.prepare(backups, unified):
        return (_wrong_before(bench.measured),)
    for look in LOOKS:
        try:
            on_time = bench.run_blocks(until=look)
        except ServerError as error:
            # The old side has started already, so this one is what the unified file does.
            return (_does_not_start(error),)
        last = look == LOOKS[-1] or not on_time
        judgements.look(bench.measured, config.benchmark, seed=bench.seed, last=last)
        if last or judgements.final or bench.measured.has_new_errors:
            break
    return ()


def _judge(
    blocks: Sequence[Block],
    rule: BenchmarkConfig,
    *,
    seed: int,
    usual_variance: float | None,
    last: bool,
) -> _Judged:
    comparison = statistics.compare(blocks, level=_LEVEL, seed=seed, usual_variance=usual_variance)
    decision = statistics.decide(
        comparison, max_ratio=rule.max_ratio, min_diff_ms=rule.min_diff_ms, last_look=last
    )
    return _Judged(decision, comparison, len(blocks))


def _does_not_start(error: ServerError) -> Finding:
    return Finding(
        check="application starts in every block",
        where="staged servers",
        required="ready",
        measured=error.message.splitlines()[0],
        passed=False,
    )


def _judge_coverage(config: MigrationConfig, judgements: _Judgements) -> Iterator[Finding]:
    """What closes because it was not measured; nothing where everything was."""
    wanted = [request.name for request in config.benchmark.request]
    answered = {name for name, _ in judgements.latencies}
    if config.app.start and not wanted:
        yield _not_measured("requests", "at least one [[benchmark.request]]", "none is configured")
    elif wanted and not config.app.start:
        yield _not_measured("requests", "app.start, to have a server that answers", "not configured")
    else:
        for name in wanted:
            if name not in answered:
                yield _not_measured(name, "good answers on both sides", "none")
    if not judgements.decisions and not config.app.start:
        yield _not_measured("all", "a request or a checkpoint file to measure", "neither")


def _not_measured(where: str, required: str, measured: str) -> Finding:
    return Finding(
        check="something to measure", where=where, required=required, measured=measured, passed=False
    )


def _judge_times(rule: BenchmarkConfig, judgements: _Judgements) -> Iterator[Finding]:
    for (name, concurrency), judged in judgements.latencies.items():
        yield _time_finding("response time", f"{name}, {concurrency} at a time", judged, rule)
    for (name, _), judged in judgements.operations.items():
        yield _time_finding("LangGraph operation time", name, judged, rule)
    yield from _judge_tails(rule, judgements.latencies)


def _time_finding(check: str, where: str, judged: _Judged, rule: BenchmarkConfig) -> Finding:
    found = judged.comparison
    measured = (
        f"{found.ratio:.2f}x ({found.low:.2f} to {found.high:.2f}), "
        f"{found.before_ms:.1f} ms -> {found.after_ms:.1f} ms"
    )
    if judged.decision is Decision.UNDECIDED:
        noise_percent = (found.high / found.ratio - 1) * 100
        measured += f", not decided after {judged.blocks} blocks (noise of {noise_percent:.0f} %)"
    return Finding(
        check=check,
        where=where,
        required=f"at most {rule.max_ratio:.2f}x or under {rule.min_diff_ms:g} ms slower",
        measured=measured,
        passed=judged.decision is Decision.OPEN,
    )


def _judge_tails(rule: BenchmarkConfig, latencies: Mapping[Series, _Judged]) -> Iterator[Finding]:
    """One finding for the worst 95th percentile where none is too bad, else one for each that is."""
    if not latencies:
        return
    worse = [
        series
        for series, judged in latencies.items()
        if statistics.tail_got_worse(
            judged.comparison, max_ratio=_MAX_TAIL_RATIO, min_diff_ms=rule.min_diff_ms
        )
    ]
    worst = max(latencies, key=lambda series: latencies[series].comparison.p95_ratio)
    for name, concurrency in worse or [worst]:
        found = latencies[name, concurrency].comparison
        yield Finding(
            check="slowest responses (95th percentile)",
            where=f"{name}, {concurrency} at a time",
            required=f"at most {_MAX_TAIL_RATIO:.2f}x or under {rule.min_diff_ms:g} ms slower",
            measured=f"{found.p95_ratio:.2f}x, {found.before_p95_ms:.1f} ms -> {found.after_p95_ms:.1f} ms",
            passed=not worse,
        )


def _judge_errors(measured: Measured) -> Iterator[Finding]:
    before, after = measured.errors_of("before"), measured.errors_of("after")
    named = sorted({f"{name}: {what}" for side, name, what in measured.errors if side == "after"})
    yield Finding(
        check="error rate",
        where="all requests and LangGraph operations",
        required=f"no more than the {before} on the old files",
        measured=f"{after}" + (f" ({', '.join(named[:5])})" if named else ""),
        passed=not measured.has_new_errors,
    )
    if measured.rss_bytes["after"]:
        yield Finding(
            check="errors in the application's log",
            where="staged servers",
            required=f"no more than the {measured.log_errors['before']} on the old files",
            measured=str(measured.log_errors["after"]),
            passed=measured.log_errors["after"] <= measured.log_errors["before"],
        )


def _wrong_before(measured: Measured) -> Finding:
    named = sorted({f"{name}: {what}" for _, name, what in measured.errors})
    return Finding(
        check="requests are answered as expected on the old files",
        where="benchmark.request",
        required="the configured status and content",
        measured=", ".join(named[:5]),
        passed=False,
    )


def _judge_footprint(evidence: BenchmarkEvidence, *, has_server: bool) -> Iterator[Finding]:
    if has_server:
        before, after = evidence.before_rss_bytes, evidence.after_rss_bytes
        allowed = round(before * _MAX_MEMORY_RATIO) + _MEMORY_TOLERANCE_BYTES
        yield _bytes_finding("peak memory", "staged server", allowed=allowed, before=before, after=after)
    sources, unified = evidence.sources_bytes, evidence.unified_bytes
    allowed = max(round(sources * _MAX_SIZE_RATIO), sources + _SIZE_TOLERANCE_BYTES)
    yield _bytes_finding("file size", "unified file", allowed=allowed, before=sources, after=unified)


def _bytes_finding(check: str, where: str, *, allowed: int, before: int, after: int) -> Finding:
    return Finding(
        check=check,
        where=where,
        required=f"at most {allowed / _MIB:.2f} MiB (old: {before / _MIB:.2f} MiB)",
        measured=f"{after / _MIB:.2f} MiB",
        passed=after <= allowed,
    )


def _collect(
    measured: Measured, judgements: _Judgements, backups: Backups, unified: UnifiedFile, *, seed: int
) -> BenchmarkEvidence:
    return BenchmarkEvidence(
        latencies=_latencies(measured.latencies, judgements.latencies, seed=seed),
        operations=_latencies(measured.operations, judgements.operations, seed=seed),
        blocks=measured.blocks,
        before_rss_bytes=_typical(measured, "before"),
        after_rss_bytes=_typical(measured, "after"),
        before_errors=measured.errors_of("before"),
        after_errors=measured.errors_of("after"),
        before_log_errors=measured.log_errors["before"],
        after_log_errors=measured.log_errors["after"],
        sources_bytes=sum(item.size_bytes for item in backups.items),
        unified_bytes=unified.size_bytes,
        restart_ms=round(measured.restart_ms, 1),
    )


def _typical(measured: Measured, side: Side) -> int:
    """The median of the blocks' peaks: every block asks fresh processes the same."""
    return round(median(measured.rss_bytes[side] or [0]))


def _latencies(
    blocks: Mapping[Series, Sequence[Block]], judged: Mapping[Series, _Judged], *, seed: int
) -> tuple[Latency, ...]:
    return tuple(_latency(s, blocks[s], found.comparison, seed=seed) for s, found in judged.items())


def _latency(series: Series, blocks: Sequence[Block], found: Comparison, *, seed: int) -> Latency:
    before, after = np.concatenate([b.before for b in blocks]), np.concatenate([b.after for b in blocks])
    return Latency(
        name=series[0],
        concurrency=series[1],
        before_ms=round(found.before_ms, 3),
        after_ms=round(found.after_ms, 3),
        before_p95_ms=round(found.before_p95_ms, 3),
        after_p95_ms=round(found.after_p95_ms, 3),
        ratio=round(found.ratio, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        requests=len(before) + len(after),
        before_sample_ms=statistics.thin(before, keep=_SAMPLE, seed=seed),
        after_sample_ms=statistics.thin(after, keep=_SAMPLE, seed=seed),
    )
