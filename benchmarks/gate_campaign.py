"""Real runs of the gates on the example with something planted: do they open and close as they should?

    make gate-campaign     all runs that are not done yet; writes docs/gate-campaign.{md,json}
    python -m benchmarks.gate_campaign --for-s 150    as many as fit, to be called again

Plan, backup, merge and stage are made once; each run is then the gate's own phase, with new random
orders, on fresh databases and freshly started servers. The plant is in the staged copy that runs on
the unified file alone. Results are appended to `build/gate-campaign/DIGEST/runs.jsonl`, where DIGEST is
that of the gate, the runtime and the example: runs of another gate are never counted with these.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gate_campaign_report import write_report
from flows import example
from unified_db.migration import phases
from unified_db.migration.benchmark import run_benchmark
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.records import Backups, UnifiedFile, Verdict
from unified_db.migration.runs import RunFolder, create_run
from unified_db.migration.stage import Stages
from unified_db.migration.suites import run_suites

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "gate-campaign"
CHAT = "/api/chat"
RUNS = 10
CALIBRATING = 3
_HOOK = "import planted\n\nplanted.install(app)\n\n\n"
_BEFORE = "def parse_arguments("


@dataclass(frozen=True)
class Case:
    """Something planted, and what the gate has to say.

    Attributes:
        slower: By how much the endpoint's median shall be above that on the old files; None for what
            is no slow-down.
        crowded: Only where requests overlap.
        plan: What is planted otherwise.
        breaks_a_test: For the suites' gate; all others are for the benchmark's.
        verdict: "open", "closed" or "either".
        check: The finding that has to close it; empty for any.
        runs: How many of them.
    """

    name: str
    verdict: str
    slower: float | None = None
    crowded: bool = False
    plan: Mapping[str, Any] = field(default_factory=dict)
    breaks_a_test: bool = False
    check: str = ""
    runs: int = RUNS


PLAIN = Case("nothing", "open", slower=0.0)
YARDSTICK = Case(
    "half of each request's time in the server",
    "either",
    plan={"path": CHAT, "alone": 0.5, "crowded": 0.5},
    runs=CALIBRATING,
)
CASES = (
    PLAIN,
    YARDSTICK,
    Case("chat +5 %", "either", slower=0.05, runs=CALIBRATING),
    Case("chat +20 %", "closed", slower=0.20, check="response time"),
    Case("chat +50 %", "closed", slower=0.50, check="response time"),
    Case("chat +20 % under concurrency", "closed", slower=0.20, crowded=True, check="response time"),
    Case("chat +50 % under concurrency", "closed", slower=0.50, crowded=True, check="response time"),
    Case("lock-up", "closed", plan={"path": CHAT, "lock_after": 20}, check="error rate", runs=1),
    Case("memory leak", "closed", plan={"path": CHAT, "leak_bytes": 4_000_000}, check="peak memory", runs=1),
    Case(
        "500 on one endpoint",
        "closed",
        plan={"path": "/api/providers", "status": 500},
        check="error rate",
        runs=1,
    ),
    Case(
        "lost message", "closed", plan={"lose": "assistant"}, check="conversations begun before go on", runs=1
    ),
    Case("a test that breaks", "closed", breaks_a_test=True, check="test passes as it did before", runs=1),
)


@dataclass(frozen=True)
class Base:
    """What all runs share."""

    folder: Path
    config: MigrationConfig
    run: RunFolder
    backups: Backups
    unified: UnifiedFile
    stages: Stages

    @property
    def results(self) -> Path:
        return self.folder / "runs.jsonl"

    @property
    def staged(self) -> Path:
        """The staged copy on the unified file, where things are planted."""
        return self.stages.after / "backend"


# Modules of unified_db/migration that begin so decide how a gate judges.
_SHARED = ("naming", "recording", "stage", "strays", "watching")
_BENCHMARK = (
    "asking",
    "bench",
    "continu",
    "control",
    "judg",
    "load",
    "measur",
    "operation",
    "replies",
    "statist",
)
_SUITES = ("junit", "opened", "recheck", "rehears", "rerun", "suite")


def digest(gate: Sequence[str]) -> str:
    """Of all that decides how *gate* judges the example, and of what is planted."""
    patterns = ("unified_db/runtime/*.py", "unified_db/migration/*.py", "examples/chat_backend/**/*")
    files = sorted(
        p
        for pattern in patterns
        for p in ROOT.glob(pattern)
        if p.is_file()
        and not {"__pycache__", ".unify-db"} & set(p.parts)
        and (p.parent.name != "migration" or p.stem.startswith((*_SHARED, *gate)))
    )
    found = hashlib.sha256()
    for path in (*files, Path(__file__), Path(__file__).with_name("planted.py")):
        found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def prepare(folder: Path) -> Base:
    """The example, filled, backed up, merged and staged; from before where it is there already."""
    app = folder / "example"
    if not (folder / "ready").exists():
        config = example.copy_example(app)
        example.create_tables(config, folder / "example.log")
        example.start(config, folder / "server.log")
        try:
            example.seed(config, folder / "example.log")
        finally:
            example.stop(config, folder / "example.log")
        (folder / "ready").write_text(create_run(config.state_folder).name)
    config = load_config(app / "unify.toml")
    run = RunFolder(config.state_folder / "runs" / (folder / "ready").read_text())
    plan = phases.plan(config, run)
    backups = phases.backup(run, plan)
    unified = phases.merge(run, backups)
    if not phases.validate(run, backups, unified).passed:
        sys.exit("validation closed the gate: nothing to measure")
    return Base(folder, config, run, backups, unified, phases.stage(config, run, backups, unified))


def read_results(base: Base) -> list[dict[str, Any]]:
    if not base.results.exists():
        return []
    results = [json.loads(line) for line in base.results.read_text().splitlines()]
    return [r for r in results if r["gate"] in {digest(_BENCHMARK), digest(_SUITES)}]


def missing(results: Sequence[Mapping[str, Any]]) -> Iterator[Case]:
    """What is to be run, in turn, so that machine and time of day are the same for all cases."""
    done = {case.name: sum(r["case"] == case.name for r in results) for case in CASES}
    for case in (PLAIN, YARDSTICK):
        yield from [case] * (CALIBRATING - done[case.name])
        done[case.name] = max(done[case.name], CALIBRATING)
    for number in range(RUNS):
        yield from (case for case in CASES if done[case.name] <= number < case.runs)


def calibrate(results: Sequence[Mapping[str, Any]]) -> dict[int, tuple[float, float]]:
    """By concurrency: the chat endpoint's ratio with nothing planted, and how much of a wait the client sees.

    What a request takes inside of the server is not all that its client waits for.
    """
    found = {}
    for n in (1, 8):
        plain, slower = (
            statistics.median(s["ratio"] for r in _first(case, results) for s in chat(r, n))
            for case in (PLAIN, YARDSTICK)
        )
        found[n] = (plain, (slower / plain - 1) / YARDSTICK.plan["alone"])
    return found


def _first(case: Case, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [r for r in results if r["case"] == case.name][:CALIBRATING]


def chat(result: Mapping[str, Any], concurrency: int) -> list[Mapping[str, Any]]:
    """What *result* measured of the chat endpoint."""
    return [s for s in result["series"] if s["name"] == "chat" and s["concurrency"] == concurrency]


def plan_of(case: Case, base: Base, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is planted for *case*; empty for nothing.

    A slow-down is a share of the time that the request itself took, so it follows the machine's speed.
    It is chosen, by what the first runs measured, so that the median comes out at 1 + *slower* times
    that on the old files, whatever the unified file by itself costs or saves: +20 % is a ratio of 1.20.
    """
    if case.slower is None:
        database = next(d.place for d in base.stages.databases if d.place.is_relative_to(base.stages.after))
        return {**case.plan, "database": str(database)} if case.plan else {}
    if not case.slower:
        return {}
    alone, crowded = (
        round(((1 + case.slower) / plain - 1) / seen, 4) for plain, seen in calibrate(results).values()
    )
    return {"path": CHAT, "alone": 0.0 if case.crowded else alone, "crowded": crowded}


