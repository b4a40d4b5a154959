"""The migration plan's six success criteria and five metrics, as one run measured them.

Pure. Where a gate has a finding about the same thing, the finding decides: two answers to one
question in one report would be worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unified_db.migration import wording
from unified_db.migration.account import Account
from unified_db.migration.records import Finding, GateName, Latency, SuitesEvidence, count_tables

MEMORY_ALLOWANCE_BYTES = 20 * 1024 * 1024
_PASSED = "passed"
# How validation names what it read through LangGraph's own serializer and savers.
_LANGGRAPH_WORDS = ("langgraph", "serializ", "thread", "checkpoints decode", "parent", "saver", "interrupt")


@dataclass(frozen=True)
class Criterion:
    """One line of the plan: what it asks for, and what this run measured.

    Attributes:
        passed: None where this run has not measured it.
    """

    name: str
    required: str
    measured: str
    passed: bool | None


def criteria(account: Account) -> list[Criterion]:
    """The six success criteria of the migration plan, as this run measured them."""
    unit, other = _split_suites(account)
    return [
        _criterion_data(account),
        _criterion_tests(account, "All unit tests pass as before", unit),
        _criterion_tests(account, "All integration tests pass as before", other),
        _criterion_times(account),
        _criterion_langgraph(account),
        _criterion_logs(account),
    ]


def metrics(account: Account) -> list[Criterion]:
    """The five metrics of the migration plan."""
    return [
        _metric_size(account),
        _criterion_times(account, name="API response times"),
        _metric_memory(account),
        _metric_errors(account),
        _metric_pass_rates(account),
    ]


def _unmeasured(name: str, required: str) -> Criterion:
    return Criterion(name, required, "not measured in this run", None)


def _criterion_data(account: Account) -> Criterion:
    name, required = "All data migrated without loss", "every table, row and cell equal, both ways"
    verdict = account.verdicts.get(GateName.VALIDATION)
    if verdict is None:
        return _unmeasured(name, required)
    if not verdict.passed:
        return Criterion(name, required, _failed_of(verdict.findings), passed=False)
    tables = account.unified.tables if account.unified else ()
    rows = wording.count(sum(t.rows for t in tables), "row")
    return Criterion(
        name, required, f"{wording.count(count_tables(tables), 'table')}, {rows}, all equal", passed=True
    )


def _split_suites(account: Account) -> tuple[list[str], list[str]]:
    """Suite names as the plan sorts them: what is not called an integration suite counts as unit tests."""
    names = [c[0] for c in account.suites.counts] if account.suites else []
    other = [n for n in names if any(w in n.lower() for w in ("integration", "e2e", "end-to-end", "api"))]
    return [n for n in names if n not in other], other


def _criterion_tests(account: Account, name: str, suites: Sequence[str]) -> Criterion:
    verdict = account.verdicts.get(GateName.SUITES)
    if verdict is None or account.suites is None:
        return _unmeasured(name, "every test that passed before")
    if not suites:
        return Criterion(name, "every test that passed before", "no such suite is configured", None)
    required = "; ".join(f"{n}: {_passes(account.suites, n, 'before')}" for n in suites)
    measured = "; ".join(f"{n}: {_passes(account.suites, n, 'after')}" for n in suites)
    concerned = [f for f in verdict.findings if any(_concerns(f, n) for n in suites)]
    return Criterion(name, required, measured, bool(concerned) and all(f.passed for f in concerned))


def _concerns(finding: Finding, suite: str) -> bool:
    return finding.where == suite or finding.where.startswith(f"{suite}: ")


def _passes(evidence: SuitesEvidence, suite: str, side: str) -> str:
    tests = [t for t in evidence.tests if t.suite == suite]
    passed = sum(getattr(t, side) == _PASSED for t in tests)
    known = sum(getattr(t, side) != "absent" for t in tests)
    if known > 1:
        return f"{passed} of {known}"
    column = 1 if side == "before" else 2
    return next((c[column] for c in evidence.counts if c[0] == suite), wording.UNKNOWN)


def _criterion_times(account: Account, name: str = "") -> Criterion:
    percent = round((account.limits.max_ratio - 1) * 100)
    name = name or f"API response times within {percent} % of baseline"
    required = (
        f"upper bound of the median's ratio at most {account.limits.max_ratio:.2f}, "
        f"or less than {account.limits.min_diff_ms:g} ms slower"
    )
    if account.benchmark is None or not account.benchmark.latencies:
        return _unmeasured(name, required)
    latencies = account.benchmark.latencies
    ratios = [one.ratio for one in latencies]
    low, high = wording.format_ratio(min(ratios)), wording.format_ratio(max(ratios))
    closing = [one for one in latencies if not within(account, one)]
    said = _closing_said(account, closing[0]) if closing else _within_said(account, latencies)
    return Criterion(name, required, f"ratios {low} to {high}; {said}", not closing)


def _within_said(account: Account, latencies: Sequence[Latency]) -> str:
    bounded = sum(one.high <= account.limits.max_ratio for one in latencies)
    rest = len(latencies) - bounded
    small = f", {rest} with a wider interval but not {account.limits.min_diff_ms:g} ms slower" if rest else ""
    return f"{bounded} of {len(latencies)} within the bound{small}"


def _closing_said(account: Account, latency: Latency) -> str:
    """Why *latency* closes, in the gate's own words where it has some: its tail may be the reason."""
    verdict = account.verdicts.get(GateName.BENCHMARK)
    found = next((f for f in verdict.failures if _names(f, latency)), None) if verdict else None
    if found:
        return f"{found.check} of {found.where}: {found.measured}"
    return f"{measured_name(latency)}: bound {wording.format_ratio(latency.high)}"


