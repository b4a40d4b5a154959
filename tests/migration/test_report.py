"""What people read about a run: whole where records are there, calm where not, no secrets."""

from __future__ import annotations

import base64
import random
import re
import stat
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flows import answers
from unified_db.migration import account as accounts
from unified_db.migration import (
    criteria,
    markdown,
    phase_pages,
    plots,
    report,
    schema_page,
    standings,
    tables,
    wording,
)
from unified_db.migration.journal import Journal
from unified_db.migration.records import (
    Approval,
    ArchivedFile,
    ArchiveRecord,
    Backup,
    Backups,
    BenchmarkEvidence,
    Collision,
    CutoverRecord,
    EditPreview,
    Finding,
    GateName,
    Latency,
    MigrationPlan,
    RollbackRecord,
    SchemaObject,
    SourceFacts,
    SpaceNeed,
    SuiteFiles,
    SuitesEvidence,
    TableFacts,
    TestOutcome,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder, create_run
from unified_db.migration.standings import Standing

PHASES = ("plan", "backup", "merge", "validate", "suites", "benchmark", "cutover", "archive", "rollback")
NOW = datetime(2026, 3, 2, 9, 30, 12, tzinfo=UTC)
ROOT = Path("/srv/chat")
APP, MEMORY = "backend/langgraph_agent.db", "backend/data/chatbot_memory.sqlite"
TARGET = ROOT / "backend/data/unified_app.sqlite"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ENDPOINTS = ("ping", "list providers", "history", "chat turn")

ROWS = {"alembic_version": 1, "llm_providers": 3, "conversations": 412, "messages": 4812}
MEMORY_ROWS = {"checkpoints": 2473, "writes": 6120}


# ---- an example run ------------------------------------------------------------------------------


def make_table(name: str, *, kind: str = "table") -> SchemaObject:
    return SchemaObject(
        kind=kind, name=name, table=name, sql=f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, body TEXT)"
    )


def make_sources() -> tuple[SourceFacts, ...]:
    shared = {"page_size": 4096, "encoding": "UTF-8", "user_version": 0, "application_id": 0}
    index = SchemaObject(
        kind="index",
        name="ix_messages_conversation",
        table="messages",
        sql="CREATE INDEX ix_messages_conversation ON messages (conversation_id)",
    )
    view = SchemaObject(
        kind="view", name="recent", table="recent", sql="CREATE VIEW recent AS SELECT * FROM conversations"
    )
    automatic = SchemaObject(
        kind="index", name="sqlite_autoindex_checkpoints_1", table="checkpoints", sql=None
    )
    return (
        SourceFacts(
            label=APP,
            path=ROOT / APP,
            kind="application",
            size_bytes=1_318_912,
            wal_bytes=0,
            journal_mode="delete",
            tables=tuple(
                TableFacts(name=n, source=APP, rows=r, sequence=4812 if n == "messages" else None)
                for n, r in ROWS.items()
            ),
            objects=(*(make_table(n) for n in ROWS), index, view),
            handles=("41233 python server.py",),
            **shared,
        ),
        SourceFacts(
            label=MEMORY,
            path=ROOT / MEMORY,
            kind="checkpoints",
            size_bytes=14_204_928,
            wal_bytes=424_392,
            journal_mode="wal",
            tables=tuple(TableFacts(name=n, source=MEMORY, rows=r) for n, r in MEMORY_ROWS.items()),
            objects=(*(make_table(n) for n in MEMORY_ROWS), automatic),
            handles=("41233 python server.py",),
            **shared,
        ),
    )


ENV_DIFF = f"""--- a/backend/.env
+++ b/backend/.env
@@ -1,4 +1,4 @@
 # the application's settings
 OPENAI_API_KEY=•••
-DATABASE_URL=sqlite:///{APP}
+DATABASE_URL=sqlite:///backend/data/unified_app.sqlite
 PORT=•••
"""
PYTHON_DIFF = """--- a/backend/server.py
+++ b/backend/server.py
@@ -11,7 +11,7 @@
 from fastapi import FastAPI
-from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
+from unified_db import UnifiedAsyncSqliteSaver

 from chat.graph import build_graph
"""


def make_plan(**changes: object) -> MigrationPlan:
    edits = (
        ("backend/.env", "dotenv", "DATABASE_URL names the unified file", ENV_DIFF),
        (
            "backend/server.py",
            "python-import",
            "AsyncSqliteSaver becomes UnifiedAsyncSqliteSaver",
            PYTHON_DIFF,
        ),
    )
    plan = MigrationPlan(
        run="20260302T093012Z-4f1c",
        created_at=NOW,
        target=TARGET,
        sources=make_sources(),
        collisions=(),
        edits=tuple(
            EditPreview(file=Path(f), kind=k, when="switch", summary=s, diff=d, before_sha256=SHA)
            for f, k, s, d in edits
        ),
        space=(SpaceNeed(folder=ROOT, needed_bytes=64_000_000, free_bytes=21_500_000_000),),
        estimated_s=95.0,
        versions={"python": "3.11.9", "sqlite": "3.45.1", "langgraph-checkpoint-sqlite": "3.0.1"},
    )
    return plan.model_copy(update=changes)


