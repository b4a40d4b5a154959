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
    assert "unit: tests/check_notes.py::test_knows_its_file" in failed_places(verdict)
    (broken,) = [t for t in evidence.tests if (t.before, t.after) == ("passed", "failed")]
    assert "AssertionError" in broken.detail
    kept = [p.read_text() for p in notes.root.glob(".unify-db/runs/*/suites/*")]
    assert len(kept) == 2 * (2 + 5)
    assert any("***" in text for text in kept)
    assert "planted-secret" not in evidence.model_dump_json() + "".join(kept)


def test_a_test_that_is_skipped_on_the_unified_file_closes_the_gate(notes):
    (notes.root / "skips").write_text("")
    _, verdict = run_suites(notes)
    assert "unit: tests/check_notes.py::test_present" in failed_places(verdict)


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
        pytest.param({"command": "{python} -m nose {junit}"}, "No module named", id="not-installed"),
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


OPENS = "import sqlite3, settings; path = settings.database_path(); sqlite3.connect(path).close(); "


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        pytest.param("", True, id="green"),
        pytest.param("raise SystemExit(path.name == 'unified.db')", False, id="red-after"),
    ],
)
def test_without_junit_the_exit_code_is_the_one_test(notes, code, passed):
    evidence, verdict = run_suites(notes, command=f'{{python}} -c "{OPENS}{code}"')
    assert [t.test for t in evidence.tests] == ["(exit code)"]
    assert verdict.passed == passed


WRITES = ".execute('CREATE TABLE stray (x)')"


@pytest.mark.parametrize("act", [pytest.param(WRITES, id="writes"), pytest.param(".close()", id="a-moment")])
def test_a_suite_that_opens_a_real_file_closes_the_gate(notes, act):
    code = f"{OPENS}sqlite3.connect({str(notes.database)!r}){act}"
    _, verdict = run_suites(notes, command=f'{{python}} -c "{code}"')
    assert failed_places(verdict) == ["data/notes.db"]
    assert "opened by process" in verdict.failures[0].measured or act == WRITES


# ---- what a test that passed may do on the unified file -------------------------------------------

PLANTED = """
import os, signal, sqlite3, time
from contextlib import closing
from pathlib import Path
import pytest
from settings import database_path

UNIFIED = database_path().name == "unified.db"
OUTSIDE = Path(__file__).parents[3]


def test_opens():
    with closing(sqlite3.connect(database_path())) as connection:
        connection.execute("SELECT 1 FROM notes").fetchall()


def turn():
    # Outside of the trees that are made anew: how often this was called in all.
    counted = OUTSIDE / "turns"
    number = len(counted.read_text()) if counted.exists() else 0
    counted.write_text("x" * (number + 1))
    return number
"""
PLANTED_ALONE = {"command": "{python} -m pytest tests/check_planted.py -q --junitxml {junit}"}


def plant(notes, code, **suite):
    """Run a file with *code* in it as the one suite."""
    (notes.root / "tests" / "check_planted.py").write_text(PLANTED + code)
    return run_suites(notes, **{**PLANTED_ALONE, **suite})


def outcomes(evidence):
    return {t.test.split("::")[-1]: (t.before, t.after, t.standing) for t in evidence.tests}


def junit_files(notes):
    """The kept JUnit files with how many tests each has."""
    kept = sorted(notes.root.glob(".unify-db/runs/*/suites/*.xml"))
    return {path.stem: path.read_text().count("<testcase") for path in kept}


