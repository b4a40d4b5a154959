"""Measures two staged servers and two checkpoint files, block after block; judges nothing.

In every block both servers are fresh processes, since two processes of the same code differ by
some per cent for their whole life.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from unified_db import files, pieces
from unified_db.errors import ServerError
from unified_db.migration import processes, stage, strays
from unified_db.migration.asking import Row, ask, read_backups
from unified_db.migration.config import MigrationConfig, RequestConfig
from unified_db.migration.error_lines import ErrorLines
from unified_db.migration.judging import Part, Series
from unified_db.migration.load import SIDES, Client, Load, Side, Tally
from unified_db.migration.operations import Operations, Place, savers_of
from unified_db.migration.records import Backups, UnifiedFile
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages
from unified_db.migration.statistics import Block

log = logging.getLogger(__name__)

CONCURRENCIES = (1, 8)
CONTROL_BLOCKS = 3
"""Blocks of old against old, as many as the first look at the others has."""

_WARM_UP_ROUNDS = 3
_ROUND_LIMITS = (8, 60)
_MAX_WEIGHT = 4
# A start costs seconds, so what was started is asked for about as long.
_PHASE_LIMITS_S = (1.0, 1.8)
_STOP_TIMEOUT_S = 10.0


@dataclass
class Control:
    """The old application against a second copy of itself: what the machine alone makes of it.

    Attributes:
        problem: Why there are fewer blocks than there should be; empty where there are not.
        seconds: What each part took, in all blocks together.
    """

    latencies: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    blocks: int = 0
    problem: str = ""
    seconds: Counter[Part] = field(default_factory=Counter)


@dataclass
class Measured:
    """All that the blocks have shown so far."""

    latencies: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[Series, list[Block]] = field(default_factory=lambda: defaultdict(list))
    control: Control = field(default_factory=Control)
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
class _Pair:
    """Two applications that are compared, and the checkpoint files that LangGraph's operations use.

    Attributes:
        name: Begins the names of what is kept of its blocks.
    """

    name: str
    roots: Mapping[Side, Path]
    places: tuple[Place, Place] | None


@dataclass(frozen=True)
class _StagedServer:
    side: Side
    port: int
    process: processes.Server
    logs: Mapping[Path, int]
    """Log files with their sizes before the start."""

    def count_log_errors(self) -> int:
        """Lines of this start that tell of an error."""
        return sum(ErrorLines(path, offset=offset).count() for path, offset in self.logs.items())


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
        self.operations: Operations | None = None
        self._config = config
        self._stages = stages
        self._run = run
        self._guard = guard
        self._deadline = deadline
        self._budget_ms = int(config.benchmark.budget_s * 1000)
        self._progress = pieces.Tally("benchmark", self._budget_ms, counts="milliseconds")
        self._random = Random(self.seed)  # noqa: S311 -- an order of requests, no secret
        self._requests: list[RequestConfig] = []
        self._rows: dict[str, tuple[Row, ...]] = {}
        self._rounds = _ROUND_LIMITS[0]
        self._block_s = 0.0
        self._origins: dict[Path, Path] = {}
        self._pair = _Pair("block", {side: stages.root(side) for side in SIDES}, None)
        self._control = _Pair(
            "control", {"before": stages.before, "after": stages.before.with_name("control")}, None
        )

    def prepare(self, backups: Backups, unified: UnifiedFile) -> bool:
        """Copy the checkpoint files and the old tree, time a plain restart and one round of requests.

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
        _copy_tree(self._control.roots["before"], self._control.roots["after"])
        log.info("benchmark: starting the staged server on the old files")
        with self._serve(self._pair, ["before"]) as (server,):
            seconds = self._try_requests(server.port)
            begun = time.monotonic()
            server.process.stop(timeout_s=_STOP_TIMEOUT_S)
            with self._serve(self._pair, ["before"]):
                self.measured.restart_ms = (time.monotonic() - begun) * 1000
        log.info("benchmark: a plain restart takes %.1f s", self.measured.restart_ms / 1000)
        if self.measured.errors:
            return False
        weights = _weigh(seconds)
        self._requests = [r for r in self._config.benchmark.request for _ in range(weights[r.name])]
        round_s = sum(seconds[request.name] for request in self._requests)
        restart_s = self.measured.restart_ms / 1000
        self._rounds = _choose_rounds(restart_s, round_s)
        # Until one is measured: both sides start side by side, and answer at each concurrency.
        self._block_s = 2 * restart_s + len(CONCURRENCIES) * len(SIDES) * self._rounds * round_s
        return True

    def run_control(self, *, until: float) -> None:
        """Measure the old application against a second copy of itself, for as long as there is time.

        Args:
            until: Monotonic seconds at which it has to be done.
        """
        control = self.measured.control
        try:
            while control.blocks < CONTROL_BLOCKS and time.monotonic() + self._block_s < until:
                tally = self._time_block(self._control, control.blocks + 1)
                if tally.errors:
                    control.problem = "a request or an operation failed in it"
                    return
                control.blocks += 1
                control.seconds.update(tally.seconds)
                _keep(tally, control)
            if control.blocks < CONTROL_BLOCKS:
                control.problem = "there was no time for more"
        except ServerError:
            control.problem = "a second copy of the old application did not start"
        finally:
            shutil.rmtree(self._control.roots["after"], ignore_errors=True)
            # The old side has written for the control; both sides begin with the same rows.
            stage.reset_databases(self._stages, side="before")
            self._place_checkpoints()

    def run_blocks(self, *, until: int, without: Collection[Part] = ()) -> bool:
        """Run blocks until there are *until* of them; false where the time did not suffice.

        Ends early after an error that only the after side has.

        Args:
            until: How many blocks there are in the end.
            without: What is left out of them, since it is decided.
        """
        measured = self.measured
        while measured.blocks < until and not measured.has_new_errors:
            if measured.blocks and time.monotonic() + self._block_s > self._deadline:
                return False
            measured.blocks += 1
            tally = self._time_block(self._pair, measured.blocks, without=without)
            measured.errors += tally.errors
            # A block that the end of the time has cut short has too few answers to count as one.
            if time.monotonic() < self._deadline:
                _keep(tally, measured)
        return True

    @contextmanager
    def serving(self, side: Side) -> Iterator[int]:
        """The port of a fresh staged server of *side*, for the block; what it has open is noted."""
        with self._serve(self._pair, [side]) as servers:
            yield servers[0].port
            self._look_at(servers)

    @property
    def _asks_servers(self) -> bool:
        return bool(self._config.app.start and self._config.benchmark.request)

    def _copy_checkpoints(self, backups: Backups, unified: UnifiedFile) -> None:
        old = next((b for b in backups.items if b.kind == "checkpoints"), None)
        if old is None:
            return
        folder = self._stages.before.parent / "operations"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stock, ours = savers_of(self._config)
        copies = {name: folder / f"{name}.sqlite" for name in ("old", "control", "unified")}
        self._origins = {
            copy: unified.path if name == "unified" else old.path for name, copy in copies.items()
        }
        self._place_checkpoints()
        before = Place(stock, copies["old"])
        self._pair = replace(self._pair, places=(before, Place(ours, copies["unified"])))
        self._control = replace(self._control, places=(before, Place(stock, copies["control"])))
        self.operations = Operations(self._config, self._stages, self._run)

    def _place_checkpoints(self) -> None:
        for copy, origin in self._origins.items():
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

    def _time_block(self, pair: _Pair, number: int, *, without: Collection[Part] = ()) -> _BlockTally:
        """One block of *pair*: LangGraph's operations in a fresh process, then fresh servers."""
        begun = time.monotonic()
        tally = _BlockTally()
        if pair.places is not None and self.operations is not None and "operations" not in without:
            name, seed = f"{pair.name}-{number:02}", self.seed + number
            with tally.timed("operations"):
                self.operations.measure(
                    *pair.places, tally.operations, block=name, seed=seed, watch=self._look_for_strays
                )
        asked = [c for c in CONCURRENCIES if c not in without]
        if self._asks_servers and asked and not tally.has_new_errors:
            self._ask_servers(pair, tally, asked)
        self._block_s = time.monotonic() - begun
        log.info("benchmark: %s %d took %.1f s", pair.name, number, self._block_s)
        if math.isfinite(self._deadline):
            self._progress.reach(self._budget_ms - int((self._deadline - time.monotonic()) * 1000))
        return tally

    def _ask_servers(self, pair: _Pair, tally: _BlockTally, asked: Sequence[int]) -> None:
        with self._serve(pair, SIDES) as servers:
            ports = {server.side: server.port for server in servers}
            warm_up = Tally()
            self._load(ports, warm_up, rounds=_WARM_UP_ROUNDS).send_one_by_one()
            tally.requests.errors += warm_up.errors
            measured = self._load(ports, tally.requests, rounds=self._rounds)
            for concurrency in asked:
                self._look_at(servers)
                with tally.timed(concurrency):
                    if concurrency == 1:
                        measured.send_one_by_one()
                    else:
                        measured.send_at_once(concurrency)
            self._look_at(servers)
            if pair is self._pair:
                self._note_footprint(servers)

    def _load(self, ports: Mapping[Side, int], tally: Tally, *, rounds: int) -> Load:
        return Load(self._requests, ports, tally, rounds, self._random, self._deadline, self._rows)

    def _look_at(self, servers: Iterable[_StagedServer]) -> None:
        for server in servers:
            self._look_for_strays(server.process.pids())
            # A child that is gone by the end of the block held memory too.
            server.process.peak_rss_bytes()

    def _look_for_strays(self, pids: list[int]) -> None:
        self._guard.look(pids)

    def _note_footprint(self, servers: Iterable[_StagedServer]) -> None:
        for server in servers:
            self.measured.rss_bytes[server.side].append(server.process.peak_rss_bytes())
            # Before the stop: what a server says while it is ended is no error of the files.
            self.measured.log_errors[server.side] += server.count_log_errors()

    @contextmanager
    def _serve(self, pair: _Pair, sides: Iterable[Side]) -> Iterator[list[_StagedServer]]:
        """The servers of *sides*, ready; they start and stop side by side."""
        servers: list[_StagedServer] = []
        try:
            for side in sides:
                # One by one: what was started is known, and stopped, where the next does not start.
                servers.append(self._start(pair, side))  # noqa: PERF401 -- as said above
            for server in servers:
                self._wait(server)
            yield servers
        finally:
            with ThreadPoolExecutor(len(SIDES)) as pool:
                list(pool.map(lambda server: server.process.stop(timeout_s=_STOP_TIMEOUT_S), servers))

    def _start(self, pair: _Pair, side: Side) -> _StagedServer:
        root = pair.roots[side]
        port, folder = processes.free_port(), self._run.path / "benchmark"
        output = folder / f"server-{root.name}.log"
        own = self._config.app.log
        logs = [output] if own is None else [output, root / own]
        offsets = {path: path.stat().st_size if path.exists() else 0 for path in logs}
        env = processes.staged_environment(self._config, port=port, temporary=root.parent / "tmp" / root.name)
        # Two old servers are recorded as such, so that both sides bear the same.
        recording = self._guard.record("server", side if pair is self._pair else "before")
        process = processes.Server.start(
            self._config.command(self._config.app.start, root=root, port=port),
            cwd=stage.staged_cwd(self._config, root),
            # Unbuffered, else an error that was printed is not in the log while we count.
            env=recording.environment({**env, "PYTHONUNBUFFERED": "1"}),
            log_file=output,
        )
        return _StagedServer(side, port, process, offsets)

    def _wait(self, server: _StagedServer) -> None:
        url = processes.ready_url(self._config, port=server.port)
        server.process.wait_ready(url, timeout_s=self._config.app.ready_timeout_s)


@dataclass
class _BlockTally:
    """What one block has shown."""

    operations: Tally = field(default_factory=Tally)
    requests: Tally = field(default_factory=Tally)
    seconds: dict[Part, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: Part) -> Iterator[None]:
        """Note how long the block takes."""
        begun = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - begun

    @property
    def errors(self) -> Counter[tuple[Side, str, str]]:
        return self.operations.errors + self.requests.errors

    @property
    def has_new_errors(self) -> bool:
        return self.operations.error_count("after") > self.operations.error_count("before")


def _keep(tally: _BlockTally, into: Measured | Control) -> None:
    for kept, found in ((into.operations, tally.operations), (into.latencies, tally.requests)):
        for series, block in found.blocks():
            kept[series].append(block)


def _copy_tree(origin: Path, copy: Path) -> None:
    """Copy a staged tree whose databases nobody has open; what is no file, folder or link is left out."""

    def skipped(folder: str, names: list[str]) -> list[str]:
        paths = [Path(folder, name) for name in names]
        return [p.name for p in paths if not (p.is_symlink() or p.is_dir() or p.is_file())]

    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(origin, copy, symlinks=True, ignore=skipped)


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