def plant(base: Base, plan: Mapping[str, Any]) -> None:
    """Put *plan* into the staged copy, or take out what is there for an empty one."""
    server, original = base.staged / "server.py", base.config.cwd / "server.py"
    kept = base.folder / "server.py"
    if not kept.exists():
        kept.write_bytes(server.read_bytes())
        assert original.read_bytes() != kept.read_bytes(), "the staged copy is switched to our saver"
    text = kept.read_text()
    for leftover in ("planted.py", "planted.json"):
        (base.staged / leftover).unlink(missing_ok=True)
    if plan:
        assert text.count(_BEFORE) == 1, "the example's server has changed"
        text = text.replace(_BEFORE, _HOOK + _BEFORE)
        (base.staged / "planted.py").write_bytes(Path(__file__).with_name("planted.py").read_bytes())
        (base.staged / "planted.json").write_text(json.dumps(plan))
    server.write_text(text)


def run_case(base: Base, case: Case, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One real run of the gate; what it said."""
    plan = plan_of(case, base, results)
    plant(base, plan)
    run, begun = create_run(base.config.state_folder), time.monotonic()
    result: dict[str, Any] = {
        "case": case.name,
        "gate": base.folder.name,
        "planted": _shown(plan),
        "load": round(os.getloadavg()[0], 2),
    }
    if case.breaks_a_test:
        result["gate"] = digest(_SUITES)
        verdict = _break_a_test(base, run)
    else:
        evidence, verdict = run_benchmark(base.config, base.stages, base.backups, base.unified, run)
        fields = ("name", "concurrency", "before_ms", "after_ms", "ratio", "low", "high")
        result["blocks"] = evidence.blocks
        result["series"] = [
            {key: getattr(found, key) for key in fields}
            for found in (*evidence.latencies, *evidence.operations)
        ]
    plant(base, {})
    return {
        **result,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun, 1),
        "passed": verdict.passed,
        "failures": [f.model_dump() for f in verdict.failures],
        "as_wanted": _is_as_wanted(case, verdict),
    }


def _shown(plan: Mapping[str, Any]) -> dict[str, Any]:
    """*plan* without places of this machine."""
    return {key: value for key, value in plan.items() if key != "database"}


def _is_as_wanted(case: Case, verdict: Verdict) -> bool:
    if case.verdict == "either":
        return True
    if case.verdict == "open":
        return verdict.passed
    return any(case.check in f.check for f in verdict.failures)


def _break_a_test(base: Base, run: RunFolder) -> Verdict:
    """The suites' gate, with one function of the switched copy that its tests see is wrong."""
    file = base.staged / "crud.py"
    right = file.read_text()
    wrong = right.replace('" ".join(message.split())', '"-".join(message.split())')
    assert wrong != right, "the example's crud.py has changed"
    try:
        file.write_text(wrong)
        return run_suites(base.config, base.stages, run)[1]
    finally:
        file.write_text(right)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for-s", type=float, default=float("inf"), help="begin no run that may end later")
    parser.add_argument("--only", help="cases with this in their name, now and as often as --again says")
    parser.add_argument("--again", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    begun, folder = time.monotonic(), HOME / digest(_BENCHMARK)
    folder.mkdir(parents=True, exist_ok=True)
    base = prepare(folder)
    results = read_results(base)
    todo = list(missing(results))
    if options.only:
        todo = [case for case in CASES if options.only in case.name] * options.again
    for case in todo:
        longest = max((r["seconds"] for r in results), default=100.0)
        if time.monotonic() - begun + longest > options.for_s:
            break
        result = run_case(base, case, results)
        results.append(result)
        with base.results.open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        closed = ", ".join(f"{f['check']} at {f['where']}: {f['measured']}" for f in result["failures"])
        mark = "" if result["as_wanted"] else "NOT AS WANTED "
        print(f"{mark}{case.name}: {closed or 'open'} ({result['seconds']} s)", flush=True)
    left = len(list(missing(results)))
    print(f"{len(results)} runs done, {left} to do")
    write_report(ROOT / "docs", results, CASES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
