import contextlib
import random
import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.migration.notes_application import NotesApplication
from unified_db.errors import ServerError
from unified_db.migration import benchmark, stage
from unified_db.migration.asking import ask
from unified_db.migration.config import RequestConfig
from unified_db.migration.judging import Judgements
from unified_db.migration.load import Client, Load, Tally
from unified_db.migration.measuring import Bench

NOTES = {"name": "notes", "path": "/notes"}
PING = {"name": "ping", "path": "/ping"}
ADD = {
    "name": "add",
    "method": "POST",
    "path": "/notes",
    "body": {"text": "note {uuid}"},
    "expect_status": 201,
    "changes": True,
}


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path, benchmark={"budget_s": 30, "request": [NOTES]})


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """What is planted here is coarse, so few requests show it."""
    monkeypatch.setattr("unified_db.migration.measuring._PHASE_LIMITS_S", (0.1, 0.1))


@pytest.fixture
def whatever_the_speed(notes, monkeypatch):
    """No time decides, so that a machine with other work to do is as good, and few blocks are enough."""
    notes.settings["benchmark"]["min_diff_ms"] = 60_000.0
    monkeypatch.setattr("unified_db.migration.measuring.CONTROL_BLOCKS", 1)


def run_benchmark(notes, **planted):
    """Benchmark *notes*, with files beside its server on the switched side that make something go wrong."""
    config, run, backups, unified = notes.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    for name, content in planted.items():
        (stages.after / name).write_text(content)
    return benchmark.run_benchmark(config, stages, backups, unified, run)


def failed_checks(verdict):
    return {f.check for f in verdict.failures}


@pytest.mark.usefixtures("whatever_the_speed")
def test_two_equal_sides_open_the_gate(notes):
    notes.settings["benchmark"]["request"] = [NOTES, ADD, PING]
    evidence, verdict = run_benchmark(notes)
    assert verdict.passed, verdict.sentence()
    assert {(c.name, c.concurrency) for c in evidence.control} == {
        (found.name, found.concurrency) for found in evidence.latencies
    }
    assert "old files against old files" in evidence.control_said
    assert {(found.name, found.concurrency) for found in evidence.latencies} == {
        (name, concurrency) for name in ("notes", "add", "ping") for concurrency in (1, 8)
    }
    assert evidence.restart_ms > 0
    assert evidence.before_rss_bytes > 1_000_000
    assert (evidence.before_errors, evidence.after_errors) == (0, 0)


def test_one_endpoint_that_is_half_slower_closes_the_gate(notes):
    evidence, verdict = run_benchmark(notes, slow="30")
    assert "response time" in failed_checks(verdict), verdict.sentence()
    assert max(found.ratio for found in evidence.latencies) > 1.3


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        pytest.param("broken", "error rate", id="answers-500"),
        pytest.param("noisy", "errors in the application's log", id="logs-errors"),
        pytest.param("greedy", "peak memory", id="keeps-memory"),
        pytest.param("parent", "peak memory", id="has-a-child-that-keeps-memory"),
        pytest.param("hangs", "error rate", id="never-answers"),
        pytest.param("hangs_at_once", "error rate", id="never-answers-two-at-a-time"),
        pytest.param("other_answer", "error rate", id="answers-something-else"),
    ],
)
@pytest.mark.usefixtures("whatever_the_speed")
def test_what_got_worse_closes_the_gate(notes, monkeypatch, planted, check):
    # Longer than it takes to be let in where eight come at once: a full queue is tried again after a second.
    monkeypatch.setattr("unified_db.migration.load.REQUEST_TIMEOUT_S", 4.0)
    notes.settings["benchmark"]["request"] = [{**NOTES, "expect_json": {"count": 3}}, PING]
    evidence, verdict = run_benchmark(notes, **{planted: "1"})
    assert check in failed_checks(verdict), verdict.sentence()
    assert not evidence.before_errors
    # What was planted on one endpoint is said of that one.
    assert "ping:" not in " ".join(f.measured for f in verdict.failures)


def test_a_server_that_does_not_start_on_the_unified_file_closes_the_gate(notes):
    _, verdict = run_benchmark(notes, **{"server.py": "raise SystemExit('no')"})
    assert failed_checks(verdict) == {"application starts in every block"}


def test_a_server_that_does_not_start_at_all_is_an_error(notes):
    (notes.root / "server.py").write_text("raise SystemExit('no such thing')")
    with pytest.raises(ServerError, match="no such thing"):
        run_benchmark(notes)


def test_a_request_that_is_wrong_already_on_the_old_files_closes_the_gate_at_once(notes):
    notes.settings["benchmark"]["request"] = [{**NOTES, "expect_status": 204}]
    _, verdict = run_benchmark(notes)
    assert verdict.failures[0].measured == "notes: status 200"


