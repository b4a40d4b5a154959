"""What is planted for the campaign still fits the example, and is counted as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gate_campaign as campaign
from benchmarks.gate_campaign_report import write_report
from unified_db.migration.records import Finding, GateName, Verdict

BACKEND = campaign.ROOT / "examples" / "chat_backend" / "backend"


def result(case: str, *, ratio: float = 1.0, passed: bool = True) -> dict:
    series = [{"name": "chat", "concurrency": n, "ratio": ratio} for n in (1, 8)]
    failure = {"check": "response time", "where": "chat, 1 at a time", "measured": "1.20x"}
    failures = [] if passed else [failure]
    known = {"case": case, "series": series, "passed": passed, "failures": failures}
    return {**known, "at": "2026-01-01T10:00:00+00:00", "seconds": 20.0, "as_wanted": True}


CALIBRATED = [
    *[result(campaign.PLAIN.name, ratio=0.8)] * campaign.CALIBRATING,
    *[result(campaign.YARDSTICK.name, ratio=1.12)] * campaign.CALIBRATING,
]


def verdict(check: str = "") -> Verdict:
    named = {"check": check or "file size", "where": "chat", "required": "", "measured": ""}
    return Verdict(gate=GateName.BENCHMARK, findings=(Finding(**named, passed=not check),))


def test_the_hook_has_its_place_in_the_examples_server():
    server = (BACKEND / "server.py").read_text()
    assert server.count(campaign._BEFORE) == 1
    assert server.index("app = FastAPI(") < server.index(campaign._BEFORE)


def test_a_slow_down_comes_out_at_its_ratio_whatever_the_unified_file_saves():
    case = next(c for c in campaign.CASES if c.name == "chat +20 %")
    plan = campaign.plan_of(case, None, CALIBRATED)
    # Of a wait of half of its time the client saw 40 % more, so it sees 0.8 of any.
    assert 0.8 * (1 + 0.8 * plan["alone"]) == pytest.approx(1.20, abs=0.001)
    assert 0.8 * (1 + 0.8 * plan["crowded"]) == pytest.approx(1.20, abs=0.001)


def test_what_is_planted_under_concurrency_alone_leaves_single_requests_alone():
    case = next(c for c in campaign.CASES if c.name == "chat +50 % under concurrency")
    plan = campaign.plan_of(case, None, CALIBRATED)
    assert plan["alone"] == 0.0
    assert 0.8 * (1 + 0.8 * plan["crowded"]) == pytest.approx(1.50, abs=0.001)


def test_a_gate_that_closes_for_another_reason_does_not_count():
    lost = next(c for c in campaign.CASES if c.name == "lost message")
    assert campaign._is_as_wanted(lost, verdict("conversations begun before go on"))
    assert not campaign._is_as_wanted(lost, verdict("peak memory"))
    assert not campaign._is_as_wanted(lost, verdict())
    assert campaign._is_as_wanted(campaign.PLAIN, verdict())
    assert not campaign._is_as_wanted(campaign.PLAIN, verdict("peak memory"))


def test_runs_are_made_in_turn_and_none_twice():
    first = [c.name for c in campaign.missing([])]
    assert first[: 2 * campaign.CALIBRATING] == [r["case"] for r in CALIBRATED]
    assert len(first) == sum(case.runs for case in campaign.CASES)
    done = [result(name) for name in first[:20]]
    assert [c.name for c in campaign.missing(done)] == first[20:]


def test_the_page_counts_verdicts(tmp_path: Path):
    runs = [result("chat +20 %", ratio=1.2, passed=False), result("chat +20 %", ratio=1.1)]
    runs.append(result("chat +20 %", ratio=1.15, passed=False))
    runs[-1]["failures"] = [{**runs[0]["failures"][0], "where": "ping, 8 at a time"}]
    write_report(tmp_path, runs, campaign.CASES)
    page = (tmp_path / "gate-campaign.md").read_text()
    assert (
        '| chat +20 % | close by "response time" | 3 of 10 | 1 | 2 | 1 of 3 | 1.15 (1.10 to 1.20) |' in page
    )
    assert "- response time: chat, 1 at a time: 1 of 3" in page
    assert json.loads((tmp_path / "gate-campaign.json").read_text())["runs"] == runs
