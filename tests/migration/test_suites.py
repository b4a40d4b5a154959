import pytest

from tests.migration.notes_application import UNIT, NotesApplication
from unified_db.migration import stage, suites


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path)


def run_suites(notes, **suite):
    if suite:
        notes.settings["suite"] = [{**UNIT, **suite}]
    config, run, backups, unified = notes.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    return suites.run_suites(config, stages, run)


def failed_places(verdict):
    return [f.where for f in verdict.failures]


def test_tests_that_stay_green_open_the_gate_and_a_red_one_may_stay_red(notes):
    evidence, verdict = run_suites(notes)
    assert verdict.passed, verdict.sentence()
    assert ("5 of 5", "5 of 5") in [(f.required, f.measured) for f in verdict.findings]
    assert evidence.counts == (("unit", "5 passed, 1 failed", "5 passed, 1 failed"),)
    assert len(evidence.tests) == 6


def test_a_test_that_breaks_on_the_unified_file_closes_the_gate_by_name_and_without_secrets(notes):
    (notes.root / "breaks").write_text("")
    evidence, verdict = run_suites(notes)
    assert "unit: tests.check_notes::test_knows_its_file" in failed_places(verdict)
    (broken,) = [t for t in evidence.tests if (t.before, t.after) == ("passed", "failed")]
    assert "AssertionError" in broken.detail
    assert "planted-secret" not in evidence.model_dump_json()


def test_a_test_that_is_skipped_on_the_unified_file_closes_the_gate(notes):
    (notes.root / "skips").write_text("")
    _, verdict = run_suites(notes)
    assert "unit: tests.check_notes::test_present" in failed_places(verdict)


def test_a_test_that_also_fails_on_the_old_files_when_run_again_is_flaky_and_closes_nothing(notes):
    (notes.root / "flaky").write_text("")
    _, verdict = run_suites(notes)
    assert verdict.passed, verdict.sentence()
    assert any("flaky" in f.measured for f in verdict.findings)


NOTHING_SELECTED = "{python} -m pytest tests -q -k nothing --junitxml {junit}"
SLEEPS = "{python} -c 'import time; time.sleep(60)'"


@pytest.mark.parametrize(
    ("suite", "measured"),
    [
        pytest.param({"command": NOTHING_SELECTED}, "no test", id="no-test"),
        pytest.param({"command": SLEEPS, "timeout_s": 0.5}, "ended after 0.5 s", id="timeout"),
        pytest.param({"command": "{python} -c pass {junit}"}, "no JUnit file", id="no-junit-file"),
        pytest.param({"command": "{python} -c 'raise SystemExit(1)'"}, "1 failed", id="red-before"),
    ],
)
def test_a_suite_that_proves_nothing_closes_the_gate(notes, suite, measured):
    _, verdict = run_suites(notes, **suite)
    assert not verdict.passed
    assert measured in verdict.failures[0].measured


def test_no_suite_is_no_pass(notes):
    notes.settings["suite"] = []
    _, verdict = run_suites(notes)
    assert not verdict.passed


CHECKS_FILE = "import os, sys; sys.exit(os.path.exists('data/unified.db'))"


@pytest.mark.parametrize(
    ("code", "passed"),
    [pytest.param("pass", True, id="green"), pytest.param(CHECKS_FILE, False, id="red-after")],
)
def test_without_junit_the_exit_code_is_the_one_test(notes, code, passed):
    evidence, verdict = run_suites(notes, command=f'{{python}} -c "{code}"')
    assert [t.test for t in evidence.tests] == ["(exit code)"]
    assert verdict.passed == passed


def test_a_suite_that_opens_a_real_file_closes_the_gate(notes):
    code = f"import sqlite3; sqlite3.connect({str(notes.database)!r}).execute('CREATE TABLE stray (x)')"
    _, verdict = run_suites(notes, command=f'{{python}} -c "{code}"')
    assert failed_places(verdict) == ["data/notes.db"]


JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="a.TestB" name="test_c[1]"/>
<testcase classname="a" name="twice"/>
<testcase classname="a" name="twice"><error message="at teardown">trace</error></testcase>
<testcase classname="a" name="expected"><skipped type="pytest.xfail" message="known"/></testcase>
<testcase name="bare"><failure message="assert 1 == 2">line one

line two hush-hush</failure></testcase>
</testsuite></testsuites>"""


def test_junit_is_read_test_by_test(tmp_path):
    (tmp_path / "junit.xml").write_text(JUNIT)
    read = suites.parse_junit(tmp_path / "junit.xml", secrets=["hush-hush"])
    assert read.outcomes == {
        "a.TestB::test_c[1]": "passed",
        "a::twice": "passed",
        "a::twice (2)": "error",
        "a::expected": "skipped",
        "bare": "failed",
    }
    assert read.details["bare"] == "assert 1 == 2\nline one\nline two ***"
    assert read.summary() == "2 passed, 1 failed, 1 error, 1 skipped"
