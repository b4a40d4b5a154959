"""Whether a test that fails on the unified file alone is flaky: run again, on the old files.

It is only where it fails on the old files as well. A test that is run without its neighbours may
fail for want of them, so a failure there counts only where it has also passed there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from unified_db.migration import junit
from unified_db.migration.config import SuiteConfig
from unified_db.migration.junit import Case
from unified_db.migration.rehearsal import Rehearsal

log = logging.getLogger(__name__)

RERUNS = 5
"""How often newly failing tests are run again on the old files at most."""

_ALONE_AT_FIRST = 2
_SEVERITY = {junit.RETRIED_PASS: 1, junit.FAILED: 2, junit.ERROR: 2}


@dataclass(frozen=True)
class Reruns:
    """What a newly failing test did when it was run again on the old files.

    Attributes:
        suspect: What it did on the unified file.
        alone: What it did without the tests that are not under suspicion; None where it did not run.
        whole: What it did in the whole suite.
    """

    suspect: Case
    alone: tuple[Case | None, ...] = ()
    whole: tuple[Case | None, ...] = ()

    @property
    def flaky(self) -> bool:
        """True where it failed on the old files in the same way."""
        fails_alone = any(map(self._is_alike, self.alone)) and any(map(self._passed, self.alone))
        return fails_alone or any(map(self._is_alike, self.whole))

    @property
    def needs_others(self) -> bool:
        """True where nothing but running it with all the others can tell: alone it never passed."""
        return bool(self.alone) and not any(map(self._passed, self.alone))

    @property
    def detail(self) -> str:
        """The first lines of its failure on the old files, of one in the same way where there is one."""
        failed = [case for case in (*self.whole, *self.alone) if case and severity(case.outcome)]
        return next((c.detail for c in sorted(failed, key=self._is_alike, reverse=True)), "")

    def sentence(self) -> str:
        """What the reruns showed, such as "5 of 5 reruns passed"."""
        told = [
            f"{sum(map(self._passed, cases))} of {len(cases)} reruns passed{where}"
            for cases, where in ((self.alone, ""), (self.whole, " in the whole suite"))
            if cases
        ]
        return " and ".join(told) or "not run again"

    def _passed(self, case: Case | None) -> bool:
        passes = case is not None and case.outcome in {junit.PASSED, junit.RETRIED_PASS}
        return passes and not self._is_alike(case)

    def _is_alike(self, case: Case | None) -> bool:
        # A test that is flaky for its own reasons does not excuse a lock that only the unified file has.
        return (
            case is not None
            and severity(case.outcome) >= severity(self.suspect.outcome)
            and self.suspect.complaints <= case.complaints
        )


def severity(outcome: str) -> int:
    """0 for what is not red, 1 for a test that its own retries made pass, 2 for a failure."""
    return _SEVERITY.get(outcome, 0)


def run_again(rehearsal: Rehearsal, suite: SuiteConfig, suspects: Mapping[str, Case]) -> dict[str, Reruns]:
    """Run *suspects* again on the old files until each is known to be flaky, at most 5 times.

    Under pytest alone, without the rest of the suite. Once two such runs say nothing of a test, since
    it never passes alone, and with any other runner: the whole suite.
    """
    found = {test: Reruns(case) for test, case in suspects.items()}
    selectable = all(case.node for case in suspects.values())
    for attempt in range(1, RERUNS + 1):
        asked = {test: one for test, one in found.items() if not one.flaky}
        if not asked:
            break
        whole = attempt > _ALONE_AT_FIRST and any(one.needs_others for one in asked.values())
        alone = selectable and not whole
        log.info(
            "%s: %d newly failing, run again (%d of at most %d)", suite.name, len(asked), attempt, RERUNS
        )
        only = [one.suspect.node for one in asked.values()] if alone else []
        ran = rehearsal.run_again_on_old_files(suite, attempt=attempt, only=only)
        for test, one in asked.items():
            # What broke off says nothing of a single test.
            case = None if ran.problem else ran.tests.get(test)
            found[test] = _with(one, case, alone=alone)
    return found


def _with(one: Reruns, case: Case | None, *, alone: bool) -> Reruns:
    if alone:
        return replace(one, alone=(*one.alone, case))
    return replace(one, whole=(*one.whole, case))
