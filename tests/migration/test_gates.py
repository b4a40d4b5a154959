"""What a closed gate tells a person to do."""

from __future__ import annotations

import pytest

from unified_db.errors import GateClosedError
from unified_db.migration import benchmark, gates
from unified_db.migration.config import BenchmarkConfig
from unified_db.migration.judging import Judged
from unified_db.migration.records import Finding, GateName, Verdict
from unified_db.migration.statistics import Comparison, Decision

BUSY = "benchmark.budget_s"


def finding(*, undecided: bool, passed: bool = False) -> Finding:
    return Finding(
        check="response time",
        where="ping",
        required="1.10x",
        measured="1.07x",
        passed=passed,
        undecided=undecided,
    )


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ([finding(undecided=True), finding(undecided=True), finding(undecided=False, passed=True)], True),
        ([finding(undecided=True), finding(undecided=False)], False),
        ([], False),
    ],
)
def test_more_time_is_advised_where_nothing_but_time_was_lacking(findings: list[Finding], said: bool) -> None:
    verdict = Verdict(gate=GateName.BENCHMARK, findings=tuple(findings))
    with pytest.raises(GateClosedError) as refused:
        gates.require_passed(verdict)
    assert (BUSY in refused.value.hint) is said
    assert "unify-db status" in refused.value.hint


@pytest.mark.parametrize("decision", Decision)
def test_what_time_did_not_decide_is_told_from_what_got_worse(decision: Decision) -> None:
    between = Comparison(ratio=1.07, low=0.8, high=1.45, before_ms=30, after_ms=32)
    judged = Judged(decision, between, blocks=5)
    found = benchmark._time_finding("response time", "ping", judged, None, BenchmarkConfig())
    assert found.undecided is (decision is Decision.UNDECIDED)
    assert found.passed is (decision is Decision.OPEN)
