"""Measures two staged servers and two checkpoint files, block after block; judges nothing.

In every block both servers are fresh processes, since two processes of the same code differ by
some per cent for their whole life.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from unified_db import files
from unified_db.migration import operations, processes, stage, strays
from unified_db.migration.asking import Row, ask, read_backups
from unified_db.migration.config import MigrationConfig, RequestConfig
from unified_db.migration.load import SIDES, Client, Load, Side, Tally
from unified_db.migration.records import Backups, UnifiedFile
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages
from unified_db.migration.statistics import Block

log = logging.getLogger(__name__)

CONCURRENCIES = (1, 8)

_WARM_UP_ROUNDS = 3
_ROUND_LIMITS = (8, 60)
_MAX_WEIGHT = 4
_PHASE_LIMITS_S = (0.5, 0.9)
_OPERATION_ROUNDS = 15
_STOP_TIMEOUT_S = 10.0
_LOG_ERROR = re.compile(rb"\b(?:ERROR|CRITICAL|FATAL)\b|Traceback \(most recent call last\)")

Series = tuple[str, int]
"""A request's or an operation's name and its concurrency."""


@dataclass
class Measured:
    """All that the blocks have shown so far."""

    latencies: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[tuple[Side, str, str]] = field(default_factory=Counter)
    rss_bytes: dict[Side, list[int]] = field(default_factory=lambda: {"before": [], "after": []})
    log_errors: Counter[Side] = field(default_factory=Counter)
    blocks: int = 0
    restart_ms: float = 0.0

    def errors_of(self, side: Side) -> int:
        """How many answers of *side* were no good ones."""
        return sum(n for (s, _, _), n in self.errors.items() if s == side)

    @property
    def has_new_errors(self) -> bool:
        """True where the after side has more errors than the before side."""
        return self.errors_of("after") > self.errors_of("before")


@dataclass(frozen=True)
class _StagedServer:
    side: Side
    port: int
    process: processes.Server
    logs: Mapping[Path, int]
    """Log files with their sizes before the start."""

    def count_log_errors(self) -> int:
        """Lines of this start that tell of an error."""
        return sum(_count_errors(path, offset) for path, offset in self.logs.items())


class Bench:
    """The staged servers and files of one run, and what was measured on them.

    Args:
        guard: Watches over the real files, from before the first server until after the last.
        deadline: Monotonic seconds after which no further block is begun.
    """

    def __init__(
        self,
        config: MigrationConfig,
        stages: Stages,
        run: RunFolder,
        *,
        guard: strays.Guard,
        deadline: float,
    ) -> None:
        self.measured = Measured()
        self.seed = zlib.crc32(run.name.encode())
        self._config = config
        self._stages = stages
        self._run = run
        self._guard = guard
        self._deadline = deadline
        self._random = Random(self.seed)  # noqa: S311 -- an order of requests, no secret
        self._requests: list[RequestConfig] = []
        self._rows: dict[str, tuple[Row, ...]] = {}
        self._rounds = _ROUND_LIMITS[0]
        self._block_s = 0.0
        self._files: tuple[Path, Path] | None = None

    def prepare(self, backups: Backups, unified: UnifiedFile) -> bool:
        """Copy the checkpoint files, time a plain restart and one round of requests.

        Returns:
            False where the application gives wrong answers on its old files already.

        Raises:
            ConfigError: A request's `values` cannot be read.
            ServerError: The staged server on the old files does not start.
        """
        self._copy_checkpoints(backups, unified)
        if not self._asks_servers:
            return True
        self._rows = read_backups(self._config, backups)
        log.info("benchmark: starting the staged server on the old files")
        with self._serve("before") as server:
            seconds = self._try_requests(server.port)
            begun = time.monotonic()
            server.process.stop(timeout_s=_STOP_TIMEOUT_S)
            with self._serve("before"):
                self.measured.restart_ms = (time.monotonic() - begun) * 1000
        log.info("benchmark: a plain restart takes %.1f s", self.measured.restart_ms / 1000)
        if self.measured.errors:
            return False
        weights = _weigh(seconds)
        self._requests = [r for r in self._config.benchmark.request for _ in range(weights[r.name])]
        round_s = sum(seconds[request.name] for request in self._requests)
        self._rounds = _choose_rounds(self.measured.restart_ms / 1000, round_s)
        return True

    def run_blocks(self, *, until: int) -> bool:
        """Run blocks until there are *until* of them; false where the time did not suffice.

        Ends early after an error that only the after side has.
        """
        while self.measured.blocks < until and not self.measured.has_new_errors:
            if self.measured.blocks and time.monotonic() + self._block_s > self._deadline:
                return False
            begun = time.monotonic()
            self._run_block()
            self._block_s = time.monotonic() - begun
            log.info("benchmark: block %d took %.1f s", self.measured.blocks, self._block_s)
        return True

    @contextmanager
    def serving(self, side: Side) -> Iterator[int]:
        """The port of a fresh staged server of *side*, for the block; what it has open is noted."""
        with self._serve(side) as server:
            yield server.port
            self._look_for_strays([server])

    @property
    def _asks_servers(self) -> bool:
        return bool(self._config.app.start and self._config.benchmark.request)

    def _copy_checkpoints(self, backups: Backups, unified: UnifiedFile) -> None:
        old = next((b for b in backups.items if b.kind == "checkpoints"), None)
        if old is None:
            return
        folder = self._stages.before.parent / "operations"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files = (folder / "old.sqlite", folder / "unified.sqlite")
        for origin, copy in zip((old.path, unified.path), self._files, strict=True):
            for leftover in (copy, *files.sidecars(copy)):
                leftover.unlink(missing_ok=True)
            shutil.copyfile(origin, copy)

    def _try_requests(self, port: int) -> dict[str, float]:
        """Send each request a few times to the old side; seconds of each one's quickest answer."""
        tally = Tally()
        with closing(Client(port)) as client:
            for _ in range(_WARM_UP_ROUNDS):
                for request in self._config.benchmark.request:
                    question = ask(request, self._rows.get(request.name, ()), random=self._random)
                    tally.add("before", request.name, 1, client.send(question))
        self.measured.errors += tally.errors
        return {name: min(times) / 1000 for (_, name, _), times in tally.times.items()}

    def _run_block(self) -> None:
        self.measured.blocks += 1
        if self._files is not None:
            tally = Tally()
            seed = self.seed + self.measured.blocks
            operations.measure_operations(*self._files, tally, rounds=_OPERATION_ROUNDS, seed=seed)
            self._keep(tally, self.measured.operations)
        if self._asks_servers:
            tally = Tally()
            self._ask_servers(tally)
            self._keep(tally, self.measured.latencies)

    def _ask_servers(self, tally: Tally) -> None:
        with ExitStack() as stack:
            # Both are started before the first is waited for, so that they start side by side.
            servers = [stack.enter_context(self._start(side)) for side in SIDES]
            for server in servers:
                self._wait(server)
            ports = {server.side: server.port for server in servers}
            warm_up = Tally()
            self._load(ports, warm_up, rounds=_WARM_UP_ROUNDS).send_one_by_one()
            tally.errors += warm_up.errors
            measured = self._load(ports, tally, rounds=self._rounds)
            for concurrency in CONCURRENCIES:
                self._look_for_strays(servers)
                if concurrency == 1:
                    measured.send_one_by_one()
                else:
                    measured.send_at_once(concurrency)
            self._look_for_strays(servers)
            self._note_footprint(servers)

    def _load(self, ports: Mapping[Side, int], tally: Tally, *, rounds: int) -> Load:
        return Load(self._requests, ports, tally, rounds, self._random, self._deadline, self._rows)

    def _keep(self, tally: Tally, into: dict[Series, list[Block]]) -> None:
        self.measured.errors += tally.errors
        # A block that the end of the time has cut short has too few answers to count as one.
        if time.monotonic() < self._deadline:
            for series, block in tally.blocks():
                into[series].append(block)

    def _look_for_strays(self, servers: Iterable[_StagedServer]) -> None:
        pids = [pid for server in servers for pid in server.process.pids()]
        self._guard.look(pids)

    def _note_footprint(self, servers: Iterable[_StagedServer]) -> None:
        for server in servers:
            self.measured.rss_bytes[server.side].append(server.process.peak_rss_bytes())
            # Before the stop: what a server says while it is ended is no error of the files.
            self.measured.log_errors[server.side] += server.count_log_errors()

    @contextmanager
    def _serve(self, side: Side) -> Iterator[_StagedServer]:
        with self._start(side) as server:
            self._wait(server)
            yield server

    @contextmanager
    def _start(self, side: Side) -> Iterator[_StagedServer]:
        root = self._stages.root(side)
        port, folder = processes.free_port(), self._run.path / "benchmark"
        output = folder / f"server-{side}.log"
        own = self._config.app.log
        logs = [output] if own is None else [output, root / own]
        offsets = {path: path.stat().st_size if path.exists() else 0 for path in logs}
        env = processes.staged_environment(self._config, port=port, temporary=root.parent / "tmp" / side)
        process = processes.Server.start(
            self._config.command(self._config.app.start, root=root, port=port),
            cwd=stage.staged_cwd(self._config, root),
            # Unbuffered, else an error that was printed is not in the log while we count.
            env=self._guard.record("server", side).environment({**env, "PYTHONUNBUFFERED": "1"}),
            log_file=output,
        )
        try:
            yield _StagedServer(side, port, process, offsets)
        finally:
            process.stop(timeout_s=_STOP_TIMEOUT_S)

    def _wait(self, server: _StagedServer) -> None:
        url = processes.ready_url(self._config, port=server.port)
        server.process.wait_ready(url, timeout_s=self._config.app.ready_timeout_s)


def _weigh(seconds: Mapping[str, float]) -> dict[str, int]:
    """How often each request occurs in a round: quick ones more often.

    In proportion to one by the root of the time, which for a given time makes all ratios equally sure.
    """
    slowest = max(seconds.values())
    return {name: min(_MAX_WEIGHT, round(math.sqrt(slowest / own))) for name, own in seconds.items()}


def _choose_rounds(restart_s: float, round_s: float) -> int:
    """How many rounds a block has: the dearer a start is, the more is asked of the processes."""
    shortest, longest = _PHASE_LIMITS_S
    fewest, most = _ROUND_LIMITS
    phase_s = max(shortest, min(longest, restart_s / 2))
    return max(fewest, min(most, round(phase_s / max(round_s, 1e-3))))


def _count_errors(path: Path, offset: int) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as stream:
        # A log that was cut since is read from its beginning.
        stream.seek(offset if path.stat().st_size >= offset else 0)
        return sum(1 for line in stream if _LOG_ERROR.search(line))
