"""LangGraph's operations, timed by pytest-benchmark in a process of the application's interpreter."""

import json
import sqlite3
import sys
from contextlib import closing

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from tests.migration.notes_application import NotesApplication
from unified_db.migration import benchmark, operations, report, stage
from unified_db.migration.load import Tally
from unified_db.migration.operations import Operations, Place, savers_of

STOCK, OURS = "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver", "unified_db.UnifiedAsyncSqliteSaver"
SYNC_STOCK, SYNC_OURS = "langgraph.checkpoint.sqlite.SqliteSaver", "unified_db.UnifiedSqliteSaver"
FOUR = {"put", "get", "list", "resume"}
# In turns of a few rounds each, as operations_suite has them.
COUNT = 30


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path)


@pytest.fixture
def places(tmp_path):
    paths = [tmp_path / "old.sqlite", tmp_path / "unified.sqlite"]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            SqliteSaver(connection).setup()
    return paths


def made(notes):
    config, run, backups, unified = notes.rehearse()
    return Operations(config, stage.stage_trees(config, run, backups, unified), run)


def measure(found, before, after):
    tally = Tally()
    found.measure(before, after, tally, block="block-01", seed=1)
    return tally


@pytest.mark.parametrize(
    ("stock", "ours"),
    [pytest.param(STOCK, OURS, id="async"), pytest.param(SYNC_STOCK, SYNC_OURS, id="sync")],
)
def test_operations_are_timed_on_both_files_and_their_json_is_kept(notes, places, stock, ours):
    found = made(notes)
    tally = measure(found, Place(stock, places[0]), Place(ours, places[1]))
    assert not tally.errors
    assert {name: (len(b.before), len(b.after)) for (name, _), b in tally.blocks()} == dict.fromkeys(
        FOUR, (COUNT, COUNT)
    )
    assert found.said.startswith("pytest-benchmark 5")
    assert found.said.endswith("in the application's interpreter")
    (kept,) = found.files
    content = json.loads(kept.read_bytes())
    assert content["machine_info"]["python_version"]
    assert {b["extra_info"]["operation"] for b in content["benchmarks"]} == FOUR


def test_an_operation_that_fails_on_one_file_is_an_error_of_that_side(notes, places):
    places[1].write_bytes(b"not a database, but long enough to be looked at" * 50)
    tally = measure(made(notes), Place(STOCK, places[0]), Place(OURS, places[1]))
    assert tally.error_count("before") == 0
    assert {(side, name) for side, name, _ in tally.errors} == {("after", name) for name in FOUR}
    assert len([b for b in tally.times.values() if len(b) == COUNT]) == len(FOUR)


def test_an_operation_that_never_ends_is_ended(notes, places, monkeypatch):
    monkeypatch.setattr(operations, "TIMEOUT_S", 2.0)
    with closing(sqlite3.connect(places[1], isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        tally = measure(made(notes), Place(STOCK, places[0]), Place(OURS, places[1]))
    assert dict(tally.errors) == {("after", "LangGraph operations", "not ended after 2 s"): 1}


def test_options_meant_for_the_applications_own_tests_do_not_count(notes, places, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only -p no:benchmark")
    (notes.root / "conftest.py").write_text("raise SystemExit('not this one')")
    tally = measure(made(notes), Place(STOCK, places[0]), Place(STOCK, places[1]))
    assert not tally.errors
    assert len(dict(tally.blocks())) == len(FOUR)


def test_without_pytest_benchmark_in_the_application_our_interpreter_measures_and_says_so(notes, places):
    python = notes.root / "python"
    # Stands for an environment without the package: everything else of the interpreter is there.
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *pytest_benchmark*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    notes.settings["app"] = {"start": "{python} server.py {port}", "ready": "/ping", "python": "python"}
    found = made(notes)
    assert "unify-db's own interpreter, since the application's cannot import pytest_benchmark" in found.said
    assert not found.in_application
    tally = measure(found, Place(STOCK, places[0]), Place(OURS, places[1]))
    assert not tally.errors
    assert len(dict(tally.blocks())) == len(FOUR)


def test_the_saver_that_the_switch_puts_in_is_the_one_that_is_measured(notes):
    assert savers_of(notes.config()) == (STOCK, OURS)
    edit = {"file": "server.py", "kind": "python-import", "old": SYNC_STOCK, "new": SYNC_OURS}
    notes.settings["edit"] = [edit]
    assert savers_of(notes.config()) == (SYNC_STOCK, SYNC_OURS)


def rehearse_checkpoints(notes, **app):
    """The benchmark's evidence and verdict on an application without a server."""
    with closing(sqlite3.connect(notes.database)) as connection:
        SqliteSaver(connection).setup()
    notes.settings["source"] = [{"path": "data/notes.db", "kind": "checkpoints"}]
    notes.settings["app"] = app
    notes.settings["benchmark"] = {"budget_s": 120, "min_diff_ms": 1000}
    config, run, backups, unified = notes.rehearse()
    item = backups.items[0].model_copy(update={"kind": "checkpoints"})
    backups = backups.model_copy(update={"items": (item,)})
    stages = stage.stage_trees(config, run, backups, unified)
    return run, *benchmark.run_benchmark(config, stages, backups, unified, run)


def test_a_finding_says_when_our_interpreter_has_measured(notes, monkeypatch):
    own = Operations._probe
    monkeypatch.setattr(
        Operations, "_probe", lambda self, python: "" if python.name == "theirs" else own(self, python)
    )
    (notes.root / "theirs").symlink_to(sys.executable)
    _, evidence, verdict = rehearse_checkpoints(notes, python="theirs")
    assert verdict.passed, verdict.sentence()
    timed = [f for f in verdict.findings if f.check == "LangGraph operation time"]
    assert len(timed) == 4
    assert all(f.measured.endswith("in unify-db's own interpreter") for f in timed)
    assert "pip install pytest-benchmark" in evidence.operations_by


def test_the_gate_has_them_with_a_control_and_the_report_links_their_json(notes):
    run, evidence, verdict = rehearse_checkpoints(notes, python=sys.executable)
    assert verdict.passed, verdict.sentence()
    assert {o.name for o in evidence.operations} == {o.name for o in evidence.control_operations} == FOUR
    assert all((run.path / name).is_file() for name in evidence.operations_files)
    run.save("evidence-benchmark", evidence)
    run.save("verdict-benchmark", verdict)
    page = report.write_report(run).read_text()
    assert 'href="benchmark/operations/block-01.json"' in page
    assert "old against old" in page
    assert evidence.control_said in page
    assert evidence.control_said in run.summary.read_text()
