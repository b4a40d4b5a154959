import contextlib
import random
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from tests.migration.notes_application import NotesApplication
from unified_db.errors import ServerError
from unified_db.migration import benchmark, operations, stage
from unified_db.migration.asking import ask
from unified_db.migration.config import RequestConfig
from unified_db.migration.load import Client, Load, Tally

NOTES = {"name": "notes", "path": "/notes"}
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


def run_benchmark(notes, **planted):
    """Benchmark *notes*, with files beside its server on the switched side that make something go wrong."""
    config, run, backups, unified = notes.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    for name, content in planted.items():
        (stages.after / name).write_text(content)
    return benchmark.run_benchmark(config, stages, backups, unified, run)


def failed_checks(verdict):
    return {f.check for f in verdict.failures}


def test_two_equal_sides_open_the_gate(notes):
    notes.settings["benchmark"]["request"] = [NOTES, ADD, {"name": "ping", "path": "/ping"}]
    evidence, verdict = run_benchmark(notes)
    assert verdict.passed, verdict.sentence()
    assert {(found.name, found.concurrency) for found in evidence.latencies} == {
        (name, concurrency) for name in ("notes", "add", "ping") for concurrency in (1, 8)
    }
    assert evidence.restart_ms > 0
    assert evidence.before_rss_bytes > 1_000_000
    assert (evidence.before_errors, evidence.after_errors) == (0, 0)


def test_one_endpoint_that_is_half_slower_closes_the_gate(notes):
    evidence, verdict = run_benchmark(notes, slow="8")
    assert "response time" in failed_checks(verdict), verdict.sentence()
    assert max(found.ratio for found in evidence.latencies) > 1.3


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        pytest.param("broken", "error rate", id="answers-500"),
        pytest.param("noisy", "errors in the application's log", id="logs-errors"),
        pytest.param("greedy", "peak memory", id="keeps-memory"),
    ],
)
def test_what_got_worse_closes_the_gate(notes, planted, check):
    _, verdict = run_benchmark(notes, **{planted: "1"})
    assert check in failed_checks(verdict), verdict.sentence()


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


def test_no_request_is_no_pass(notes):
    notes.settings["benchmark"]["request"] = []
    _, verdict = run_benchmark(notes)
    assert failed_checks(verdict) == {"something to measure"}


def test_what_cannot_be_decided_in_time_closes_the_gate(notes):
    notes.settings["benchmark"]["budget_s"] = 0.1
    notes.settings["benchmark"]["min_diff_ms"] = 0
    _, verdict = run_benchmark(notes)
    assert not verdict.passed


def test_a_larger_unified_file_closes_the_gate(notes):
    _, _, backups, unified = notes.rehearse()
    grown = unified.model_copy(update={"size_bytes": unified.size_bytes + 100_000})
    evidence = benchmark._collect(benchmark.Measured(), benchmark._Judgements(), backups, grown, seed=1)
    (finding,) = benchmark._judge_footprint(evidence, has_server=False)
    assert not finding.passed


def test_langgraphs_operations_are_measured_on_both_files(tmp_path):
    old, unified = tmp_path / "old.sqlite", tmp_path / "unified.sqlite"
    with closing(sqlite3.connect(old)) as connection:
        SqliteSaver(connection).setup()
    shutil.copyfile(old, unified)
    tally = Tally()
    operations.measure_operations(old, unified, tally, rounds=3, seed=1)
    assert not tally.errors
    assert {name: (len(b.before), len(b.after)) for (name, _), b in tally.blocks()} == dict.fromkeys(
        operations.OPERATIONS, (3, 3)
    )


def test_an_operation_that_fails_on_one_file_is_an_error_of_that_side(tmp_path):
    old, unified = tmp_path / "old.sqlite", tmp_path / "unified.sqlite"
    unified.write_bytes(b"not a database, but long enough to be looked at" * 50)
    tally = Tally()
    operations.measure_operations(old, unified, tally, rounds=1, seed=1)
    assert tally.error_count("before") == 0
    assert tally.error_count("after") > 0


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
    requests = [RequestConfig(name=n, path=f"/{n}") for n in ("slow", "quick", "other")]
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
    # Three requests nine times each, filled up to whole waves of four.
    assert [len(wave) for wave in waves["before"]] == [4] * 7
