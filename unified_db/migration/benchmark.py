"""The application's own response times decide: the old files against the unified file.

Both staged servers are up at once and asked in turn, block after block with fresh processes,
until every request is decided or the time is up. Whether something is slower is said by
`statistics`, what is sent and timed by `load` and `operations`.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import numpy as np

from unified_db.errors import ServerError
from unified_db.migration import load, operations, processes, stage, statistics
from unified_db.migration.config import MigrationConfig
from unified_db.migration.load import SIDES, Side, Tally
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

LOOKS = (3, 5, 8, 12)
"""After how many blocks the evidence is judged."""

CONCURRENCIES = (1, 8)

_LEVEL = statistics.level_per_look(0.05, len(LOOKS))
_MAX_TAIL_RATIO = 1.5
_MAX_MEMORY_RATIO = 1.10
_MEMORY_TOLERANCE_BYTES = 20 * 1024 * 1024
_MAX_SIZE_RATIO = 1.10
_SIZE_TOLERANCE_BYTES = 64 * 1024
_WARM_UP_ROUNDS = 3
_ROUND_LIMITS = (8, 60)
_PHASE_S = 0.7
_OPERATION_ROUNDS = 15
_SAMPLE = 400
_STOP_TIMEOUT_S = 10.0
_LOG_ERROR = re.compile(rb"\b(?:ERROR|CRITICAL|FATAL)\b|Traceback \(most recent call last\)")
_MIB = 1024 * 1024

Series = tuple[str, int]
"""A request's or an operation's name and its concurrency."""


@dataclass
class _Measured:
    """All that the blocks have shown so far."""

    latencies: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[tuple[Side, str, str]] = field(default_factory=Counter)
    rss_bytes: dict[Side, list[int]] = field(default_factory=lambda: {"before": [], "after": []})
    log_errors: Counter[Side] = field(default_factory=Counter)
    handles: set[str] = field(default_factory=set)
    blocks: int = 0
    restart_ms: float = 0.0

    def errors_of(self, side: Side) -> int:
        return sum(n for (s, _, _), n in self.errors.items() if s == side)


@dataclass(frozen=True)
class _Judged:
    """What was decided of one request or operation, and on what grounds."""

    decision: Decision
    comparison: Comparison


@dataclass
class _Judgements:
    """What is decided so far; a decision that was made at one look is not opened again at a later one."""

    latencies: dict[Series, _Judged] = field(default_factory=dict)
    operations: dict[Series, _Judged] = field(default_factory=dict)

    def all(self) -> list[_Judged]:
        return [*self.latencies.values(), *self.operations.values()]

    @property
    def final(self) -> bool:
        decisions = [j.decision for j in self.all()]
        return Decision.CLOSED in decisions or Decision.UNDECIDED not in decisions


def run_benchmark(
    config: MigrationConfig, stages: Stages, backups: Backups, unified: UnifiedFile, run: RunFolder
) -> tuple[BenchmarkEvidence, Verdict]:
    """Measure both staged servers and LangGraph's operations on both files, and judge.

    Takes `benchmark.budget_s` at most, plus one block. The staged databases are made fresh before.

    Returns:
        What was measured, and the verdict: closed where a median got slower by more than
        `max_ratio`, where that could not be decided in time, and where there are new errors, much more
        memory or a larger file.

    Raises:
        ServerError: A staged server does not start.
    """
    begun = time.monotonic()
    bench = _Bench(config, stages, run, deadline=begun + config.benchmark.budget_s)
    stage.reset_databases(stages)
    real_files = stage.look_at_real_files(config)
    bench.copy_checkpoints(backups, unified)
    judgements = bench.measure()
    evidence = _collect(bench.measured, judgements, backups, unified)
    findings = [
        *_judge_coverage(config, bench.measured, judgements),
        *_judge_times(config, judgements, bench.measured.blocks),
        *_judge_errors(bench.measured),
        *_judge_footprint(config, evidence),
        *stage.find_strays(config, real_files, bench.measured.handles, root=stages.after),
    ]
    verdict = Verdict(
        gate=GateName.BENCHMARK, findings=tuple(findings), seconds=round(time.monotonic() - begun, 3)
    )
    log.info(verdict.sentence())
    return evidence, verdict


class _Bench:
    """Runs blocks until everything is decided, an error decides, or the time is up."""

    def __init__(self, config: MigrationConfig, stages: Stages, run: RunFolder, *, deadline: float) -> None:
        self.config = config
        self.stages = stages
        self.measured = _Measured()
        self._run = run
        self._deadline = deadline
        self._seed = zlib.crc32(run.name.encode())
        self._random = Random(self._seed)  # noqa: S311 -- an order of requests
        self._rounds = _ROUND_LIMITS[0]
        self._files: tuple[Path, Path] | None = None

    @property
    def _asks_server(self) -> bool:
        return bool(self.config.app.start and self.config.benchmark.request)

    def copy_checkpoints(self, backups: Backups, unified: UnifiedFile) -> None:
        """Copy the old checkpoint file and the unified file for the operations, where there is one."""
        old = next((b for b in backups.items if b.kind == "checkpoints"), None)
        if old is None:
            return
        folder = self._run.stage / "operations"
        folder.mkdir(parents=True, exist_ok=True)
        self._files = (folder / "old.sqlite", folder / "unified.sqlite")
        for origin, copy in zip((old.path, unified.path), self._files, strict=True):
            for leftover in (copy, *stage.files.sidecars(copy)):
                leftover.unlink(missing_ok=True)
            shutil.copyfile(origin, copy)

    def measure(self) -> _Judgements:
        """Block after block; what is decided in the end."""
        judgements = _Judgements()
        if self._asks_server and not self._prepare():
            return judgements
        for look in LOOKS:
            on_time = self._run_blocks(until=look)
            last = look == LOOKS[-1] or not on_time
            self._look(judgements, last=last)
            if last or judgements.final or self._has_new_errors():
                break
        return judgements

    def _prepare(self) -> bool:
        """Measure a plain restart and how long a round takes; false where the old side gives no good answers."""
        log.info("benchmark: starting the staged server on the old files")
        with self._start("before", 0) as server:
            ready_ms = self._wait(server)
            round_s = self._try_round(server.port)
            begun = time.monotonic()
            server.process.stop(timeout_s=_STOP_TIMEOUT_S)
            with self._start("before", 0) as again:
                self._wait(again)
                self.measured.restart_ms = (time.monotonic() - begun) * 1000
        low, high = _ROUND_LIMITS
        self._rounds = max(low, min(high, round(_PHASE_S / max(round_s, 1e-3))))
        log.info(
            "benchmark: the server is ready after %.1f s; %d requests each per block", ready_ms / 1000, self._rounds
        )
        return not self.measured.errors_of("before")

    def _try_round(self, port: int) -> float:
        """Send each request a few times; seconds of the quickest round, errors are kept."""
        tally, seconds = Tally(), []
        client = load.Client(port)
        for _ in range(_WARM_UP_ROUNDS):
            begun = time.monotonic()
            for request in self.config.benchmark.request:
                tally.add("before", request.name, 1, client.send(request))
            seconds.append(time.monotonic() - begun)
        client.close()
        self.measured.errors += tally.errors
        return min(seconds)

    def _run_blocks(self, *, until: int) -> bool:
        """Run blocks until there are *until*; false where the time did not suffice."""
        while self.measured.blocks < until:
            begun = time.monotonic()
            self._run_block()
            seconds = time.monotonic() - begun
            log.info("benchmark: block %d measured in %.1f s", self.measured.blocks, seconds)
            if self._has_new_errors():
                return True
            if time.monotonic() + seconds > self._deadline:
                return self.measured.blocks == until
        return True

    def _run_block(self) -> None:
        self.measured.blocks += 1
        if self._files is not None:
            tally = Tally()
            operations.measure_operations(
                *self._files, tally, rounds=_OPERATION_ROUNDS, seed=self._seed + self.measured.blocks
            )
            self._keep(tally, self.measured.operations)
        if self._asks_server:
            tally = Tally()
            self._ask_servers(tally)
            self._keep(tally, self.measured.latencies)

    def _ask_servers(self, tally: Tally) -> None:
        requests, options = self.config.benchmark.request, {"random": self._random, "deadline": self._deadline}
        with ExitStack() as stack:
            servers = {s: stack.enter_context(self._start(s, self.measured.blocks)) for s in SIDES}
            for server in servers.values():
                self._wait(server)
            ports: dict[Side, int] = {side: server.port for side, server in servers.items()}
            warm_up = Tally()
            load.send_one_by_one(requests, ports, warm_up, rounds=_WARM_UP_ROUNDS, **options)
            tally.errors += warm_up.errors
            for concurrency in CONCURRENCIES:
                self._look_at_handles(servers)
                if concurrency == 1:
                    load.send_one_by_one(requests, ports, tally, rounds=self._rounds, **options)
                else:
                    load.send_at_once(
                        requests, ports, tally, concurrency=concurrency, rounds=self._rounds, **options
                    )
            self._look_at_handles(servers)
            self._look_at_servers(servers)