WORSE = """
@pytest.fixture
def breaks_down():
    assert not UNIFIED
    yield

@pytest.fixture
def cannot_clear_up():
    yield
    assert not UNIFIED

def test_fails(): assert not UNIFIED
def test_errs(breaks_down): pass
def test_errs_at_teardown(cannot_clear_up): pass
def test_fails_and_errs(cannot_clear_up): assert not UNIFIED
def test_is_skipped():
    if UNIFIED: pytest.skip("not on this one")
def test_is_xfailed():
    if UNIFIED: pytest.xfail("known")
@pytest.mark.xfail(UNIFIED, reason="known")
def test_is_marked_xfail(): assert not UNIFIED
if not UNIFIED:
    def test_is_gone(): pass

def test_stays_red(): assert False
def test_is_mended(): assert UNIFIED
@pytest.mark.xfail(reason="known")
def test_stays_xfailed(): assert False
@pytest.mark.skip
def test_stays_skipped(): pass
@pytest.mark.skipif(not UNIFIED, reason="later")
def test_fails_where_it_was_skipped(): assert False
@pytest.mark.xfail(not UNIFIED, reason="known")
def test_fails_where_it_was_xfailed(): assert False
if UNIFIED:
    def test_is_new_and_fails(): assert False
    def test_is_new_and_passes(): pass
"""


def test_whatever_a_test_does_on_the_unified_file_alone_but_pass_closes_the_gate(notes):
    evidence, verdict = plant(notes, WORSE)
    assert outcomes(evidence) == {
        "test_opens": ("passed", "passed", "open"),
        "test_fails": ("passed", "failed", "closes"),
        "test_errs": ("passed", "error", "closes"),
        "test_errs_at_teardown": ("passed", "error", "closes"),
        "test_fails_and_errs": ("passed", "error", "closes"),
        "test_is_skipped": ("passed", "skipped", "closes"),
        "test_is_xfailed": ("passed", "xfailed", "closes"),
        "test_is_marked_xfail": ("passed", "xfailed", "closes"),
        "test_is_gone": ("passed", "absent", "closes"),
        "test_stays_red": ("failed", "failed", "open"),
        "test_is_mended": ("failed", "passed", "open"),
        "test_stays_xfailed": ("xfailed", "xfailed", "open"),
        "test_stays_skipped": ("skipped", "skipped", "open"),
        "test_fails_where_it_was_skipped": ("skipped", "failed", "closes"),
        "test_fails_where_it_was_xfailed": ("xfailed", "failed", "closes"),
        "test_is_new_and_fails": ("absent", "failed", "closes"),
        "test_is_new_and_passes": ("absent", "passed", "open"),
    }
    closing = {f.where.split("::")[-1] for f in verdict.failures if "::" in f.where}
    assert closing == {test for test, (*_, standing) in outcomes(evidence).items() if standing == "closes"}


# ---- run again -----------------------------------------------------------------------------------

LOCKS_ONCE = """
def test_locked_now_and_then():
    with closing(sqlite3.connect(database_path(), isolation_level=None)) as one:
        if UNIFIED and turn() == 0:
            one.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(database_path(), timeout=0)) as other, other:
            other.execute("INSERT INTO notes (text) VALUES ('late')")
"""


def test_a_lock_that_only_the_unified_file_has_closes_however_rarely_it_comes(notes):
    """The test fails in the first run on the unified file, and would never fail again."""
    evidence, verdict = plant(notes, LOCKS_ONCE)
    (locked,) = [t for t in evidence.tests if t.standing == "closes"]
    assert (locked.before, locked.after) == ("passed", "failed")
    assert "database is locked" in locked.detail
    assert locked.again == "5 of 5 reruns passed"
    assert verdict.sentence() == (
        "suites: closed: test passes as it did before at "
        "unit: tests/check_planted.py::test_locked_now_and_then: required passed, measured "
        "failed (sqlite3.OperationalError: database is locked); on the old files 5 of 5 reruns passed "
        "(and 1 more)"
    )
    assert junit_files(notes) == {
        "1-unit-before": 2,
        "1-unit-after": 2,
        **{f"1-unit-before-{n}": 1 for n in range(1, 6)},
    }


UNSTEADY = """
@pytest.mark.parametrize("word", ["a/b::c[é]", "x y", ""])
class TestOdd:
    def test_is_unsteady(self, word):
        if word != "x y":
            return
        assert turn() % 2 == 0, "coin"
"""


