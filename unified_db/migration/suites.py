"""The application's own tests decide: every suite on the old files, then on the unified file.

Compared test by test. What was red before may stay red; what was green before must stay green,
and a suite that never opened the unified file proves nothing about the move.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unified_db import pieces
from unified_db.migration import junit, reruns, strays, wording
from unified_db.migration.config import MigrationConfig, SuiteConfig
from unified_db.migration.junit import Case
from unified_db.migration.records import Finding, GateName, SuiteFiles, SuitesEvidence, TestOutcome, Verdict
from unified_db.migration.redaction import Redaction
from unified_db.migration.rehearsal import WHOLE_SUITE, Rehearsal, SuiteRun
from unified_db.migration.reruns import Reruns
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Side, Stages

log = logging.getLogger(__name__)

_GREEN = (junit.PASSED, junit.RETRIED_PASS)
_MOST_FILES = 8
_REASON_CHARS = 160


@dataclass(frozen=True)
class _Compared:
    """A suite on both sides."""

    suite: SuiteConfig
    before: SuiteRun
    after: SuiteRun
    tests: tuple[TestOutcome, ...]
    files: SuiteFiles
    uses_old_files: bool


def run_suites(config: MigrationConfig, stages: Stages, run: RunFolder) -> tuple[SuitesEvidence, Verdict]:
    """Run every configured suite on both staged trees and compare test by test.

    A test that fails on the unified file alone is run again on the old files, up to 5 times.
    Output and JUnit files are kept in the run's folder. The staged databases are changed by it.

    Returns:
        What each test did, and the verdict: closed without a suite, where a suite proves nothing on the
        old files, where a test that passed there does not pass on the unified file, where no suite
        opened the unified file, and where a staged process touched the real files.
    """
    begun = time.monotonic()
    with strays.Guard(config, stages) as guard:
        rehearsal = Rehearsal(config, stages, run, guard)
        done = pieces.Tally("suites", 2 * len(config.suite), counts="steps")
        compared = [_rehearse(rehearsal, suite, done) for suite in config.suite]
    findings = [finding for one in compared for finding in _judge(one, config)]
    if compared:
        findings.append(_proof_of_any(compared, config))
        findings += guard.findings()
    verdict = Verdict(
        gate=GateName.SUITES, findings=tuple(findings), seconds=round(time.monotonic() - begun, 3)
    )
    log.info(verdict.sentence())
    evidence = SuitesEvidence(
        tests=tuple(test for one in compared for test in one.tests),
        counts=tuple((one.suite.name, one.before.summary(), one.after.summary()) for one in compared),
        files=tuple(one.files for one in compared),
    )
    return evidence, verdict


def _rehearse(rehearsal: Rehearsal, suite: SuiteConfig, done: pieces.Tally) -> _Compared:
    before = rehearsal.run_suite(suite, "before")
    done.add(1)
    after = rehearsal.run_suite(suite, "after")
    done.add(1)
    # What broke off closes the gate by itself; its tests cannot be told apart from those that never ran.
    broke_off = before.problem or after.problem
    again = {} if broke_off else reruns.run_again(rehearsal, suite, _find_suspects(before, after))
    unified = rehearsal.unified_file
    return _Compared(
        suite,
        before,
        after,
        tests=tuple(_compare(suite, before, after, again, redaction=rehearsal.redaction)),
        files=SuiteFiles(
            suite=suite.name,
            before=_describe_files(rehearsal, suite, "before", before),
            after=_describe_files(rehearsal, suite, "after", after),
            unified=unified in after.opened,
        ),
        uses_old_files=bool(before.opened),
    )


# ---- tests ---------------------------------------------------------------------------------------


def _find_suspects(before: SuiteRun, after: SuiteRun) -> dict[str, Case]:
    """The tests that are redder on the unified file than they were on the old files."""
    return {
        test: case
        for test, case in after.tests.items()
        if reruns.severity(case.outcome) > reruns.severity(before.outcome(test))
    }


def _compare(
    suite: SuiteConfig,
    before: SuiteRun,
    after: SuiteRun,
    again: Mapping[str, Reruns],
    *,
    redaction: Redaction,
) -> Iterator[TestOutcome]:
    suspects = _find_suspects(before, after)
    for test in dict.fromkeys([*before.tests, *after.tests]):
        reran = again.get(test)
        lost = before.outcome(test) in _GREEN and _is_lost(after.outcome(test))
        closes = lost or (test in suspects and not (reran and reran.flaky))
        failed = after.tests.get(test) or before.tests[test]
        yield TestOutcome(
            suite=suite.name,
            test=test,
            before=before.outcome(test),
            after=after.outcome(test),
            detail=wording.mask_failure(redaction.clean(failed.detail or before.detail(test))),
            standing="closes" if closes else "flaky" if reran else "open",
            again=reran.sentence() if reran else "",
            again_detail=wording.mask_failure(redaction.clean(reran.detail)) if reran else "",
        )


def _is_lost(outcome: str) -> bool:
    return outcome in {junit.ABSENT, junit.SKIPPED, junit.XFAILED}


# ---- database files ------------------------------------------------------------------------------


def _describe_files(rehearsal: Rehearsal, suite: SuiteConfig, side: Side, ran: SuiteRun) -> tuple[str, ...]:
    """What *ran* opened: the staged databases by name, then what its Python processes opened besides."""
    root = rehearsal.stages.root(side)
    named = [
        f"{path.relative_to(root)}{' (its old place)' if path in rehearsal.stages.fences else ''}"
        for path in sorted(ran.opened)
    ]
    temporary = rehearsal.temporary(suite, side).resolve()
    own = [path for path in ran.others if path.is_relative_to(temporary)]
    elsewhere = sorted(ran.others.difference(own))
    shown = [_label_of(path, root) for path in elsewhere[:_MOST_FILES]]
    more = [f"{len(elsewhere) - _MOST_FILES} more"] if len(elsewhere) > _MOST_FILES else []
    temporaries = [f"{wording.count(len(own), 'temporary file')} of its own"] if own else []
    return (*named, *shown, *more, *temporaries, *(["in memory"] if ran.in_memory else []))


def _label_of(path: Path, root: Path) -> str:
    return str(path.relative_to(root.resolve())) if path.is_relative_to(root.resolve()) else str(path)


def _files_finding(one: _Compared, config: MigrationConfig) -> Finding:
    unified = config.label(config.target_path)
    before, after = (
        wording.join_words(names) or "no database that could be seen"
        for names in (one.files.before, one.files.after)
    )
    if one.uses_old_files and not one.files.unified:
        return Finding(
            check="suite follows the switch to the unified file",
            where=one.suite.name,
            required=f"opens {unified}, having opened {before} before",
            measured=f"opened {after}",
            passed=False,
        )
    nothing = f"; proves nothing about the move, since it never opened {unified}"
    return Finding(
        check="which database files the suite opens",
        where=one.suite.name,
        required="told; one suite at least opens the unified file",
        measured=f"before: {before}; after: {after}{'' if one.files.unified else nothing}",
        passed=True,
    )


def _proof_of_any(compared: Iterable[_Compared], config: MigrationConfig) -> Finding:
    compared = list(compared)
    using = [one.suite.name for one in compared if one.files.unified]
    without = f"none, so they prove nothing about the move to {config.label(config.target_path)}"
    return Finding(
        check="tests open the unified file",
        where="all suites",
        required="at least 1 suite does",
        measured=f"{len(using)} of {len(compared)}: {wording.join_words(using)}" if using else without,
        passed=bool(using),
    )


# ---- the verdict ---------------------------------------------------------------------------------


def _judge(one: _Compared, config: MigrationConfig) -> Iterator[Finding]:
    suite, before, after = one.suite, one.before, one.after
    green = [t for t in one.tests if t.before in _GREEN]
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
    # A suite that broke off lacks all its tests; naming each of them would hide the one reason.
    # Before their count, so that the verdict's sentence names one of them.
    for test in one.tests if after.tests else ():
        if test.standing == "closes":
            yield _newly_failing(test)
    yield _still_passing(suite, one.tests, green)
    if not (before.problem or after.problem) and _ends_worse(before, after):
        yield _new_exit_code(suite, before, after)
    yield _files_finding(one, config)


def _still_passing(suite: SuiteConfig, tests: Iterable[TestOutcome], green: list[TestOutcome]) -> Finding:
    still = [t for t in green if t.standing != "closes"]
    flaky = sum(t.standing == "flaky" for t in tests)
    return Finding(
        check="tests that passed before still pass",
        where=suite.name,
        required=f"{len(green)} of {len(green)}",
        measured=f"{len(still)} of {len(green)}" + (f", {flaky} flaky on the old files too" if flaky else ""),
        passed=len(still) == len(green) and bool(green),
    )


def _ends_worse(before: SuiteRun, after: SuiteRun) -> bool:
    """True where something outside of the tests failed on the unified file alone.

    The end of the session, a coverage floor, a warning made an error.
    """
    whole = WHOLE_SUITE in after.tests
    return not whole and after.exit_code not in {0, before.exit_code} and after.red == before.red


def _new_exit_code(suite: SuiteConfig, before: SuiteRun, after: SuiteRun) -> Finding:
    return Finding(
        check="suite ends well as it did before",
        where=suite.name,
        required=f"exit code {before.exit_code}" + (" or 0" if before.exit_code else ""),
        measured=f"exit code {after.exit_code} without another failing test",
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
    reason = wording.shorten(next(iter(test.detail.splitlines()), ""), _REASON_CHARS)
    said = f"{test.after} ({reason})" if reason else test.after
    again = f"; on the old files {test.again}" if test.again else ""
    return Finding(
        check="test passes as it did before"
        if test.before in _GREEN
        else "test fails on the unified file alone",
        where=f"{test.suite}: {test.test}",
        required=test.before,
        measured=f"{said}{again}",
        passed=False,
    )