def within(account: Account, latency: Latency) -> bool:
    """True where *latency* keeps its gate open; the verdict decides where it names it."""
    verdict = account.verdicts.get(GateName.BENCHMARK)
    named = [f for f in verdict.findings if _names(f, latency)] if verdict else []
    if named:
        return all(f.passed for f in named)
    limits = account.limits
    return latency.high <= limits.max_ratio or latency.after_ms - latency.before_ms < limits.min_diff_ms


def _names(finding: Finding, latency: Latency) -> bool:
    """True where *finding* is about this request (or operation) at this concurrency."""
    return finding.where in {latency.name, measured_name(latency)}


def why(account: Account, latency: Latency) -> str:
    """What the result of *latency* rests on where the ratio's interval does not tell it; else empty."""
    limits = account.limits
    if within(account, latency):
        if latency.high <= limits.max_ratio:
            return ""
        if latency.after_ms <= latency.before_ms:
            return "not slower, though the interval is wide"
        slower = wording.format_ms(latency.after_ms - latency.before_ms)
        return f"{slower} slower, less than the {limits.min_diff_ms:g} ms that count"
    verdict = account.verdicts.get(GateName.BENCHMARK)
    named = [f for f in verdict.failures if _names(f, latency)] if verdict else []
    return "; ".join(f"{f.check}: {f.measured}" for f in named)


def measured_name(latency: Latency) -> str:
    """How the benchmark's findings name a request at one concurrency."""
    return f"{latency.name}, {latency.concurrency} at a time"


def _criterion_langgraph(account: Account) -> Criterion:
    name = "LangGraph checkpoint operations work correctly"
    required = (
        "every checkpoint decodes, every thread's newest state is equal, put, get, list and resume work"
    )
    verdict = account.verdicts.get(GateName.VALIDATION)
    read = [f for f in verdict.findings if _is_langgraph(f)] if verdict else []
    operations = account.benchmark.operations if account.benchmark else ()
    continued = _continued(account)
    if not read and not operations:
        return _unmeasured(name, required)
    said = [_failed_of(read) if read else "states not read", *_operations_said(account)]
    said += [f"conversations begun before: {_failed_of(continued)}"] if continued else []
    passed = all(f.passed for f in (*read, *continued)) and all(within(account, o) for o in operations)
    return Criterion(
        name, required, "; ".join(said), passed if read and operations else None if passed else False
    )


def _continued(account: Account) -> list[Finding]:
    """What the benchmark's verdict says of conversations that were begun before the move."""
    verdict = account.verdicts.get(GateName.BENCHMARK)
    return [f for f in verdict.findings if f.check.startswith("conversations ")] if verdict else []


