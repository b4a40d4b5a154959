"""The application's own response times decide: the old files against the unified file.

Blocks are measured until every request is decided or the time is up, and judged here.
How they are measured is the business of `measuring`, what a difference means that of `statistics`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from unified_db.errors import ServerError
from unified_db.migration import stage, statistics, strays, wording
from unified_db.migration.config import BenchmarkConfig, MigrationConfig
from unified_db.migration.continuity import check_continuity
from unified_db.migration.judging import LOOKS, MAX_TAIL_RATIO, Blocks, Judged, Judgements, Series
from unified_db.migration.load import Side
from unified_db.migration.measuring import Bench, Measured
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
from unified_db.migration.statistics import Block, Comparison, Decision, Tail

log = logging.getLogger(__name__)

_MAX_MEMORY_RATIO = 1.10
_MEMORY_TOLERANCE_BYTES = 20 * 1024 * 1024
_MAX_SIZE_RATIO = 1.10
_SIZE_TOLERANCE_BYTES = 64 * 1024
_SAMPLE = 400
_CONTROL_SHARE = 1 / 3
_MIB = 1024 * 1024


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
    judgements, control = Judgements(), Judgements()
    with guard:
        continued = check_continuity(config, stages, backups, asking.serving)
        deadline = time.monotonic() + config.benchmark.budget_s
        bench = Bench(config, stages, run, guard=guard, deadline=deadline)
        stage.reset_databases(stages)
        stopped = _measure(bench, judgements, control, config, backups=backups, unified=unified)
    measured = bench.measured
    evidence = _collect(measured, judgements, backups, unified, seed=bench.seed).model_copy(
        update={**_collect_control(bench, control, config.benchmark), **_operations_facts(bench, run)}
    )
    findings = [
        *stopped,
        *continued,
        *_judge_errors(measured),
        *(() if stopped else _judge_coverage(config, judgements, measured)),
        *_judge_times(config.benchmark, judgements, control, by=_measured_by(bench)),
        *_judge_footprint(evidence, has_server=bool(measured.rss_bytes["after"])),
        *guard.findings(),
    ]
    seconds = round(time.monotonic() - begun, 3)
    verdict = Verdict(gate=GateName.BENCHMARK, findings=tuple(findings), seconds=seconds)
    log.info(verdict.sentence())
    return evidence, verdict


def _measure(
    bench: Bench,
    judgements: Judgements,
    control: Judgements,
    config: MigrationConfig,
    *,
    backups: Backups,
    unified: UnifiedFile,
) -> Sequence[Finding]:
    """Measure and look until all is decided; a finding where something stands in the way of measuring."""
    if not bench.prepare(backups, unified):
        return (_wrong_before(bench.measured),)
    # A share of the time alone: what is judged needs the rest.
    bench.run_control(until=time.monotonic() + config.benchmark.budget_s * _CONTROL_SHARE)
    control.look(bench.measured.control, config.benchmark, seed=bench.seed, last=True)
    level = logging.WARNING if _far_off(control, config.benchmark) else logging.INFO
    log.log(level, _control_said(bench, control, config.benchmark))
    for look in LOOKS:
        try:
            on_time = bench.run_blocks(until=look, without=judgements.decided_parts)
        except ServerError as error:
            # The old side has started already, so this one is what the unified file does.
            return (_does_not_start(error),)
        last = look == LOOKS[-1] or not on_time
        judgements.look(bench.measured, config.benchmark, seed=bench.seed, last=last)
        if last or judgements.final or bench.measured.has_new_errors:
            break
    return ()


def _does_not_start(error: ServerError) -> Finding:
    return Finding(
        check="application starts in every block",
        where="staged servers",
        required="ready",
        measured=error.message.splitlines()[0],
        passed=False,
    )


def _judge_coverage(config: MigrationConfig, judgements: Judgements, measured: Measured) -> Iterator[Finding]:
    """What closes because it was not measured; nothing where everything was."""
    if measured.blocks and not judgements.decisions and not measured.errors:
        yield Finding(
            check="something to measure",
            where="benchmark.budget_s",
            required="time for a block of both sides",
            measured=f"{config.benchmark.budget_s:g} s were over before the first one ended",
            passed=False,
            undecided=True,
        )
        return
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


def _measured_by(bench: Bench) -> str:
    """Said with every operation that was not measured as the application will run it."""
    elsewhere = bench.operations is not None and not bench.operations.in_application
    return ", in unify-db's own interpreter" if elsewhere else ""


def _judge_times(
    rule: BenchmarkConfig, judgements: Judgements, control: Judgements, *, by: str
) -> Iterator[Finding]:
    for series, judged in judgements.latencies.items():
        where = _named(series)
        yield _time_finding("response time", where, judged, control.latencies.get(series), rule)
    for series, judged in judgements.operations.items():
        beside = control.operations.get(series)
        finding = _time_finding("LangGraph operation time", series[0], judged, beside, rule)
        yield finding.model_copy(update={"measured": finding.measured + by})
    yield from _judge_tails(rule, judgements)


def _named(series: Series) -> str:
    return f"{series[0]}, {series[1]} at a time"


def _time_finding(
    check: str, where: str, judged: Judged, control: Judged | None, rule: BenchmarkConfig
) -> Finding:
    found = judged.comparison
    passed = judged.decision is Decision.OPEN
    measured = f"{_interval(found)}, {found.before_ms:.1f} ms -> {found.after_ms:.1f} ms"
    if judged.decision is Decision.UNDECIDED:
        noise = wording.format_noise(found.ratio, found.low, found.high)
        measured += f", not decided after {wording.count(judged.blocks, 'block')} ({noise})"
    if not passed and control is not None:
        measured += f"; old against old {_interval(control.comparison)}"
    return Finding(
        check=check,
        where=where,
        required=f"at most {rule.max_ratio:.2f}x or under {rule.min_diff_ms:g} ms slower",
        measured=measured,
        passed=passed,
        undecided=judged.decision is Decision.UNDECIDED,
    )


def _interval(found: Comparison) -> str:
    return f"{found.ratio:.2f}x ({wording.format_bounds(found.low, found.high)})"


def _judge_tails(rule: BenchmarkConfig, judgements: Judgements) -> Iterator[Finding]:
    """One finding for the worst 95th percentile where none is too bad, else one for each that is."""
    if not judgements.tails:
        return
    worse = judgements.worse_tails(rule)
    worst = max(judgements.tails, key=lambda series: judgements.tails[series].ratio)
    for series in worse or [worst]:
        tail = judgements.tails[series]
        yield Finding(
            check="slowest responses (95th percentile)",
            where=_named(series),
            required=f"not surely slower by {MAX_TAIL_RATIO:.2f}x or under {rule.min_diff_ms:g} ms slower",
            measured=f"{tail.ratio:.2f}x (at least {tail.low:.2f}), "
            f"{tail.before_ms:.1f} ms -> {tail.after_ms:.1f} ms",
            passed=not worse,
        )


def _control_said(bench: Bench, control: Judgements, rule: BenchmarkConfig) -> str:
    """What old against old shows; in plain words where this machine makes a difference out of nothing."""
    run, judged = bench.measured.control, {**control.latencies, **control.operations}
    short = f" ({run.problem})" if run.problem else ""
    if not judged:
        return f"Control, old files against old files: not measured{short}."
    blocks = f"{run.blocks} block{'s' if run.blocks != 1 else ''}{short}"
    far = _far_off(control, rule)
    if far:
        named = ", ".join(f"{_named(series)} {_interval(found)}" for series, found in far.items())
        return (
            f"Control, old files against old files, {blocks}: far off at {named}. This machine makes "
            "differences where there are none; do not trust a verdict on response times from it."
        )
    ratios = sorted(j.comparison.ratio for j in judged.values())
    widest = max((j.comparison for j in judged.values()), key=lambda c: c.high / c.ratio)
    return (
        f"Control, old files against old files, {blocks}: ratios {ratios[0]:.2f} to {ratios[-1]:.2f}, "
        f"the widest {_interval(widest)}."
    )


def _far_off(control: Judgements, rule: BenchmarkConfig) -> dict[Series, Comparison]:
    """Where old against old differs by more than what would close the gate, in either direction."""
    judged = {**control.latencies, **control.operations}
    return {
        series: j.comparison
        for series, j in judged.items()
        if max(j.comparison.ratio, 1 / j.comparison.ratio) > rule.max_ratio
        and abs(j.comparison.difference_ms) >= rule.min_diff_ms
    }


def _collect_control(bench: Bench, control: Judgements, rule: BenchmarkConfig) -> dict[str, object]:
    blocks = bench.measured.control
    return {
        "control": _latencies(blocks.latencies, control, seed=bench.seed, samples=0),
        "control_operations": _latencies(
            blocks.operations, control, seed=bench.seed, samples=0, operations=True
        ),
        "control_said": _control_said(bench, control, rule),
    }


def _operations_facts(bench: Bench, run: RunFolder) -> dict[str, object]:
    if bench.operations is None:
        return {}
    kept = tuple(str(path.relative_to(run.path)) for path in bench.operations.files)
    return {"operations_by": bench.operations.said, "operations_files": kept}


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
    measured: Measured, judgements: Judgements, backups: Backups, unified: UnifiedFile, *, seed: int
) -> BenchmarkEvidence:
    return BenchmarkEvidence(
        latencies=_latencies(measured.latencies, judgements, seed=seed),
        operations=_latencies(measured.operations, judgements, seed=seed, operations=True),
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
    blocks: Blocks, judgements: Judgements, *, seed: int, operations: bool = False, samples: int = _SAMPLE
) -> tuple[Latency, ...]:
    judged = judgements.operations if operations else judgements.latencies
    tails = dict(judgements.tails)
    if operations:
        tails = dict(zip(blocks, statistics.compare_tails(list(blocks.values()), level=0.05), strict=True))
    return tuple(
        _latency(s, blocks[s], found.comparison, tails[s], seed=seed, samples=samples)
        for s, found in judged.items()
    )


def _latency(
    series: Series, blocks: Sequence[Block], found: Comparison, tail: Tail, *, seed: int, samples: int
) -> Latency:
    before, after = np.concatenate([b.before for b in blocks]), np.concatenate([b.after for b in blocks])
    return Latency(
        name=series[0],
        concurrency=series[1],
        before_ms=round(found.before_ms, 3),
        after_ms=round(found.after_ms, 3),
        before_p95_ms=round(tail.before_ms, 3),
        after_p95_ms=round(tail.after_ms, 3),
        ratio=round(found.ratio, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        requests=len(before) + len(after),
        before_sample_ms=statistics.thin(before, keep=samples, seed=seed),
        after_sample_ms=statistics.thin(after, keep=samples, seed=seed),
    )
