"""Watches the application on its new file for `soak_s`, against what the benchmark saw of the old files.

It only has to be sure of what is clearly wrong: the gates have judged the rest, on a machine where
nothing else went on. So the limits are wide, and an application that nobody uses passes:

* every request is answered as expected; where some failed on the old files, at most twice their share do
* of a request's answers the later half (so the first ones after a start do not count) has a median of
  at most twice the old files' 95th percentile, eight at a time included, or of less than
  `benchmark.min_diff_ms`, 50 ms at least, above their median
* the process is there, and its memory has stayed below 1.5 times the old files' peak and 64 MiB more
* its log has no error line; where it had some on the old files, at most twice as many as for each start

Only requests that change nothing are sent. What takes its values from rows may meet one that somebody
has deleted since, so of those only an answer that no row explains (none, or a status of 500 and above)
is a failure.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from statistics import median

import httpx

from unified_db.migration import application, asking, processes
from unified_db.migration.config import MigrationConfig
from unified_db.migration.error_lines import ErrorLines
from unified_db.migration.load import Answer, Client
from unified_db.migration.processes import Server
from unified_db.migration.records import BenchmarkEvidence, Finding, Latency
from unified_db.migration.runs import RunFolder

log = logging.getLogger(__name__)

_SLOWER = 2.0
_LEAST_MS = 50.0
_MEMORY_RATIO = 1.5
_MEMORY_BYTES = 64 * 1024 * 1024
_MIB = 1024 * 1024
# Half of them judge; fewer answers do so only where they take so long that time is up.
_LEAST_ANSWERS = 6
_FEWEST_ANSWERS = 2
_PATIENCE_S = 10.0
_LONGEST_PAUSE_S = 0.2
_SERVER_ERROR = 500


def follow_log(config: MigrationConfig, run: RunFolder) -> ErrorLines:
    """The application's log from its present end on; to be called before it is started."""
    path = application.log_of(config, run)
    return ErrorLines(path, offset=path.stat().st_size if path.exists() else 0)


def watch(
    config: MigrationConfig, run: RunFolder, server: Server, error_lines: ErrorLines
) -> tuple[Finding, ...]:
    """Ask and watch *server* for `soak_s`; ends early where something is surely wrong.

    Takes up to 10 s more where answers are so slow that there are too few of them, and the time of one
    request (15 s at most) beyond that.

    Args:
        config: Says what may be asked, and for how long.
        run: Has the benchmark's evidence; without it times and memory are not judged.
        server: The application as it was started.
        error_lines: As :func:`follow_log` gave it before that start.
    """
    soak = _Soak(config, server, error_lines, _old_side(run))
    soak.ask_for(config.cutover.soak_s)
    findings = tuple(soak.findings())
    for finding in findings:
        log.info("soak: %s: required %s, measured %s", finding.check, finding.required, finding.measured)
    return findings


@dataclass(frozen=True)
class _Old:
    """What the benchmark saw of the old files.

    Attributes:
        failed_share: Of their requests, from 0 to 1.
        log_errors: Error lines for each start.
    """

    latencies: Mapping[str, tuple[Latency, ...]] = field(default_factory=dict)
    failed_share: float = 0.0
    log_errors: float = 0.0
    rss_bytes: int = 0


def _old_side(run: RunFolder) -> _Old:
    evidence = run.load("evidence-benchmark", BenchmarkEvidence)
    if evidence is None:
        return _Old()
    latencies: dict[str, tuple[Latency, ...]] = {}
    for latency in evidence.latencies:
        latencies[latency.name] = (*latencies.get(latency.name, ()), latency)
    # Requests are counted on both sides together.
    asked = sum(one.requests for one in evidence.latencies) / 2
    return _Old(
        latencies=latencies,
        failed_share=min(1.0, evidence.before_errors / asked) if asked else 0.0,
        log_errors=evidence.before_log_errors / max(1, evidence.blocks),
        rss_bytes=evidence.before_rss_bytes,
    )


