"""One suite on one staged side: the command, what it is given, and what is read of it afterwards.

Each run has fresh databases, a port and a temporary folder of its own, and a probe that tells which
database files it opened. How two runs compare is not known here.
"""

from __future__ import annotations

import logging
import re
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from unified_db.migration import junit, kept_output, processes, stage, wording
from unified_db.migration.config import MigrationConfig, SuiteConfig
from unified_db.migration.junit import Case
from unified_db.migration.opened import Probe
from unified_db.migration.redaction import redaction_of
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Side, Stages
from unified_db.migration.strays import Guard

log = logging.getLogger(__name__)

WHOLE_SUITE = "(exit code)"
"""The id of the one test that a suite without JUnit is."""

_TAIL_LINES = 12
_NAME_CHARS = 60
_FILES_OF = {"before": "the old files", "after": "the unified file"}
_ORDER = (
    junit.PASSED,
    junit.RETRIED_PASS,
    junit.FAILED,
    junit.ERROR,
    junit.SKIPPED,
    junit.XFAILED,
)


@dataclass(frozen=True)
class SuiteRun:
    """One suite on one side.

    Attributes:
        tests: What each test did, by its id.
        problem: Why the run as a whole cannot count, empty where it can.
        exit_code: Of the command; 0 where it is not known.
        opened: Databases of the staged tree (and fences at old places) that it opened.
        others: The databases besides that its Python processes connected to.
        in_memory: True where they used one without a file.
    """

    tests: dict[str, Case] = field(default_factory=dict)
    problem: str = ""
    exit_code: int = 0
    opened: frozenset[Path] = frozenset()
    others: frozenset[Path] = frozenset()
    in_memory: bool = False

    def outcome(self, test: str) -> str:
        """What *test* did; absent where it is not there."""
        return self.tests[test].outcome if test in self.tests else junit.ABSENT

    def detail(self, test: str) -> str:
        """The first lines of the failure of *test*; empty where there is none."""
        return self.tests[test].detail if test in self.tests else ""

    @property
    def red(self) -> frozenset[str]:
        """The tests that failed or erred."""
        return frozenset(test for test, case in self.tests.items() if case.outcome in junit.RED)

    def summary(self) -> str:
        """Counts for people, such as "14 passed, 1 failed"."""
        counts = Counter(case.outcome for case in self.tests.values())
        text = ", ".join(f"{counts[o]} {o}" for o in _ORDER if counts[o]) or "no test"
        return f"{text} ({self.problem})" if self.problem else text


