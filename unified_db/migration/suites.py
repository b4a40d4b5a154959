"""The application's own tests decide: every suite on the old files, then on the unified file.

Compared test by test. What was red before may stay red; what was green before must stay green.
"""

from __future__ import annotations

import logging
import re
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unified_db.migration import processes, stage
from unified_db.migration.config import MigrationConfig, SuiteConfig
from unified_db.migration.records import Finding, GateName, SuitesEvidence, TestOutcome, Verdict
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Side, Stages

log = logging.getLogger(__name__)

RERUNS = 2
"""How often a suite is run again on the old files to see whether a newly failing test fails there too."""

_DETAIL_LINES = 12
_DETAIL_CHARS = 1500
_WHOLE_SUITE = "(exit code)"
_RED = ("failed", "error")


@dataclass(frozen=True)
class SuiteRun:
    """One suite on one side.

    Attributes:
        outcomes: Test id to passed, failed, error or skipped.
        details: Test id to the first lines of its failure, masked.
        problem: Why the run as a whole cannot count, empty where it can.
        exit_code: Of the command; 0 where it is not known.
    """

    outcomes: dict[str, str]
    details: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    exit_code: int = 0

    def summary(self) -> str:
        """Counts for people, such as "14 passed, 1 failed"."""
        counts = Counter(self.outcomes.values())
        order = ("passed", "failed", "error", "skipped")
        text = ", ".join(f"{counts[o]} {o}" for o in order if counts[o]) or "no test"
        return f"{text} ({self.problem})" if self.problem else text


def run_suites(config: MigrationConfig, stages: Stages, run: RunFolder) -> tuple[SuitesEvidence, Verdict]:
    """Run every configured suite on both staged trees and compare test by test.

    Output and JUnit files are kept in the run's folder. The staged databases are changed by it.

    Returns:
        What each test did, and the verdict: closed without a suite, where a suite proves nothing,
        where a test that passed on the old files does not pass on the unified file, and where a
        staged process touched the real files.
    """
    begun = time.monotonic()
    rehearsal = _Rehearsal(config, stages, run)
    real_files = stage.look_at_real_files(config)
    tests: list[TestOutcome] = []
    findings: list[Finding] = []
    counts = []
    for suite in config.suite:
        before, after = rehearsal.run_suite(suite, "before"), rehearsal.run_suite(suite, "after")
        compared = _compare(suite, before, after)
        flaky = _find_flaky(rehearsal, suite, compared)
        tests += compared
        counts.append((suite.name, before.summary(), after.summary()))
        findings += _judge(suite, before, after, compared, flaky)
    if config.suite:
        findings += stage.find_strays(config, real_files, rehearsal.handles, root=stages.after)
    verdict = Verdict(
        gate=GateName.SUITES, findings=tuple(findings), seconds=round(time.monotonic() - begun, 3)
    )
    log.info(verdict.sentence())
    return SuitesEvidence(tests=tuple(tests), counts=tuple(counts)), verdict


class _Rehearsal:
    """Runs suites on the staged trees and remembers which real files they had open."""

    def __init__(self, config: MigrationConfig, stages: Stages, run: RunFolder) -> None:
        self.config = config
        self.stages = stages
        self.handles: set[str] = set()
        self._folder = run.path / "suites"
        self._secrets = stage.sensitive_values(config)

    def run_suite(self, suite: SuiteConfig, side: Side, *, attempt: int = 0) -> SuiteRun:
        """Run *suite* on *side*, with fresh databases."""
        root = self.stages.root(side)
        stage.reset_databases(self.stages, side=side)
        name = re.sub(r"[^\w.-]", "_", f"{suite.name}-{side}") + (f"-{attempt}" if attempt else "")
        junit, port = self._folder / f"{name}.xml", processes.free_port()
        junit.unlink(missing_ok=True)
        files_of = "the old files" if side == "before" else "the unified file"
        log.info("%s: running on %s", suite.name, files_of)
        result = processes.run_command(
            self.config.command(suite.command, root=root, port=port, junit=junit),
            cwd=stage.staged_cwd(self.config, root),
            env=processes.staged_environment(self.config, port=port, temporary=self._temporary(name)),
            log_file=self._folder / f"{name}.log",
            timeout_s=suite.timeout_s,
            watch=lambda pids: self.handles.update(stage.stray_handles(self.config, pids)),
        )
        outcome = _read_result(suite, result, junit, self._secrets)
        log.info("%s: %s on %s, %.1f s", suite.name, outcome.summary(), files_of, result.seconds)
        return outcome

    def run_again_on_old_files(self, suite: SuiteConfig, *, attempt: int) -> SuiteRun:
        """Run *suite* on a before side that is made anew: leftovers would fail tests for themselves."""
        stage.rebuild_before(self.config, self.stages)
        return self.run_suite(suite, "before", attempt=attempt)

    def _temporary(self, name: str) -> Path:
        return self.stages.before.parent / "tmp" / name