def make_backups() -> Backups:
    items = tuple(
        Backup(
            label=s.label,
            source=s.path,
            path=ROOT / ".unify-db/runs/R/backup" / s.path.name,
            kind=s.kind,
            size_bytes=s.size_bytes + s.wal_bytes,
            sha256=SHA,
            journal_mode=s.journal_mode,
        )
        for s in make_sources()
    )
    return Backups(taken_at=NOW, lock_ms=3.4, seconds=0.31, items=items)


def make_unified() -> UnifiedFile:
    tables_ = tuple(t for s in make_sources() for t in s.tables)
    return UnifiedFile(
        path=ROOT / "unified.sqlite", size_bytes=15_626_240, sha256=SHA, tables=tables_, seconds=0.84
    )


def finding(check: str, where: str, required: str, measured: str, *, passed: bool = True) -> Finding:
    return Finding(check=check, where=where, required=required, measured=measured, passed=passed)


def make_validation(*, passed: bool = True) -> Verdict:
    cells = [
        finding(
            "every row and cell", f"{s.label}: {t.name}", f"{t.rows:,} rows, equal", f"{t.rows:,} rows, equal"
        )
        for s in make_sources()
        for t in s.tables
    ]
    others = [
        finding("integrity_check", "unified file", "ok", "ok"),
        finding("AUTOINCREMENT counters", APP, "1 equal", "1 equal"),
        finding("foreign keys broken as before, none more", "unified file", "0 rows", "0 rows"),
        finding(
            "checkpoints decode through LangGraph's serializer", MEMORY, "2,473 of 2,473", "2,473 of 2,473"
        ),
        finding("newest state of every thread, stock and ours", MEMORY, "412 equal", "412 equal"),
    ]
    if not passed:
        others.append(
            finding(
                "every row and cell",
                f"{APP}: users",
                "3 rows, equal",
                "2 rows, rowid 3 missing",
                passed=False,
            )
        )
    return Verdict(gate=GateName.VALIDATION, findings=(*others, *cells), seconds=1.9)


def make_suites(*, broken: bool = False) -> tuple[SuitesEvidence, Verdict]:
    tests = [
        TestOutcome(suite="unit", test=f"tests.unit.test_crud::test_{i:02}", before="passed", after="passed")
        for i in range(54)
    ]
    tests += [
        TestOutcome(
            suite="integration", test=f"tests.api.test_chat::test_{i:02}", before="passed", after="passed"
        )
        for i in range(14)
    ]
    tests.append(
        TestOutcome(
            suite="integration", test="tests.api.test_limits::test_rate", before="failed", after="failed"
        )
    )
    findings = [
        finding("tests that passed before still pass", s, f"{n} of {n}", f"{n} of {n}")
        for s, n in (("unit", 54), ("integration", 14))
    ]
    counts = [
        ("unit", "54 passed", "54 passed"),
        ("integration", "14 passed, 1 failed", "14 passed, 1 failed"),
    ]
    if broken:
        changed = {"standing": "closes", "again": "5 of 5 reruns passed", "detail": FAILURE}
        lost = tests[60].model_copy(update={"after": "failed", **changed})
        tests[60] = lost
        findings[1] = finding(
            "tests that passed before still pass", "integration", "14 of 14", "13 of 14", passed=False
        )
        findings.append(
            finding(
                "test passes as it did before", f"integration: {lost.test}", "passed", "failed", passed=False
            )
        )
        counts[1] = ("integration", "14 passed, 1 failed", "13 passed, 2 failed")
    verdict = Verdict(gate=GateName.SUITES, findings=tuple(findings), seconds=31.4)
    return SuitesEvidence(tests=tuple(tests), counts=tuple(counts)), verdict


FAILURE = """tests/api/test_chat.py:41: in test_06
    assert reply.json() == {"text": "PLANTED-ROW-VALUE"}
E   AssertionError: assert {'text': 'PLANTED-ROW-VALUE'} == {'text': 'other'}
E     - PLANTED-ROW-VALUE
E     + other
sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked
[SQL: INSERT INTO messages (body) VALUES (?)]
[parameters: ('PLANTED-ROW-VALUE', 7)]"""


def make_latency(
    name: str, concurrency: int, before: float, *, ratio: float = 1.01, seed: int = 1
) -> Latency:
    rng = random.Random(seed)
    old = [before * rng.lognormvariate(0, 0.14) for _ in range(30)]
    new = [before * ratio * rng.lognormvariate(0, 0.15) for _ in range(30)]
    return Latency(
        name=name,
        concurrency=concurrency,
        before_ms=before,
        after_ms=before * ratio,
        before_p95_ms=sorted(old)[28],
        after_p95_ms=sorted(new)[28],
        ratio=ratio,
        low=ratio * 0.965,
        high=ratio * 1.04,
        requests=960,
        before_sample_ms=tuple(round(v, 4) for v in old),
        after_sample_ms=tuple(round(v, 4) for v in new),
    )


