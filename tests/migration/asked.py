"""The command `unify-db` with a played rehearsal, so that a run waits for a person after a second.

Run as a program it takes the command's arguments. Staging, suites and benchmark are played, and all
gates are open; plan, backup, merge, validation, approval, cut-over and archive are real.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from unified_db.migration.records import BenchmarkEvidence, Finding, GateName, Record, SuitesEvidence, Verdict
from unified_db.migration.runs import RunFolder

# They look at a run, or decide about it, and rehearse nothing; what is played would be imported in vain.
_LOOKS = {"status", "approve", "reject"}


def play_suites(_config: Any, run: RunFolder, _stages: Any) -> Verdict:
    return _judge(run, GateName.SUITES, lambda: SuitesEvidence(tests=(), counts=()))


def play_benchmark(_config: Any, run: RunFolder, _stages: Any, **_: Any) -> Verdict:
    return _judge(run, GateName.BENCHMARK, _measured)


def _measured() -> BenchmarkEvidence:
    from tests.migration.test_report import make_benchmark

    return make_benchmark()[0]


def _judge(run: RunFolder, gate: GateName, make_evidence: Callable[[], Record]) -> Verdict:
    """An open verdict; kept from before as the real phases keep theirs."""
    known = run.load(f"verdict-{gate.value}", Verdict)
    if known is not None:
        return known
    finding = Finding(check="played", where="a test", required="1", measured="1", passed=True)
    verdict = Verdict(gate=gate, findings=(finding,))
    run.save(f"evidence-{gate.value}", make_evidence())
    run.save(f"verdict-{gate.value}", verdict)
    return verdict


def play() -> None:
    """Have this process play what takes long."""
    from unified_db.migration import phases, plan

    phases.stage = lambda *_: None  # type: ignore[assignment, return-value]
    phases.suites = play_suites
    phases.benchmark = play_benchmark
    # Which packages an application's interpreter has is another test's matter, and takes a second.
    plan._require_runtime = lambda _config: None


if __name__ == "__main__":
    from flows import cli

    if sys.argv[1] not in _LOOKS:
        play()
    sys.exit(cli.main(sys.argv[1:]))