def parse_junit(path: Path, *, secrets: Collection[str] = ()) -> SuiteRun:
    """Read a JUnit XML file, as pytest and many others write it.

    A test that occurs more than once gets a number from its second time on.

    Args:
        path: The file.
        secrets: Texts that are masked in the details.

    Raises:
        ET.ParseError: Not XML.
    """
    outcomes: dict[str, str] = {}
    details: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 -- written by the user's own tests
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        seen[name] += 1
        test = f"{name} ({seen[name]})" if seen[name] > 1 else name
        outcomes[test], detail = _outcome_of(case)
        if detail:
            details[test] = _mask(detail, secrets)
    return SuiteRun(outcomes, details)


def _outcome_of(case: ET.Element) -> tuple[str, str]:
    for tag, outcome in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        node = case.find(tag)
        if node is not None:
            return outcome, _shorten(f"{node.get('message') or ''}\n{node.text or ''}")
    return "passed", ""


def _shorten(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:_DETAIL_LINES])[:_DETAIL_CHARS]


def _mask(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _read_result(
    suite: SuiteConfig, result: processes.CommandResult, junit: Path, secrets: Collection[str]
) -> SuiteRun:
    tail = _mask(processes.log_tail(result.log, lines=_DETAIL_LINES), secrets)
    if result.timed_out:
        return SuiteRun({}, problem=f"ended after {suite.timeout_s:g} s")
    if "{junit}" not in suite.command:
        outcome = "failed" if result.exit_code else "passed"
        details = {_WHOLE_SUITE: f"exit code {result.exit_code}\n{tail}"} if result.exit_code else {}
        return SuiteRun({_WHOLE_SUITE: outcome}, details)
    try:
        read = parse_junit(junit, secrets=secrets)
    except (OSError, ET.ParseError):
        return SuiteRun({}, problem=f"exit code {result.exit_code}, no JUnit file")
    # A runner that a signal ended may have left a file that tells half of it.
    problem = f"ended by signal {-result.exit_code}" if result.exit_code < 0 else ""
    return SuiteRun(read.outcomes, read.details, problem, result.exit_code)


def _compare(suite: SuiteConfig, before: SuiteRun, after: SuiteRun) -> list[TestOutcome]:
    return [
        TestOutcome(
            suite=suite.name,
            test=test,
            before=before.outcomes.get(test, "absent"),
            after=after.outcomes.get(test, "absent"),
            detail=after.details.get(test) or before.details.get(test, ""),
        )
        for test in dict.fromkeys([*before.outcomes, *after.outcomes])
    ]


def _find_flaky(rehearsal: _Rehearsal, suite: SuiteConfig, compared: list[TestOutcome]) -> set[str]:
    """The newly failing tests which, when run again, fail on the old files as well."""
    suspects = {t.test for t in compared if t.before == "passed" and t.after in _RED}
    flaky: set[str] = set()
    for attempt in range(1, RERUNS + 1):
        if not suspects - flaky:
            break
        log.info("%s: %d newly failing, running again on the old files", suite.name, len(suspects - flaky))
        again = rehearsal.run_again_on_old_files(suite, attempt=attempt)
        flaky |= {test for test in suspects if again.outcomes.get(test) in _RED}
    return flaky


def _judge(
    suite: SuiteConfig,
    before: SuiteRun,
    after: SuiteRun,
    compared: list[TestOutcome],
    flaky: Collection[str],
) -> Iterator[Finding]:
    green = [t for t in compared if t.before == "passed"]
    still = [t for t in green if t.after == "passed" or t.test in flaky]
    broken = [t for t in green if t not in still]
    yield Finding(
        check="suite proves something on the old files",
        where=suite.name,
        required="at least one test passes",
        measured=before.summary(),
        passed=bool(green),
    )
    for side, ran in (("old files", before), ("unified file", after)):
        if ran.problem:
            yield _unfinished(suite, side, ran)
    yield Finding(
        check="tests that passed before still pass",
        where=suite.name,
        required=f"{len(green)} of {len(green)}",
        measured=f"{len(still)} of {len(green)}" + (f", {len(flaky)} of them flaky" if flaky else ""),
        passed=not broken and bool(green),
    )
    # A suite that broke off lacks all its tests; naming each of them would hide the one reason.
    for test in broken if after.outcomes else ():
        yield _newly_failing(test)
    if not before.exit_code and after.exit_code and not any(o in _RED for o in after.outcomes.values()):
        yield _new_exit_code(suite, after)


def _new_exit_code(suite: SuiteConfig, after: SuiteRun) -> Finding:
    # Something outside of the tests: the end of the session, a coverage floor, a warning made an error.
    return Finding(
        check="suite ends well as it did before",
        where=suite.name,
        required="exit code 0",
        measured=f"exit code {after.exit_code} without a failing test",
        passed=False,
    )


def _unfinished(suite: SuiteConfig, side: str, ran: SuiteRun) -> Finding:
    return Finding(
        check=f"suite runs to its end on the {side}",
        where=suite.name,
        required=f"within {suite.timeout_s:g} s",
        measured=ran.problem,
        passed=False,
    )


def _newly_failing(test: TestOutcome) -> Finding:
    return Finding(
        check="test passes as it did before",
        where=f"{test.suite}: {test.test}",
        required="passed",
        measured=test.after,
        passed=False,
    )