class Rehearsal:
    """Runs suites on the staged trees while *guard* watches over the real files."""

    def __init__(self, config: MigrationConfig, stages: Stages, run: RunFolder, guard: Guard) -> None:
        self.config = config
        self.stages = stages
        self._guard = guard
        self._folder = run.path / "suites"
        self._secrets = stage.sensitive_values(config)
        # Of an attempt that was interrupted: its reruns would pass for ours.
        shutil.rmtree(self._folder, ignore_errors=True)
        self.redaction = redaction_of(stages.before, self._secrets)

    def run_suite(
        self, suite: SuiteConfig, side: Side, *, attempt: int = 0, only: Collection[str] = ()
    ) -> SuiteRun:
        """Run *suite* on *side*, with fresh databases; pytest runs nothing but the node ids in *only*."""
        stage.reset_databases(self.stages, side=side)
        name = self._name(suite, side, attempt)
        recording = self._guard.record(name, side)
        probe = Probe(self._place("probe", name), self._databases(side), recording)
        if only:
            probe.select(only)
        which = f"{wording.count(len(only), 'test')} alone" if only else "running"
        log.info("%s: %s on %s", suite.name, which, _FILES_OF[side])
        with probe:
            result = self._run_command(suite, side, name=name, probe=probe)
        ran = self._read(suite, result, self._folder / f"{name}.xml", probe)
        for kept in (f"{name}.log", f"{name}.xml"):
            kept_output.mask_file(self._folder / kept, self._secrets)
        log.info("%s: %s on %s, %.1f s", suite.name, ran.summary(), _FILES_OF[side], result.seconds)
        for process in result.ended:
            log.warning("%s: left process %s behind, which was ended", suite.name, process)
        return ran

    def run_again_on_old_files(
        self, suite: SuiteConfig, *, attempt: int, only: Collection[str] = ()
    ) -> SuiteRun:
        """Run *suite* on a before side that is made anew: leftovers would fail tests for themselves."""
        stage.rebuild_before(self.config, self.stages)
        return self.run_suite(suite, "before", attempt=attempt, only=only)

    @property
    def unified_file(self) -> Path:
        """The copy of the unified file that suites have on the after side."""
        return next(d.place for d in self.stages.databases if d.place.is_relative_to(self.stages.after))

    def temporary(self, suite: SuiteConfig, side: Side) -> Path:
        """Where *suite* has its temporary files on *side*, in its first run there."""
        return self._place("tmp", self._name(suite, side, 0))

    def _run_command(
        self, suite: SuiteConfig, side: Side, *, name: str, probe: Probe
    ) -> processes.CommandResult:
        root, port, junit_file = self.stages.root(side), processes.free_port(), self._folder / f"{name}.xml"
        junit_file.unlink(missing_ok=True)
        temporary = self._place("tmp", name)
        shutil.rmtree(temporary, ignore_errors=True)

        def watch(pids: list[int]) -> None:
            self._guard.look(pids)
            probe.look(pids)

        env = processes.staged_environment(self.config, port=port, temporary=temporary)
        return processes.run_command(
            self.config.command(suite.command, root=root, port=port, junit=junit_file),
            cwd=stage.staged_cwd(self.config, root),
            env=probe.environment(env),
            log_file=self._folder / f"{name}.log",
            timeout_s=suite.timeout_s,
            watch=watch,
        )

    def _read(
        self, suite: SuiteConfig, result: processes.CommandResult, junit_file: Path, probe: Probe
    ) -> SuiteRun:
        ran = _read_result(suite, result, junit_file, self._secrets)
        last = junit.mask(probe.last_test(), self._secrets)
        during = f", during {last}" if ran.problem and last else ""
        silent = ran.problem and not last and not junit_file.exists()
        words = self._last_words(result.log) if silent else ""
        return replace(
            ran,
            problem=f"{ran.problem}{during}{words}",
            exit_code=result.exit_code,
            opened=probe.opened,
            others=probe.others,
            in_memory=probe.recording.in_memory(),
        )

    def _last_words(self, log: Path) -> str:
        """What a runner said that ended before any test: often that it is not installed."""
        last = self.redaction.clean(processes.log_tail(log, lines=1)).strip()
        return f", last words: {last}" if last else ""

    def _databases(self, side: Side) -> list[Path]:
        root = self.stages.root(side)
        staged = [d.place for d in self.stages.databases if d.place.is_relative_to(root)]
        return [*staged, *(self.stages.fences if side == "after" else ())]

    def _name(self, suite: SuiteConfig, side: Side, attempt: int) -> str:
        # With its number, since two names may differ in nothing but what no file name can hold.
        number = self.config.suite.index(suite) + 1
        name = re.sub(r"[^\w.-]", "_", suite.name)[:_NAME_CHARS]
        return f"{number}-{name}-{side}" + (f"-{attempt}" if attempt else "")

    def _place(self, what: str, name: str) -> Path:
        return self.stages.before.parent / what / name


def _read_result(
    suite: SuiteConfig, result: processes.CommandResult, junit_file: Path, secrets: Collection[str]
) -> SuiteRun:
    if result.timed_out:
        return SuiteRun(problem=f"ended after {suite.timeout_s:g} s")
    if "{junit}" not in suite.command:
        return SuiteRun({WHOLE_SUITE: _whole_suite(result, secrets)})
    ended = f"ended by signal {-result.exit_code}" if result.exit_code < 0 else ""
    said = ended or f"exit code {result.exit_code}"
    try:
        # A runner that a signal ended may have left a file that tells half of it.
        return SuiteRun(junit.read_junit(junit_file, secrets=secrets), problem=ended)
    except FileNotFoundError:
        return SuiteRun(problem=f"{said}, no JUnit file")
    except (OSError, ET.ParseError) as error:
        return SuiteRun(problem=f"{said}, its JUnit file cannot be read: {error}")


def _whole_suite(result: processes.CommandResult, secrets: Collection[str]) -> Case:
    if not result.exit_code:
        return Case(WHOLE_SUITE)
    tail = processes.log_tail(result.log, lines=_TAIL_LINES)
    return Case(
        WHOLE_SUITE,
        outcome=junit.FAILED,
        detail=junit.first_lines(f"exit code {result.exit_code}\n{tail}", secrets),
        complaints=junit.complaints_of(tail),
    )
