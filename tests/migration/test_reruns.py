import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_db.migration.junit import Case
from unified_db.migration.reruns import Reruns

LOCKED = frozenset({"database is locked"})


def case(outcome, complaints=frozenset()):
    return None if outcome == "absent" else Case("m::a", outcome=outcome, complaints=complaints)


def reran(alone=(), whole=(), *, suspect="failed", complaints=frozenset()):
    return Reruns(case(suspect, complaints), alone=tuple(map(case, alone)), whole=tuple(map(case, whole)))


P, F, E = "passed", "failed", "error"


@pytest.mark.parametrize(
    ("alone", "whole", "flaky"),
    [
        pytest.param([], [], False, id="nothing-was-run"),
        pytest.param([P, P, P, P, P], [], False, id="never-fails-on-the-old-files"),
        pytest.param([P, F], [], True, id="passes-and-fails-alone"),
        pytest.param([F, P], [], True, id="fails-and-passes-alone"),
        pytest.param([F, F], [], False, id="may-need-its-neighbours"),
        pytest.param([F, F], [P, P, P], False, id="needs-its-neighbours"),
        pytest.param([F, F], [P, E], True, id="fails-in-the-whole-suite-too"),
        pytest.param(["absent", F], [], False, id="did-not-run"),
        pytest.param(["skipped", F], [], False, id="a-skip-is-no-pass"),
        pytest.param([P, "passed on retry"], [], False, id="a-retry-that-passes-is-less-than-a-failure"),
    ],
)
def test_flaky_is_what_fails_on_the_old_files_under_the_conditions_in_which_it_also_passes(
    alone, whole, flaky
):
    assert reran(alone, whole).flaky == flaky


def test_a_lock_on_the_unified_file_is_not_excused_by_another_failure_on_the_old_files():
    one = reran([P, F], complaints=LOCKED)
    assert not one.flaky
    assert Reruns(one.suspect, alone=(case(P), case(F, LOCKED))).flaky


def test_a_test_that_passes_on_retry_is_flaky_where_it_needs_retries_on_the_old_files_too():
    assert not reran([P, P], suspect="passed on retry").flaky
    assert reran([P, "passed on retry"], suspect="passed on retry").flaky


@given(st.lists(st.sampled_from([P, "skipped", "xfailed", "absent"]), max_size=5), st.booleans())
def test_no_test_is_flaky_that_never_failed_on_the_old_files(outcomes, alone):
    assert not (reran(outcomes) if alone else reran([], outcomes)).flaky


@given(st.lists(st.sampled_from([F, E, "skipped", "absent"]), min_size=1, max_size=5))
def test_what_never_passes_alone_is_run_with_the_others(outcomes):
    one = reran(outcomes)
    assert one.needs_others
    assert not one.flaky


def test_what_the_reruns_showed_is_said():
    assert reran([P] * 5).sentence() == "5 of 5 reruns passed"
    assert (
        reran([F, F], [P, F]).sentence() == "0 of 2 reruns passed and 1 of 2 reruns passed in the whole suite"
    )