def test_a_test_that_fails_on_the_old_files_too_is_flaky_and_only_it_is_run_again(notes):
    evidence, verdict = plant(notes, UNSTEADY)
    assert verdict.passed, verdict.sentence()
    (flaky,) = [t for t in evidence.tests if t.standing == "flaky"]
    assert flaky.test.endswith("TestOdd::test_is_unsteady[x y]")
    assert "coin" in flaky.again_detail
    reruns = {name: count for name, count in junit_files(notes).items() if name[-1].isdigit()}
    assert reruns == {"1-unit-before-1": 1, "1-unit-before-2": 1}


ODD_NAMES = """
@pytest.mark.parametrize("word", ["a/b::c[é]", "x\\ny", "\\0", "😀", ""])
def test_odd(word):
    number = turn()
    # Passes with the old files, fails with the unified ones, then passes and fails for each word.
    assert number < 5 or 10 <= number < 15
"""


def test_a_test_is_found_again_whatever_its_name(notes):
    evidence, verdict = plant(notes, ODD_NAMES)
    assert [t.standing for t in evidence.tests] == ["open"] + ["flaky"] * 5
    assert verdict.passed, verdict.sentence()
    assert junit_files(notes)["1-unit-before-2"] == 5


NEEDS_A_NEIGHBOUR = """
READY = []
def test_prepares(): READY.append(1)
def test_goes_on():
    assert READY, "not prepared"
    assert not UNIFIED, "lost on the unified file"
"""


def test_a_test_that_cannot_run_alone_is_not_taken_for_flaky(notes):
    evidence, verdict = plant(notes, NEEDS_A_NEIGHBOUR)
    assert outcomes(evidence)["test_goes_on"] == ("passed", "failed", "closes")
    assert not verdict.passed
    assert [junit_files(notes)[f"1-unit-before-{n}"] for n in range(1, 6)] == [1, 1, 3, 3, 3]


FLAKY_FOR_ANOTHER_REASON = (
    LOCKS_ONCE
    + """
    if not UNIFIED and (OUTSIDE / "turns").exists():
        assert turn() % 2, "a clock that goes wrong"
"""
)


def test_a_lock_is_not_excused_by_another_failure_on_the_old_files(notes):
    evidence, verdict = plant(notes, FLAKY_FOR_ANOTHER_REASON)
    (locked,) = [t for t in evidence.tests if t.standing == "closes"]
    assert locked.again == "3 of 5 reruns passed"
    assert "a clock" in locked.again_detail
    assert not verdict.passed


RETRIES = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    # As a rerun plugin does: a failure is told as "rerun", then the test is run once more.
    if call.when == "call" and call.excinfo:
        from _pytest.reports import TestReport
        report = TestReport.from_item_and_call(item, call)
        report.outcome = "rerun"
        item.ihook.pytest_runtest_logreport(report=report)
        call.excinfo = None