def make_benchmark(*, slow: float = 1.02) -> tuple[BenchmarkEvidence, Verdict]:
    times = {"ping": 0.9, "list providers": 2.3, "history": 6.8, "chat turn": 21.5}
    latencies = tuple(
        make_latency(
            n, c, t * (1 if c == 1 else 5.4), ratio=slow if n == "chat turn" else 0.99, seed=i * 9 + c
        )
        for i, (n, t) in enumerate(times.items())
        for c in (1, 8)
    )
    operations = tuple(
        make_latency(n, 1, t, ratio=0.97, seed=50 + i)
        for i, (n, t) in enumerate((("put", 1.9), ("get", 0.7), ("list", 3.1), ("resume", 9.4)))
    )
    findings = [
        finding(
            "response time" if one in latencies else "LangGraph operation time",
            f"{one.name}, {one.concurrency} at a time" if one in latencies else one.name,
            "≤ 1.10",
            f"{one.high:.2f}",
            passed=one.high <= 1.10,
        )
        for one in (*latencies, *operations)
    ]
    findings += [
        finding("peak memory", "staged server", "at most 168.23 MiB (old: 134.75 MiB)", "139.14 MiB"),
        finding(
            "error rate", "all requests and LangGraph operations", "no more than the 0 on the old files", "0"
        ),
    ]
    evidence = BenchmarkEvidence(
        latencies=latencies,
        operations=operations,
        blocks=12,
        before_rss_bytes=141_300_000,
        after_rss_bytes=145_900_000,
        before_errors=0,
        after_errors=0,
        before_log_errors=0,
        after_log_errors=0,
        sources_bytes=15_948_232,
        unified_bytes=15_626_240,
        restart_ms=842.0,
    )
    return evidence, Verdict(gate=GateName.BENCHMARK, findings=tuple(findings), seconds=58.7)


def make_cutover() -> CutoverRecord:
    return CutoverRecord(
        run="20260302T093012Z-4f1c",
        switched_at=NOW + timedelta(minutes=2),
        target=TARGET,
        downtime_ms=1012.0,
        write_pause_ms=170.0,
        late_rows=14,
        edited=(ROOT / "backend/.env", ROOT / "backend/server.py"),
        originals=((ROOT / APP, ROOT / ".unify-db/runs/R/originals/langgraph_agent.db"),),
        pid=51234,
        health=(finding("answers", "/ping", "2xx", "200"), finding("new log errors", "server.log", "0", "0")),
    )


def make_archive() -> ArchiveRecord:
    item = ArchivedFile(
        label=APP,
        original=ROOT / APP,
        archived=ROOT / ".unify-db/runs/R/archive/langgraph_agent.db.zst",
        original_bytes=1_318_912,
        archived_bytes=211_034,
        sha256=SHA,
        mode=0o600,
        journal_mode="delete",
    )
    return ArchiveRecord(
        run="20260302T093012Z-4f1c",
        archived_at=NOW + timedelta(minutes=3),
        folder=ROOT / ".unify-db/runs/R/archive",
        files=(item,),
        edited=(ROOT / "backend/scripts/backup.sh",),
        mentions=("README.md:41", "notebooks/explore.ipynb:7"),
        keep_until=NOW + timedelta(days=30),
    )


def make_rollback() -> RollbackRecord:
    return RollbackRecord(
        run="20260302T093012Z-4f1c",
        rolled_back_at=NOW + timedelta(hours=5),
        restored=(ROOT / APP, ROOT / MEMORY),
        carried=(("messages", 12, 1, 0), ("checkpoints", 30, 0, 0)),
        kept_aside=ROOT / "backend/data/unified_app.sqlite.rolled-back",
        findings=(
            finding("every row and cell", f"{APP}: messages", "4,824 rows, equal", "4,824 rows, equal"),
        ),
    )


def fill(
    run: RunFolder, *, until: str = "archive", broken: bool = False, slow: float = 1.02, valid: bool = True
) -> RunFolder:
    """Save the records of every phase up to *until*."""
    suites, suites_verdict = make_suites(broken=broken)
    benchmark, benchmark_verdict = make_benchmark(slow=slow)
    approval = Approval(
        run=run.name, approved_by="gates", approved_at=NOW, evidence_sha256=SHA, gates=tuple(GateName)
    )
    records = {
        "plan": [("plan", make_plan())],
        "backup": [("backup", make_backups())],
        "merge": [("merge", make_unified())],
        "validate": [("verdict-validation", make_validation(passed=valid))],
        "suites": [("evidence-suites", suites), ("verdict-suites", suites_verdict)],
        "benchmark": [("evidence-benchmark", benchmark), ("verdict-benchmark", benchmark_verdict)],
        "cutover": [("approval", approval), ("cutover", make_cutover())],
        "archive": [("archive", make_archive())],
        "rollback": [("rollback", make_rollback())],
    }
    for phase in PHASES[: PHASES.index(until) + 1]:
        for name, record in records[phase]:
            # Not durably: these tests would spend most of their time in fsync.
            (run.evidence / f"{name}.json").write_text(record.model_dump_json())
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create_run(tmp_path / ".unify-db", now=NOW)


