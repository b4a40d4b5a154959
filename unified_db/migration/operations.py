"""LangGraph's own operations on the old checkpoint file and on the unified file, timed side by side.

pytest-benchmark times them in a process of the application's interpreter, a fresh one per block,
on copies, with threads of our own beside those that are there: no value of the application is
touched. What is done is in `operations_suite`; here it is started and read. Nothing is judged.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unified_db.migration import processes, stage
from unified_db.migration.config import MigrationConfig
from unified_db.migration.load import SIDES, Answer, Side, Tally
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0

_ALL = "LangGraph operations"
_SUITE = Path(__file__).with_name("operations_suite.py")
_STOCK = ("langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver", "langgraph.checkpoint.sqlite.SqliteSaver")
_OURS = ("unified_db.UnifiedAsyncSqliteSaver", "unified_db.UnifiedSqliteSaver")
_PROBE = (
    "import pytest, pytest_benchmark, unified_db.runtime.saver, sys; "
    "sys.stdout.write(pytest_benchmark.__version__)"
)
_PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Place:
    """A file and the saver that it is used through, as "package.module.Class"."""

    saver: str
    path: Path


def savers_of(config: MigrationConfig) -> tuple[str, str]:
    """The stock saver and ours, sync where that is the only one the switch puts in, else async."""
    named = {e.new for e in config.edit if e.kind == "python-import"}
    which = 1 if _OURS[1] in named and _OURS[0] not in named else 0
    return _STOCK[which], _OURS[which]


class Operations:
    """Measures operations in fresh processes of one interpreter.

    Attributes:
        said: How they are measured, for people: by which interpreter, and why not the application's.
        in_application: True where it is the application's interpreter.
        files: pytest-benchmark's JSON of every block so far.
    """

    def __init__(self, config: MigrationConfig, stages: Stages, run: RunFolder) -> None:
        self._config = config
        self._root = stages.after
        self._temporary = stages.before.parent / "tmp" / "operations"
        self._folder = run.path / "benchmark" / "operations"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # pytest takes the nearest pytest.ini, and the application's is not meant.
        (self._folder / "pytest.ini").write_text("[pytest]\n")
        self._suite = self._folder / "test_operations.py"
        shutil.copyfile(_SUITE, self._suite)
        self.files: list[Path] = []
        self._python, self.said = self._choose_interpreter()
        self.in_application = self._python == config.python

    def measure(
        self,
        before: Place,
        after: Place,
        tally: Tally,
        *,
        block: str,
        seed: int,
        watch: Callable[[list[int]], None] | None = None,
    ) -> None:
        """Put, get, list and resume on both places in a fresh process, and count it in *tally*.

        What fails, gives another answer than was put or does not end in time is an error of its side;
        where no side can be told, of the after side.

        Args:
            before: The old file.
            after: What it is compared with.
            tally: Takes times and errors; empty before.
            block: Names the files of this block in the run's folder.
            seed: Decides which side comes first in each turn.
            watch: Called four times a second with the process ids that are there then.
        """
        report, junit = self._folder / f"{block}.json", self._folder / f"{block}.xml"
        for leftover in (report, junit):
            leftover.unlink(missing_ok=True)
        result = processes.run_command(
            self._command(report, junit),
            cwd=stage.staged_cwd(self._config, self._root),
            env={
                **self._environment(),
                "UNIFY_DB_BEFORE": f"{before.saver} {before.path}",
                "UNIFY_DB_AFTER": f"{after.saver} {after.path}",
                "UNIFY_DB_SEED": str(seed),
            },
            log_file=self._folder / f"{block}.log",
            timeout_s=TIMEOUT_S,
            watch=watch,
        )
        if report.exists():
            self.files.append(report)
            _read_times(report, tally)
        if junit.exists():
            _read_errors(junit, tally)
        if not tally.errors and (result.timed_out or result.exit_code or not report.exists()):
            ended = (
                f"not ended after {TIMEOUT_S:g} s" if result.timed_out else f"exit code {result.exit_code}"
            )
            tally.errors["after", _ALL, ended] += 1
            log.warning("benchmark: LangGraph operations: %s, see %s", ended, result.log)

    def _command(self, report: Path, junit: Path) -> list[str]:
        options = ["-q", "-p", "benchmark", "-p", "no:cacheprovider", f"--benchmark-json={report}"]
        return [str(self._python), "-m", "pytest", *options, f"--junitxml={junit}", str(self._suite)]

    def _environment(self) -> dict[str, str]:
        port = processes.free_port()
        staged = processes.staged_environment(self._config, port=port, temporary=self._temporary)
        # Options and plugins that are meant for the application's own tests, and the mark of a worker
        # of pytest-xdist around us, in which pytest-benchmark measures nothing.
        kept = {k: v for k, v in staged.items() if not k.startswith("PYTEST_")}
        return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def _choose_interpreter(self) -> tuple[Path, str]:
        version = self._probe(self._config.python)
        if version:
            return self._config.python, f"pytest-benchmark {version} in the application's interpreter"
        own = Path(sys.executable)
        said = (
            f"pytest-benchmark {self._probe(own) or '(missing)'} in unify-db's own interpreter, since the "
            "application's cannot import pytest_benchmark; to measure with its own versions: "
            f"{self._config.python} -m pip install pytest-benchmark"
        )
        log.warning("benchmark: LangGraph operations are timed by %s", said)
        return own, said

    def _probe(self, python: Path) -> str:
        """The version of pytest-benchmark that *python* imports, beside the runtime; empty without it."""
        try:
            found = subprocess.run(
                [str(python), "-c", _PROBE],
                cwd=stage.staged_cwd(self._config, self._root),
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return found.stdout.strip() if not found.returncode else ""


def _read_times(report: Path, tally: Tally) -> None:
    for measured in json.loads(report.read_bytes())["benchmarks"]:
        what = measured["extra_info"]
        for seconds in measured["stats"]["data"]:
            tally.add(what["side"], what["operation"], 1, Answer(seconds * 1000))


def _read_errors(junit: Path, tally: Tally) -> None:
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 -- written by our own suite
        for problem in (*case.iterfind("failure"), *case.iterfind("error")):
            side, operation = _case_of(case.get("name", ""))
            # The class alone: a message may name paths or values.
            kind = (problem.get("message") or "error").split(":")[0].split(".")[-1]
            tally.add(side, operation, 1, Answer(0.0, kind))


def _case_of(name: str) -> tuple[Side, str]:
    """Side and operation of "test_operation[TURN-OPERATION-SIDE]"."""
    if "[" not in name:
        # It is not about one test: our suite could not even be read.
        return SIDES[1], _ALL
    _, operation, side = name.partition("[")[2].removesuffix("]").split("-")
    return (SIDES[0] if side == SIDES[0] else SIDES[1]), operation