"""


def test_a_failure_that_the_suites_own_retries_hide_closes_the_gate(notes):
    (notes.root / "tests" / "conftest.py").write_text(RETRIES)
    evidence, verdict = plant(notes, "def test_mended_by_a_retry(): assert not UNIFIED")
    assert outcomes(evidence)["test_mended_by_a_retry"] == ("passed", "passed on retry", "closes")
    assert not verdict.passed


def test_a_suite_on_several_cores_is_run_again_test_by_test_too(notes):
    command = f"{PLANTED_ALONE['command']} -p xdist -n 2"
    evidence, verdict = plant(notes, UNSTEADY, command=command)
    assert [t.standing for t in evidence.tests].count("flaky") == 1
    assert verdict.passed, verdict.sentence()
    assert junit_files(notes)["1-unit-before-1"] == 1


# Another runner: it writes JUnit, and cannot be asked for a single test.
OWN_RUNNER = """
import sys
from pathlib import Path
from settings import database_path
import sqlite3
sqlite3.connect(database_path()).execute("SELECT 1 FROM notes").fetchall()
counted = Path(__file__).parents[2] / "turns"
number = len(counted.read_text()) if counted.exists() else 0
counted.write_text("x" * (number + 1))
bad = {condition}
told = '<failure message="x"/>' if bad else ""
cases = f'<testcase name="a"/><testcase name="b">{told}</testcase>'
Path(sys.argv[1]).write_text(f"<testsuite>{cases}</testsuite>")
sys.exit(bad)
"""


@pytest.mark.parametrize(
    ("condition", "standing", "runs"),
    [
        pytest.param("number in (1, 4)", "flaky", 5, id="fails-on-the-old-files-in-the-third-rerun"),
        pytest.param("number == 1", "closes", 7, id="fails-on-the-unified-file-alone"),
    ],
)
def test_with_another_runner_the_whole_suite_is_run_again(notes, condition, standing, runs):
    (notes.root / "run.py").write_text(OWN_RUNNER.replace("{condition}", condition))
    evidence, verdict = run_suites(notes, command="{python} run.py {junit}")
    assert [t.standing for t in evidence.tests] == ["open", standing]
    assert verdict.passed == (standing == "flaky")
    assert junit_files(notes) == dict.fromkeys(junit_files(notes), 2)
    assert len(junit_files(notes)) == runs


# ---- which database files a suite opens -----------------------------------------------------------

IN_A_FILE_OF_ITS_OWN = """
import sqlite3
def test_own(tmp_path):
    sqlite3.connect(tmp_path / "mine.db").execute("CREATE TABLE t (x)")
    sqlite3.connect(":memory:").close()
"""
OWN_FILE = {"name": "own", "command": "{python} -m pytest check_own.py -q --junitxml {junit}"}
NOT_FOLLOWED = "{python} -I -c \"import sqlite3; sqlite3.connect('{file}').execute('SELECT 1 FROM notes')\""


def findings_of(verdict, check):
    return [f for f in verdict.findings if f.check == check]


def test_a_suite_that_never_opens_the_unified_file_is_shown_as_proving_nothing(notes):
    (notes.root / "check_own.py").write_text(IN_A_FILE_OF_ITS_OWN)
    notes.settings["suite"] = [UNIT, OWN_FILE]
    evidence, verdict = run_suites(notes)
    assert verdict.passed, verdict.sentence()
    unit, own = evidence.files
    assert (unit.before, unit.after, unit.unified) == (("data/notes.db",), ("data/unified.db",), True)
    assert own.after == ("1 temporary file of its own", "in memory")
    assert own.before == own.after
    assert not own.unified
    shown = findings_of(verdict, "which database files the suite opens")
    assert "proves nothing" not in shown[0].measured
    assert "proves nothing about the move, since it never opened data/unified.db" in shown[1].measured


def test_suites_none_of_which_opens_the_unified_file_do_not_open_the_gate(notes):
    (notes.root / "check_own.py").write_text(IN_A_FILE_OF_ITS_OWN)
    notes.settings["suite"] = [OWN_FILE]
    _, verdict = run_suites(notes)
    assert failed_places(verdict) == ["all suites"]
    assert "prove nothing about the move to data/unified.db" in verdict.failures[0].measured


def test_a_suite_that_the_switch_does_not_reach_closes_the_gate(notes):
    """It makes itself a new, empty database instead, in which all of its tests pass."""
    code = "from pathlib import Path; old = Path('data/notes.db'); new = Path('data/new.db'); "
    code += "import sqlite3; sqlite3.connect(old if old.stat().st_size > 200 else new).close()"
    _, verdict = run_suites(notes, command=f'{{python}} -c "{code}"')
    (finding,) = findings_of(verdict, "suite follows the switch to the unified file")
    assert finding.required == "opens data/unified.db, having opened data/notes.db before"
    assert finding.measured == "opened data/new.db"


def test_a_suite_of_a_program_that_cannot_be_followed_is_seen_opening_files(notes):
    command = NOT_FOLLOWED.replace("{file}", "data/unified.db")
    evidence, _ = run_suites(notes, command=command)
    assert evidence.files[0].after == ("data/unified.db",)
    assert evidence.files[0].unified


# ---- suites that break off ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "timeout_s", "problem"),
    [
        pytest.param("time.sleep(60)", 8, "ended after 8 s", id="hangs"),
        pytest.param("os.kill(os.getpid(), 9)", 60, "ended by signal 9, no JUnit file", id="kills-itself"),
        pytest.param("os._exit(0)", 60, "exit code 0, no JUnit file", id="leaves-early"),
    ],
)
def test_a_suite_that_breaks_off_on_the_unified_file_closes_and_names_the_test(
    notes, act, timeout_s, problem
):
    code = f"def test_last():\n    if UNIFIED: {act}"
    _, verdict = plant(notes, code, timeout_s=timeout_s)
    first = next(f for f in verdict.failures if f.check.startswith("suite runs to its end"))
    assert first.check == "suite runs to its end on the unified file"
    assert first.measured == f"{problem}, during tests/check_planted.py::test_last"
    assert not [f for f in verdict.failures if "::" in f.where]


CUTS_ITS_FILE = """
import pathlib, subprocess, sys
from settings import database_path
path = pathlib.Path(sys.argv[1])
subprocess.run([sys.executable, "-m", "pytest", "tests", "-q", "--junitxml", str(path)])
if database_path().name == "unified.db":
    path.write_bytes(path.read_bytes()[:-40])