class _Soak:
    """What was asked of the application so far, and what it made of that."""

    def __init__(self, config: MigrationConfig, server: Server, error_lines: ErrorLines, old: _Old) -> None:
        self._config, self._server, self._error_lines, self._old = config, server, error_lines, old
        self._requests = [r for r in config.benchmark.request if r.method == "GET" and not r.changes]
        self._rows = asking.read_target(config, self._requests)
        self._times_ms: dict[str, list[float]] = defaultdict(list)
        self._problems: list[str] = []
        self._asked = 0
        self._random = Random(0)  # noqa: S311 -- which row is asked for, no secret

    def ask_for(self, seconds: float) -> None:
        """Ask all requests again and again."""
        begun = time.monotonic()
        pause = min(_LONGEST_PAUSE_S, seconds / 10)
        with application.client() as ready, closing(Client(self._config.app.port)) as client:
            while True:
                self._ask_all(ready, client)
                passed = time.monotonic() - begun
                over = passed >= seconds and (self._has_enough(seconds) or passed >= seconds + _PATIENCE_S)
                if over or self._is_surely_wrong():
                    return
                time.sleep(pause)

    def _has_enough(self, seconds: float) -> bool:
        return not seconds or all(len(t) >= _LEAST_ANSWERS for t in self._times_ms.values())

    def _is_surely_wrong(self) -> bool:
        # Times may mend, and with failures on the old files it is their share that counts.
        return any(not f.passed for f in (self._up(), self._memory(), self._log()) if f) or (
            bool(self._problems) and not self._old.failed_share
        )

    def _ask_all(self, ready: httpx.Client, client: Client) -> None:
        self._asked += 1
        self._note_problem("ready", _ready_problem(ready, self._config))
        for request in self._requests:
            if request.values and request.name not in self._rows:
                continue
            question = asking.ask(request, self._rows.get(request.name, ()), random=self._random)
            answer = client.send(question)
            self._asked += 1
            if not answer.problem:
                self._times_ms[request.name].append(answer.ms)
            elif not request.values or _no_row_explains(answer):
                self._note_problem(request.name, answer.problem)

    def _note_problem(self, name: str, problem: str) -> None:
        if problem:
            self._problems.append(f"{name}: {problem}")

    def findings(self) -> Iterator[Finding]:
        """Everything that was looked at."""
        yield self._answers()
        yield self._up()
        yield from (self._time(name, times) for name, times in self._judged_times())
        yield from (f for f in (self._memory(), self._log()) if f)

    def _answers(self) -> Finding:
        share = self._old.failed_share
        allowed = math.ceil(2 * share * self._asked)
        failed = f"{len(self._problems)}: {self._problems[0]}" if self._problems else "none failed"
        return Finding(
            check=f"{self._asked} requests answered as expected",
            where="the application",
            required=f"at most {allowed} failed (old files: {share:.1%})" if share else "none failed",
            measured=failed,
            passed=len(self._problems) <= allowed,
        )

    def _up(self) -> Finding:
        return Finding(
            check="the new process stays up",
            where=f"process {self._server.pid}",
            required="running",
            measured="running" if self._server.running else "gone",
            passed=self._server.running,
        )

    def _judged_times(self) -> Iterator[tuple[str, Sequence[float]]]:
        for name, times in self._times_ms.items():
            if name in self._old.latencies and len(times) >= _FEWEST_ANSWERS:
                yield name, times[len(times) // 2 :]

    def _time(self, name: str, times: Sequence[float]) -> Finding:
        old = self._old.latencies[name]
        median_ms, p95_ms = min(o.before_ms for o in old), max(o.before_p95_ms for o in old)
        tolerance_ms = max(self._config.benchmark.min_diff_ms, _LEAST_MS)
        limit_ms = max(_SLOWER * p95_ms, median_ms + tolerance_ms)
        return Finding(
            check="response time",
            where=name,
            required=f"a median of at most {limit_ms:.0f} ms "
            f"(old files: {median_ms:.1f} ms, 95th percentile {p95_ms:.1f} ms)",
            measured=f"{median(times):.1f} ms in {len(times)} answers",
            passed=median(times) <= limit_ms,
        )

    def _memory(self) -> Finding | None:
        old = self._old.rss_bytes
        if not old:
            return None
        allowed, found = old * _MEMORY_RATIO + _MEMORY_BYTES, self._server.peak_rss_bytes()
        return Finding(
            check="peak memory",
            where=f"process {self._server.pid}",
            required=f"at most {allowed / _MIB:.0f} MiB (old files: {old / _MIB:.0f} MiB)",
            measured=f"{found / _MIB:.0f} MiB",
            passed=found <= allowed,
        )

    def _log(self) -> Finding:
        allowed, found = math.ceil(2 * self._old.log_errors), self._error_lines.count()
        return Finding(
            check="no new ERROR lines or tracebacks in its log",
            where=str(self._error_lines.path),
            required=f"at most {allowed} (old files: {self._old.log_errors:.1f} for each start)"
            if allowed
            else "none",
            # Lines may hold the application's data, so they are counted and not quoted.
            measured=f"{found} lines" if found else "none",
            passed=found <= allowed,
        )


def _ready_problem(client: httpx.Client, config: MigrationConfig) -> str:
    try:
        status = client.get(processes.ready_url(config, port=config.app.port)).status_code
    except httpx.HTTPError as error:
        return type(error).__name__
    return "" if httpx.codes.is_success(status) else f"status {status}"


def _no_row_explains(answer: Answer) -> bool:
    """True where *answer* would be wrong for any row, also for one that was deleted since."""
    status = answer.problem.removeprefix("status ")
    return int(status) >= _SERVER_ERROR if status.isdigit() else not answer.problem.startswith("answer ")