def test_a_control_that_is_far_off_is_said_in_words_and_loosens_nothing(notes, monkeypatch, caplog):
    """A machine that makes a difference out of nothing: here the second copy of the old side is slow."""
    caplog.set_level("WARNING")
    monkeypatch.setattr("unified_db.migration.measuring._copy_tree", slow_copy)
    evidence, verdict = run_benchmark(notes, slow="30")
    assert "do not trust a verdict" in evidence.control_said
    assert max(found.ratio for found in evidence.control) > 1.3
    slow = next(f for f in verdict.failures if f.check == "response time")
    assert re.search(r"old against old \d\.\d", slow.measured)
    assert evidence.control_said in caplog.text


def slow_copy(origin, copy):
    shutil.copytree(origin, copy)
    (copy / "slow").write_text("30")


def test_both_sides_begin_with_the_same_rows_after_the_control(notes, monkeypatch):
    """The old side alone writes for the control, and would have more to read than the other."""
    notes.settings["benchmark"] = {"budget_s": 60, "min_diff_ms": 1000, "request": [ADD]}
    counts = []

    def count(bench, pair, number, **_):
        root = pair.roots["before"]
        with closing(sqlite3.connect(root / "data" / "notes.db")) as connection:
            counts.append((pair.name, connection.execute("SELECT count(*) FROM notes").fetchone()[0]))
        return own(bench, pair, number, **_)

    own = Bench._time_block
    monkeypatch.setattr(Bench, "_time_block", count)
    run_benchmark(notes)
    assert [n for name, n in counts if name == "control"][-1] > 3
    assert next(n for name, n in counts if name == "block") == 3


def test_a_control_that_cannot_start_stops_nothing(notes, monkeypatch):
    def broken_copy(origin, copy):
        shutil.copytree(origin, copy)
        (copy / "server.py").write_text("raise SystemExit('no')")

    monkeypatch.setattr("unified_db.migration.measuring._copy_tree", broken_copy)
    notes.settings["benchmark"]["min_diff_ms"] = 1000
    evidence, verdict = run_benchmark(notes)
    assert verdict.passed, verdict.sentence()
    assert "not measured (a second copy of the old application did not start)" in evidence.control_said


def test_no_request_is_no_pass(notes):
    notes.settings["benchmark"]["request"] = []
    _, verdict = run_benchmark(notes)
    assert failed_checks(verdict) == {"something to measure"}


def test_what_cannot_be_decided_in_time_closes_the_gate(notes):
    notes.settings["benchmark"]["budget_s"] = 0.1
    notes.settings["benchmark"]["min_diff_ms"] = 0
    _, verdict = run_benchmark(notes)
    (finding,) = verdict.failures
    assert finding.where == "benchmark.budget_s"
    assert finding.undecided


def test_a_larger_unified_file_closes_the_gate(notes):
    _, _, backups, unified = notes.rehearse()
    grown = unified.model_copy(update={"size_bytes": unified.size_bytes + 100_000})
    evidence = benchmark._collect(benchmark.Measured(), Judgements(), backups, grown, seed=1)
    (finding,) = benchmark._judge_footprint(evidence, has_server=False)
    assert not finding.passed


def test_an_unreachable_server_is_an_error_and_not_a_time():
    answer = Client(9).send(ask(RequestConfig(name="a", path="/")))
    assert answer.problem == "ConnectionRefusedError"


def test_a_load_ends_at_its_deadline():
    requests = [RequestConfig(name="a", path="/")]
    tally = Tally()
    load = Load(requests, {"before": 9, "after": 9}, tally, 1000, random.Random(1), time.monotonic() - 1)
    load.send_one_by_one()
    load.send_at_once(8)
    assert tally.error_count("before") == 1


@contextlib.contextmanager
def recording_server(side, events):
    """A server on a free port that tells of each request when it comes and when it is answered."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            events.append((side, "begun", self.path))
            time.sleep(0.01 if self.path == "/slow" else 0)
            events.append((side, "done", self.path))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def test_both_sides_get_the_same_waves_one_after_the_other():
    """A side that is quick with the slow requests is not asked more of the quick ones at a time."""
    requests = [RequestConfig(name=n, path=f"/{n}") for n in ("slow", "quick")]
    requests.append(RequestConfig(name="other", method="POST", path="/other/{uuid}", changes=True))
    events = []
    with recording_server("before", events) as before, recording_server("after", events) as after:
        ports = {"before": before, "after": after}
        Load(requests, ports, Tally(), 9, random.Random(1), time.monotonic() + 60).send_at_once(4)
    waves = {"before": [], "after": []}
    while events:
        side = events[0][0]
        wave, events = events[:8], events[8:]
        assert {s for s, _, _ in wave} == {side}, "one side at a time, and all answered before the next"
        waves[side].append(sorted(path for _, what, path in wave if what == "begun"))
    assert waves["before"] == waves["after"]
    kinds = [{path.split("/")[1] for path in wave} for wave in waves["before"]]
    assert any({"other", "slow"} <= kind for kind in kinds), "writes and reads are in one wave"
    # Three requests nine times each, filled up to whole waves of four.
    assert [len(wave) for wave in waves["before"]] == [4] * 7