def page_of(run: RunFolder) -> str:
    return report.write_report(run).read_text()


# ---- every state of a run has a report -----------------------------------------------------------


class _Checker(HTMLParser):
    """Complains about tags that do not close, doubled ids and links to nowhere."""

    VOID = frozenset(
        {"meta", "br", "img", "link", "hr", "input", "rect", "line", "circle", "path", "polygon"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in {"href", "src"}:
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")


def check_page(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    assert checker.problems == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    return checker


@pytest.mark.parametrize("until", ["plan", "backup", "validate", "suites", "cutover", "rollback"])
def test_a_run_that_stopped_after_any_phase_has_a_report_that_reads_well(run: RunFolder, until: str) -> None:
    checker = check_page(page_of(fill(run, until=until)))
    assert {link.removeprefix("#") for link in checker.links} <= set(checker.ids)
    for phase in PHASES:
        text = phase_pages.phase_markdown(phase, run)
        assert text.startswith("# ")
        assert ("nothing is recorded" in text) == (PHASES.index(phase) > PHASES.index(until))


def test_the_plan_of_an_earlier_run_can_still_be_read() -> None:
    earlier = make_plan().model_dump(mode="json") | {"warnings": []}
    assert MigrationPlan.model_validate(earlier) == make_plan()


def test_a_run_without_any_record_has_a_report_too(run: RunFolder) -> None:
    check_page(page_of(run))
    assert "has not recorded anything" in run.summary.read_text()


def test_a_record_that_cannot_be_read_is_named_and_the_rest_is_shown(run: RunFolder) -> None:
    fill(run, until="merge")
    (run.evidence / "merge.json").write_text("{broken")
    run.journal.write_text("broken\n")
    page = page_of(run)
    assert "merge.json in the run" in page
    assert "journal.jsonl in the run" in page
    assert MEMORY in page


def test_report_and_summary_are_for_their_owner_only(run: RunFolder) -> None:
    path = report.write_report(fill(run))
    assert path == run.report
    assert [stat.S_IMODE(p.stat().st_mode) for p in (run.report, run.summary)] == [0o600, 0o600]


def test_the_page_needs_nothing_but_itself(run: RunFolder) -> None:
    page = page_of(fill(run, until="rollback"))
    checker = check_page(page)
    assert all(link.startswith("#") for link in checker.links)
    assert "<script" not in page
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


# ---- the sentence at the top ---------------------------------------------------------------------


def standing_of(run: RunFolder) -> tuple[Standing, str, str]:
    account = accounts.load_account(run)
    steps = " ".join(f"{s.text} {s.command}" for s in standings.next_steps(account))
    return standings.standing(account), standings.headline(account), steps


@pytest.mark.parametrize(
    ("until", "changes", "standing", "says", "advises"),
    [
        pytest.param("merge", {}, Standing.STOPPED, "no verdict yet from validation", "resume", id="stopped"),
        pytest.param("benchmark", {}, Standing.OPEN, "All three gates are open", "status", id="open"),
        pytest.param(
            "validate",
            {"valid": False},
            Standing.CLOSED,
            "rowid 3 missing",
            "dry-run",
            id="closed-by-validation",
        ),
        pytest.param(
            "suites", {"broken": True}, Standing.CLOSED, "The suites gate", "tests", id="closed-by-a-test"
        ),
        pytest.param(
            "benchmark", {"slow": 1.4}, Standing.CLOSED, "chat turn", "slower", id="closed-by-slowness"
        ),
        pytest.param("cutover", {}, Standing.SWITCHED, "proven equal", "rollback", id="switched"),
        pytest.param("archive", {}, Standing.ARCHIVED, "are archived", "rollback", id="archived"),
        pytest.param("rollback", {}, Standing.ROLLED_BACK, "43 changes", "run", id="rolled-back"),
    ],
)
def test_the_first_sentence_tells_where_the_run_stands(
    run: RunFolder, until: str, changes: dict[str, object], standing: Standing, says: str, advises: str
) -> None:
    found, sentence, steps = standing_of(fill(run, until=until, **changes))  # type: ignore[arg-type]
    assert found is standing
    assert says in sentence
    assert advises in steps


@pytest.mark.parametrize(
    ("lines", "until", "standing"),
    [
        pytest.param(
            ["begin"], "benchmark", Standing.INTERRUPTED, id="killed-midway-is-not-nothing-switched"
        ),
        pytest.param(["begin", "undone"], "benchmark", Standing.UNDONE, id="undone"),
        pytest.param(["begin"], "cutover", Standing.SWITCHED, id="record-beats-intent"),
        pytest.param(["begin", "switched"], "cutover", Standing.SWITCHED, id="switched"),
    ],
)
def test_the_journal_outranks_the_gates(
    run: RunFolder, lines: list[str], until: str, standing: Standing
) -> None:
    fill(run, until=until)
    journal = Journal(run)
    for status in lines:
        journal.write("cutover", status)
    found, sentence, _ = standing_of(run)
    assert found is standing
    if standing is Standing.INTERRUPTED:
        assert "othing was switched" not in sentence


def test_a_rollback_that_broke_off_is_not_called_switched(run: RunFolder) -> None:
    fill(run)
    Journal(run).write("rollback", "begin")
    assert standing_of(run)[0] is Standing.INTERRUPTED


def test_a_run_that_failed_says_why(run: RunFolder) -> None:
    fill(run, until="plan")
    Journal(run).write("run", "failed", reason=f"a writer held {APP} for 5 s")
    assert f"after the plan: a writer held {APP} for 5 s." in standing_of(run)[1]


def test_a_switched_run_that_failed_before_its_archive_can_go_on(run: RunFolder) -> None:
    fill(run, until="cutover")
    Journal(run).write("run", "failed", reason="no space left for the archive")
    found, _, steps = standing_of(run)
    assert found is Standing.SWITCHED
    assert f"unify-db resume {run.name}" in steps


def test_a_slow_tail_is_named_as_the_reason(run: RunFolder) -> None:
    evidence, _ = make_benchmark()
    tail = finding(
        "slowest responses (95th percentile)", "ping, 8 at a time", "at most 1.50x", "1.61x", passed=False
    )
    run.save("evidence-benchmark", evidence)
    run.save("verdict-benchmark", Verdict(gate=GateName.BENCHMARK, findings=(tail,)))
    times = criteria.criteria(accounts.load_account(run))[3]
    assert times.passed is False
    assert "slowest responses (95th percentile) of ping, 8 at a time: 1.61x" in times.measured


def test_a_result_that_its_interval_does_not_explain_is_explained(run: RunFolder) -> None:
    evidence, _ = make_benchmark()
    noisy = evidence.latencies[0].model_copy(update={"high": 1.6})
    small = noisy.model_copy(update={"after_ms": noisy.before_ms + 0.5})
    run.save("evidence-benchmark", evidence.model_copy(update={"latencies": (noisy,)}))
    account = accounts.load_account(run)
    assert criteria.within(account, noisy)
    assert criteria.why(account, noisy) == "not slower, though the interval is wide"
    assert criteria.why(account, small) == "0.50 ms slower, less than the 1 ms that count"
    assert "though the interval is wide</p>" in page_of(run)


def test_files_are_named_from_the_root_of_the_application(run: RunFolder) -> None:
    fill(run)
    assert "| `backend/scripts/backup.sh` |" in phase_pages.phase_markdown("archive", run)


def test_a_dry_run_says_that_it_is_one(run: RunFolder) -> None:
    fill(run, until="benchmark")
    Journal(run).write("run", "begin", dry_run=True)
    _, sentence, steps = standing_of(run)
    assert "dry run" in sentence
    assert "unify-db run" in steps


def test_collisions_are_the_reason_where_there_are_some(run: RunFolder) -> None:
    clash = Collision(
        name="checkpoints",
        definitions=(
            (APP, "CREATE TABLE checkpoints (id)"),
            (MEMORY, "CREATE TABLE checkpoints (thread_id)"),
        ),
        ways_out="rename the application's table",
    )
    run.save("plan", make_plan(collisions=(clash,)))
    assert "cannot be merged as they are" in standing_of(run)[1]
    assert "rename the application" in page_of(run)
    assert "## Collisions" in phase_pages.phase_markdown("plan", run)


# ---- what the plan asks for ----------------------------------------------------------------------


def test_the_six_criteria_and_five_metrics_are_all_there_and_pass(run: RunFolder) -> None:
    account = accounts.load_account(fill(run))
    assert [c.passed for c in criteria.criteria(account)] == [True] * 6
    assert [c.passed for c in criteria.metrics(account)] == [True] * 5
    measured = [c.measured for c in criteria.criteria(account)]
    assert measured[1] == "unit: 54 of 54"
    assert measured[2] == "integration: 14 of 15"


def test_conversations_that_do_not_go_on_fail_the_criterion_of_langgraph(run: RunFolder) -> None:
    fill(run)
    verdict = run.load("verdict-benchmark", Verdict)
    assert verdict is not None
    lost = finding("conversations begun before go on", "chat", "equal answers", "1 differs", passed=False)
    run.save("verdict-benchmark", verdict.model_copy(update={"findings": (*verdict.findings, lost)}))
    failed = [c for c in criteria.criteria(accounts.load_account(run)) if c.passed is False]
    assert [c.name for c in failed] == ["LangGraph checkpoint operations work correctly"]
    assert failed[0].measured.endswith("conversations begun before: 1 of 1 check failed")


def test_the_criterion_of_logs_follows_the_gate(run: RunFolder) -> None:
    fill(run)
    verdict = run.load("verdict-benchmark", Verdict)
    assert verdict is not None
    noisy = finding("errors in the application's log", "staged servers", "no more than 0", "3", passed=False)
    others = tuple(f for f in verdict.findings if f.check != noisy.check)
    run.save("verdict-benchmark", verdict.model_copy(update={"findings": (*others, noisy)}))
    failed = [c for c in criteria.criteria(accounts.load_account(run)) if c.passed is False]
    assert [(c.name, c.required) for c in failed] == [("No errors in application logs", "no more than 0")]


def test_all_eleven_stand_in_the_json_answer_with_required_and_measured(run: RunFolder) -> None:
    facts = answers.criteria_facts(fill(run))
    assert [len(facts["criteria"]), len(facts["metrics"])] == [6, 5]
    for one in (*facts["criteria"], *facts["metrics"]):
        assert one["required"]
        assert one["measured"]
        assert one["passed"] is True


def test_what_was_not_measured_is_neither_passed_nor_failed(run: RunFolder) -> None:
    account = accounts.load_account(fill(run, until="merge"))
    assert {c.passed for c in criteria.criteria(account)} == {None}
    assert [c.passed for c in criteria.metrics(account)] == [True, None, None, None, None]


def test_a_slow_endpoint_fails_the_criterion_of_times_alone(run: RunFolder) -> None:
    account = accounts.load_account(fill(run, until="benchmark", slow=1.4))
    assert [c.passed for c in criteria.criteria(account)] == [True, True, True, False, True, True]


def test_a_broken_test_fails_the_criterion_of_its_own_suite(run: RunFolder) -> None:
    account = accounts.load_account(fill(run, until="benchmark", broken=True))
    assert [c.passed for c in criteria.criteria(account)] == [True, True, False, True, True, True]


def test_the_limit_is_the_one_of_this_run(run: RunFolder) -> None:
    run.config.write_text("[benchmark]\nmax_ratio = 1.25\nmin_diff_ms = 0.5\n")
    assert accounts.load_account(run).limits == accounts.Limits(max_ratio=1.25, min_diff_ms=0.5)


def test_a_test_that_the_gate_found_unsteady_is_not_called_broken(run: RunFolder) -> None:
    evidence, verdict = make_suites()
    flaky = evidence.tests[3].model_copy(update={"after": "failed", "standing": "flaky"})
    run.save("evidence-suites", evidence.model_copy(update={"tests": (flaky,)}))
    run.save("verdict-suites", verdict)
    found = accounts.sort_tests(accounts.load_account(run))
    assert (found.broken, found.unsteady) == ([], [flaky])


def test_newly_failing_tests_show_both_sides_and_suites_the_files_they_opened(run: RunFolder) -> None:
    evidence, verdict = make_suites(broken=True)
    files = (
        SuiteFiles(suite="unit", before=("in memory",), after=("in memory",), unified=False),
        SuiteFiles(suite="integration", before=(APP, MEMORY), after=("data/unified.sqlite",), unified=True),
    )
    run.save("evidence-suites", evidence.model_copy(update={"files": files}))
    run.save("verdict-suites", verdict)
    account = accounts.load_account(run)
    unit, integration = tables.suites(account).plain()
    assert (unit["newly failing"], integration["newly failing"]) == ("0", "1")
    assert unit["opened after"] == "in memory: proves nothing about the move"
    assert (integration["opened before"], integration["opened after"]) == (
        f"{APP}, {MEMORY}",
        "data/unified.sqlite",
    )
    (lost,) = tables.compared_tests(accounts.sort_tests(account).broken, "").plain()
    assert lost["on the old files"] == "passed; 5 of 5 reruns passed"
    assert lost["on the unified file"].startswith("failed: ")
    assert "database is locked" in lost["on the unified file"]
    for shown in (report.render_html(account), report.phase_markdown("suites", run)):
        assert "proves nothing about the move" in shown
        assert "5 of 5 reruns passed" in shown
        assert "Newly failing: closes the gate" in shown


def test_the_timeline_takes_its_seconds_from_journal_and_records(run: RunFolder) -> None:
    fill(run, until="suites")
    with Journal(run).phase("plan"):
        pass
    with pytest.raises(ValueError, match="no"), Journal(run).phase("benchmark"):
        raise ValueError("no")
    spans = {s.phase: s for s in accounts.timeline(accounts.load_account(run))}
    assert spans["suites"].seconds == pytest.approx(31.4)
    assert spans["plan"].seconds is not None
    assert not spans["benchmark"].ended


# ---- nothing that must not be seen ---------------------------------------------------------------


def everything(run: RunFolder) -> str:
    pages = [page_of(run), run.summary.read_text(), report.summary_markdown(run)]
    pages += [phase_pages.phase_markdown(p, run) for p in PHASES]
    plan = run.load("plan", MigrationPlan)
    return "\n".join([*pages, schema_page.schema_markdown(plan) if plan else ""])


SECRETS = (
    "postgresql://admin:PLANTED-pa/ss@w@db.example/app",
    "git+https://PLANTEDTOKEN@git.example/unify-db",
    "sk-PLANTED0123456789abcdef",
    "Authorization: Bearer PLANTED.abc.def",
    "https://api.example/v1?api_key=PLANTED77&x=1",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_every_kind_of_secret_is_masked(secret: str) -> None:
    assert "PLANTED" not in wording.mask(f"({secret})")


def test_a_secret_in_any_record_shows_up_nowhere(run: RunFolder) -> None:
    secret = " ".join(SECRETS)
    fill(run, until="rollback", broken=True)
    plan = make_plan(
        missing=(f"a handle: {secret}",),
        versions={"unify-db": secret},
        collisions=(
            Collision(name="x", definitions=((APP, f"CREATE TABLE x -- {secret}"),), ways_out=secret),
        ),
    )
    edit = plan.edits[1].model_copy(update={"diff": f"+VALUE = '{secret}'\n", "summary": secret})
    facts = plan.sources[0].model_copy(update={"handles": (f"12 python {secret}",)})
    run.save("plan", plan.model_copy(update={"edits": (edit,), "sources": (facts,)}))
    run.save(
        "verdict-validation",
        Verdict(gate=GateName.VALIDATION, findings=(finding(secret, secret, secret, secret, passed=False),)),
    )
    evidence, _ = make_benchmark()
    odd = evidence.latencies[0].model_copy(update={"name": f"GET {secret}"})
    run.save("evidence-benchmark", evidence.model_copy(update={"latencies": (odd,)}))
    run.save("archive", make_archive().model_copy(update={"mentions": (f"deploy.sh:3 {secret}",)}))
    assert "PLANTED" not in _with_pictures(everything(run))


def _with_pictures(text: str) -> str:
    pictures = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    return text + "".join(base64.b64decode(p).decode() for p in pictures)


def test_values_that_a_failed_test_compared_are_hidden_and_its_reason_is_not(run: RunFolder) -> None:
    fill(run, until="suites", broken=True)
    shown = everything(run)
    assert "PLANTED" not in shown
    assert "database is locked" in shown
    assert "tests/api/test_chat.py:41" in shown


def test_a_dotenv_diff_shows_the_values_of_changed_keys_only() -> None:
    diff = (
        "--- a/.env\n+++ b/.env\n@@ -1 +1 @@\n OTHER=hidden1\n # OLD=hidden2\n"
        "-DATABASE_URL=sqlite:///a\n+DATABASE_URL=sqlite:///b\n+API_TOKEN=hidden3\n export X = hidden4"
    )
    masked = wording.mask_dotenv_diff(diff)
    assert "hidden" not in masked
    assert "+DATABASE_URL=sqlite:///b" in masked
    assert " OTHER=•••" in masked


@pytest.mark.parametrize(
    "harmless",
    [
        "sqlite:////srv/app/data/unified.sqlite",
        "sqlite+aiosqlite:///C:/data/app.db",
        "git+https://github.com/example/unify-db@main",
        "git+ssh://git@github.com/example/unify-db",
        "http://127.0.0.1:8000/ping?page=2",
        "CREATE INDEX pk_conversations_by_owner ON conversations (owner)",
    ],
)
def test_what_is_no_secret_stays_readable(harmless: str) -> None:
    assert wording.mask(harmless) == harmless


HOSTILE = "<img src=x onerror=alert(1)>|`*_[x](javascript:1)\n# heading"


def test_names_cannot_break_out_of_html_or_tables(run: RunFolder) -> None:
    fill(run)
    facts = make_sources()[0]
    odd = TableFacts(name=HOSTILE, source=HOSTILE, rows=1)
    source = facts.model_copy(update={"label": HOSTILE, "tables": (odd,), "objects": (make_table(HOSTILE),)})
    run.save("plan", make_plan(sources=(source,), missing=(HOSTILE,)))
    run.save("merge", make_unified().model_copy(update={"tables": (odd,)}))
    page = page_of(run)
    check_page(page)
    assert "<img" not in page
    text = phase_pages.phase_markdown("merge", run)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {5}
    assert "\n# heading" not in text


# ---- Markdown, tables, schema, pictures ----------------------------------------------------------


def test_the_summary_has_a_sentence_verdicts_a_picture_and_the_next_step(run: RunFolder) -> None:
    text = report.summary_markdown(fill(run))
    assert text.startswith("# The application runs on unified")
    assert "| validation | ✓\u00a0open |" in text
    assert f"unify-db rollback {run.name}" in text
    picture = re.search(r"!\[[^]]+\]\((data:image/svg\+xml;base64,([^)]+))\)", text)
    assert picture is not None
    assert len(picture[1]) < 100_000
    svg = ET.fromstring(base64.b64decode(picture[2]))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_huge_run_still_fits_into_an_artifact(run: RunFolder) -> None:
    many = tuple(
        finding("every row and cell", f"app: table_{i}" * 20, "1 row", "x" * 900) for i in range(1200)
    )
    run.save("verdict-validation", Verdict(gate=GateName.VALIDATION, findings=many))
    tests = tuple(
        TestOutcome(suite="unit", test=f"test_{i}" * 9, before="passed", after="failed", detail="E\n" * 900)
        for i in range(900)
    )
    run.save("evidence-suites", SuitesEvidence(tests=tests, counts=(("unit", "900 passed", "900 failed"),)))
    run.save("verdict-suites", Verdict(gate=GateName.SUITES, findings=many[:1]))
    assert "1,000 more rows" in phase_pages.phase_markdown("validate", run)
    assert len(phase_pages.phase_markdown("suites", run).encode()) < 300_000
    assert len(markdown.bound("line ä\n" * 90_000).encode()) < 300_000


def test_a_table_of_checks_has_the_failed_ones_first(run: RunFolder) -> None:
    account = accounts.load_account(fill(run, until="validate", valid=False))
    findings = account.verdicts[GateName.VALIDATION].findings
    assert tables.findings(findings, "validation").plain()[0] == {
        "check": "every row and cell",
        "where": f"{APP}: users",
        "required": "3 rows, equal",
        "measured": "2 rows, rowid 3 missing",
        "result": "✗ failed",
    }


def test_a_cut_table_says_what_is_missing() -> None:
    content = tables.places([f"f{i}" for i in range(5)], "Files", "file")
    assert markdown.table(content, limit=2).splitlines()[2:] == [
        "| `f0` |",
        "| `f1` |",
        "",
        "3 more rows in the run's report.html.",
    ]


def test_the_schema_names_every_object_with_its_source_and_definition() -> None:
    text = schema_page.schema_markdown(make_plan())
    for expected in (
        "Renames: none",
        "CREATE TABLE messages",
        "CREATE INDEX ix_messages_conversation",
        "CREATE VIEW recent",
        "AUTOINCREMENT counter at 4812",
        "`sqlite_autoindex_checkpoints_1`: made by SQLite",
    ):
        assert expected in text
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert len(links) == len(ROWS) + len(MEMORY_ROWS) + 1
    assert links == set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"before_sample_ms": (), "after_sample_ms": ()}, id="no-samples"),
        pytest.param({"before_sample_ms": (2.0,) * 50, "after_sample_ms": (2.0,) * 50}, id="all-alike"),
        pytest.param({"low": 0.0, "high": 40.0, "ratio": 12.0}, id="far-off-the-axis"),
        pytest.param(
            {"before_ms": 0.0, "after_ms": 0.0, "before_p95_ms": 0.0, "after_p95_ms": 0.0}, id="zeros"
        ),
        pytest.param({"after_sample_ms": (2.0,) * 99 + (9000.0,)}, id="one-outlier"),
    ],
)
def test_odd_measurements_still_make_a_figure(changes: dict[str, object]) -> None:
    latency = make_latency("chat <turn>", 8, 2.0).model_copy(update=changes)
    svg = plots.picture([latency], 1.10)
    ET.fromstring(svg)
    assert "nan" not in svg
    places = [float(x) for x in re.findall(r'\bx[12]?="(-?[\d.]+)"', svg)]
    assert max(places) <= 2 * plots.WIDTH + 40


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.format_bytes(999), "999 bytes"),
        (wording.format_bytes(15_626_240), "14.9 MiB"),
        (wording.format_bytes(1_048_000), "1.00 MiB"),
        (wording.format_ms(0.8432), "0.84 ms"),
        (wording.format_ms(340.4), "340 ms"),
        (wording.format_ms(2140), "2.1 s"),
        (wording.format_seconds(0.012), "12.0 ms"),
        (wording.format_seconds(59.6), "1 min 0 s"),
        (wording.format_seconds(3725), "1 h 2 min"),
        (wording.format_change(1.034), "3 % slower"),
        (wording.format_change(0.9), "10 % faster"),
        (wording.format_change(1.001), "the same"),
        (wording.format_ratio(float("nan")), "not known"),
        (wording.format_bounds(0.974, 1.052), "0.97 to 1.05"),
        (wording.format_bounds(2e-7, 5_184_705.0), "bounds not known"),
        (wording.format_bounds(float("nan"), float("nan")), "bounds not known"),
        (wording.format_noise(1.0, 0.87, 1.15), "noise of 15 %"),
        (wording.format_noise(1.0, 2e-7, 5_184_705.0), "noise not known"),
        (wording.count(1, "row"), "1 row"),
        (wording.count(4812, "row"), "4,812 rows"),
        (wording.join_words(["a", "b", "c"]), "a, b and c"),
        (wording.join_words([]), ""),
    ],
)
def test_numbers_read_as_people_write_them(shown: str, expected: str) -> None:
    assert shown == expected


# ---- colours -------------------------------------------------------------------------------------


def palettes() -> list[dict[str, str]]:
    css = (Path(report.__file__).parent / "templates/report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in (light, dark)]
    return [found[0], {**found[0], **found[1]}]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours given as #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(palette: dict[str, str]) -> None:
    pairs = [
        (ink, ground) for ink in ("ink", "mute", "link") for ground in ("paper", "ground", "code-ground")
    ]
    pairs += [(tone, f"{tone}-ground") for tone in ("good", "bad", "warn", "neutral")]
    pairs += [(ink, ground) for ink in ("ink", "mute") for ground in ("bad-ground", "good-ground")]
    poor = {
        pair: round(contrast(palette[pair[0]], palette[pair[1]]), 2)
        for pair in pairs
        if contrast(palette[pair[0]], palette[pair[1]]) < 4.5
    }
    assert poor == {}
    strokes = [("before", "before-ground"), ("after", "paper"), ("before", "paper"), ("bad", "paper")]
    assert min(contrast(palette[a], palette[b]) for a, b in strokes) >= 3