"""


def test_a_junit_file_that_is_cut_off_closes_the_gate(notes):
    (notes.root / "run.py").write_text(CUTS_ITS_FILE)
    _, verdict = run_suites(notes, command="{python} run.py {junit}")
    assert "its JUnit file cannot be read" in verdict.failures[0].measured
    assert verdict.failures[0].check == "suite runs to its end on the unified file"


ENDS_WORSE = """
import atexit
atexit.register(lambda: os._exit(7) if UNIFIED else None)
"""


def test_an_end_that_is_worse_though_no_test_is_closes_the_gate(notes):
    _, verdict = plant(notes, ENDS_WORSE)
    assert [f.check for f in verdict.failures] == ["suite ends well as it did before"]


# ---- names ---------------------------------------------------------------------------------------


def test_tests_that_junit_gives_one_name_are_told_apart(notes):
    folder = notes.root / "tests" / "check_planted"
    folder.mkdir()
    (folder / "check_B.py").write_text("def test_x(): assert False")
    (notes.root / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\npython_files = check_*.py\npython_classes = check_*\n"
        "addopts = --import-mode=importlib\n"
    )
    code = "class check_B:\n    def test_x(self): assert not UNIFIED"
    command = "{python} -m pytest tests/check_planted.py tests/check_planted -q --junitxml {junit}"
    evidence, _ = plant(notes, code, command=command)
    both = {t.test: (t.before, t.after) for t in evidence.tests if t.test.endswith("test_x")}
    assert both == {
        "tests/check_planted.py::check_B::test_x": ("passed", "failed"),
        "tests/check_planted/check_B.py::test_x": ("failed", "failed"),
    }


def test_suites_of_like_names_with_the_same_tests_are_kept_apart(notes):
    names = ["a b", "a_b", "../" + "long" * 80]
    (notes.root / "breaks").write_text("")
    notes.settings["suite"] = [{**UNIT, "name": name} for name in names]
    evidence, _ = run_suites(notes)
    assert len({(t.suite, t.test) for t in evidence.tests}) == len(evidence.tests) == 18
    assert [t.suite for t in evidence.tests if t.standing == "closes"] == names
    assert len(junit_files(notes)) == 3 * (2 + 5)