def _operations_said(account: Account) -> list[str]:
    operations = account.benchmark.operations if account.benchmark else ()
    if not operations:
        return ["operations not timed"]
    names = wording.join_words(dict.fromkeys(o.name for o in operations))
    worst = max(operations, key=lambda o: o.high)
    return [f"{names} ran on both, widest bound {wording.format_ratio(worst.high)}"]


def _is_langgraph(finding: Finding) -> bool:
    check = finding.check.lower()
    return any(word in check for word in _LANGGRAPH_WORDS)


def _criterion_logs(account: Account) -> Criterion:
    name, required = "No errors in application logs", "no error line that was not there before"
    evidence = account.benchmark
    if evidence is None or not evidence.latencies:
        return _unmeasured(name, required)
    before, after = evidence.before_log_errors, evidence.after_log_errors
    found = Criterion(name, required, f"{before} before, {after} after", after <= before)
    return _as_judged(account, "errors in the application's log", found)


def _metric_size(account: Account) -> Criterion:
    name = "Database file size"
    required = f"at most {account.limits.max_ratio:.2f} of the sum of the old files"
    sizes = file_sizes(account)
    if sizes is None:
        return _unmeasured(name, required)
    before, after = sizes
    measured = f"{wording.format_bytes(before)} before, {wording.format_bytes(after)} after"
    kept = after <= before * account.limits.max_ratio
    return _as_judged(account, "file size", Criterion(name, required, measured, kept))


def file_sizes(account: Account) -> tuple[int, int] | None:
    """Bytes of all old files and of the unified file, by the benchmark or else by the copies."""
    if account.benchmark:
        return account.benchmark.sources_bytes, account.benchmark.unified_bytes
    if account.backups and account.unified:
        return sum(b.size_bytes for b in account.backups.items), account.unified.size_bytes
    return None


def _metric_memory(account: Account) -> Criterion:
    limit, room = account.limits.max_ratio, wording.format_bytes(MEMORY_ALLOWANCE_BYTES)
    name, required = "Memory usage of the server", f"at most {limit:.2f} of before, plus {room}"
    evidence = account.benchmark
    if evidence is None or not evidence.before_rss_bytes:
        return _unmeasured(name, required)
    before, after = evidence.before_rss_bytes, evidence.after_rss_bytes
    measured = f"{wording.format_bytes(before)} before, {wording.format_bytes(after)} after"
    kept = after <= before * limit + MEMORY_ALLOWANCE_BYTES
    return _as_judged(account, "peak memory", Criterion(name, required, measured, kept))


def _metric_errors(account: Account) -> Criterion:
    name, required = "Error rates", "no request fails that did not fail before"
    if account.benchmark is None:
        return _unmeasured(name, required)
    before, after = account.benchmark.before_errors, account.benchmark.after_errors
    total = sum(one.requests for one in account.benchmark.latencies)
    of = f", of {wording.format_number(total)} requests on both together" if total else ""
    found = Criterion(name, required, f"{before} before, {after} after{of}", after <= before)
    return _as_judged(account, "error rate", found)


def _as_judged(account: Account, check: str, computed: Criterion) -> Criterion:
    """*computed* with the requirement and the result of the benchmark's own finding, where it has one."""
    verdict = account.verdicts.get(GateName.BENCHMARK)
    found = next((f for f in verdict.findings if f.check == check), None) if verdict else None
    return replace(computed, required=found.required, passed=found.passed) if found else computed


def _metric_pass_rates(account: Account) -> Criterion:
    name, required = "Test pass rates", "not lower than before"
    tests = account.suites.tests if account.suites else ()
    if not tests:
        return _unmeasured(name, required)
    before = sum(t.before == _PASSED for t in tests)
    after = sum(t.after == _PASSED for t in tests)
    total = len(tests)
    measured = f"{before} of {total} before, {after} of {total} after"
    verdict = account.verdicts.get(GateName.SUITES)
    return Criterion(name, required, measured, verdict.passed if verdict else after >= before)


def _failed_of(findings: Sequence[Finding]) -> str:
    failed = [f for f in findings if not f.passed]
    if not findings:
        return "nothing was checked"
    if not failed:
        return f"{wording.count(len(findings), 'check')} passed"
    return f"{len(failed)} of {wording.count(len(findings), 'check')} failed"
