import tracemalloc
import xml.etree.ElementTree as ET

import pytest

from unified_db.migration import junit
from unified_db.migration.junit import read_junit

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="a.TestB" name="test_c[1]"/>
<testcase classname="a" name="twice"/>
<testcase classname="a" name="twice"><error message="at teardown">trace</error></testcase>
<testcase classname="a" name="expected"><skipped type="pytest.xfail" message="known"/></testcase>
<testcase classname="a" name="left out"><skipped type="pytest.skip" message="not here"/></testcase>
<testcase name="bare"><failure message="assert 1 == 2">line one

line two hush-hush</failure><system-out>printed</system-out></testcase>
</testsuite></testsuites>"""


def read(tmp_path, content, **options):
    path = tmp_path / "junit.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_junit(path, **options)


def test_secrets_are_hidden_in_ids_and_the_node_id_is_kept_to_run_it_again(tmp_path):
    cases = read(tmp_path, whole(one_case("", node="m.py::a[hush-hush]")), secrets=["hush-hush"])
    assert list(cases) == ["m.py::a[***]"]
    assert cases["m.py::a[***]"].node == "m.py::a[hush-hush]"


def outcomes(cases):
    return {test: case.outcome for test, case in cases.items()}


def one_case(inside, *, name="a", node=""):
    told = f'<properties><property name="unify_db_node" value="{node}"/></properties>' if node else ""
    return f'<testcase classname="m" name="{name}">{told}{inside}</testcase>'


def whole(*cases):
    return f"<testsuite>{''.join(cases)}</testsuite>"


def test_a_file_is_read_test_by_test(tmp_path):
    cases = read(tmp_path, JUNIT, secrets=["hush-hush"])
    assert outcomes(cases) == {
        "a.TestB::test_c[1]": "passed",
        "a::twice": "passed",
        "a::twice (2)": "error",
        "a::expected": "xfailed",
        "a::left out": "skipped",
        "bare": "failed",
    }
    assert cases["bare"].detail == "assert 1 == 2\nline one\nline two ***"


def test_one_name_of_two_nodes_is_two_tests_in_whatever_order(tmp_path):
    first, second = one_case("", node="m/a.py::a"), one_case("<failure/>", node="m.py::a")
    expected = {"m/a.py::a": "passed", "m.py::a": "failed"}
    assert outcomes(read(tmp_path, whole(first, second))) == expected
    assert outcomes(read(tmp_path, whole(second, first))) == expected


@pytest.mark.parametrize(
    "node", [pytest.param("m.py::a", id="named-twice"), pytest.param("", id="named-once")]
)
def test_a_failure_and_the_error_at_its_teardown_are_one_test(tmp_path, node):
    cases = whole(
        one_case('<failure message="database is locked"/>', node=node), one_case("<error/>", node="m.py::a")
    )
    found = read(tmp_path, cases)
    assert outcomes(found) == {"m.py::a": "error"}
    assert found["m.py::a"].complaints == {"database is locked"}


@pytest.mark.parametrize("tag", ["flakyFailure", "flakyError"])
def test_a_test_that_its_runner_tried_again_has_not_simply_passed(tmp_path, tag):
    found = read(tmp_path, whole(one_case(f'<{tag} message="database table is locked"/>')))
    assert outcomes(found) == {"m::a": "passed on retry"}
    assert found["m::a"].complaints == {"database table is locked"}


def test_a_failure_that_retries_did_not_mend_is_a_failure(tmp_path):
    cases = whole(one_case("<failure/><rerunFailure/>"))
    assert outcomes(read(tmp_path, cases)) == {"m::a": "failed"}


ODD = '<failure message="&#27;[31mred&#x0;">{}\x1b[0m\x00 end</failure>'


@pytest.mark.parametrize("before", [0, 65_490, 65_500, 65_510, 65_520, 65_530])
def test_characters_that_no_xml_may_hold_are_read_over_wherever_they_lie(tmp_path, before):
    cases = whole(f"<!--{'x' * before}-->", one_case(ODD.format("&amp;&lt;é")), one_case("", name="b"))
    found = read(tmp_path, cases)
    assert outcomes(found) == {"m::a": "failed", "m::b": "passed"}
    assert found["m::a"].detail == "\ufffd[31mred\ufffd\n&<é\ufffd[0m\ufffd end"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", pytest.param("no-such", id="unknown")]
)
def test_the_declared_encoding_is_read(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>' + whole(one_case("", name="é"))
    content = text.encode("utf-8" if encoding == "no-such" else encoding)
    assert list(read(tmp_path, content)) == ["m::é"]


def test_bytes_that_are_no_text_are_read_over(tmp_path):
    assert (
        len(read(tmp_path, whole(one_case("<system-out>X</system-out>")).encode().replace(b"X", b"\xff\xfe")))
        == 1
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(JUNIT[:-30], id="cut-off"),
        pytest.param(JUNIT[:200], id="cut-off-in-a-tag"),
        pytest.param("no xml", id="no-xml"),
        pytest.param(whole() + "&#", id="cut-off-in-a-reference"),
    ],
)
def test_what_is_not_whole_is_an_error(tmp_path, content):
    with pytest.raises(ET.ParseError):
        read(tmp_path, content)


def test_what_tests_print_is_not_kept_in_memory(tmp_path):
    flood = "all work and no play\n" * 500_000
    content = whole(one_case(f"<system-out>{flood}</system-out><failure>{flood}</failure>"))
    (tmp_path / "junit.xml").write_text(content)
    size = len(content)
    del content
    tracemalloc.start()
    found = read_junit(tmp_path / "junit.xml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20_000_000
    assert peak < 4_000_000
    assert len(found["m::a"].detail.splitlines()) == 12


def test_namespaces_and_nested_suites_are_read(tmp_path):
    content = (
        f'<testsuites xmlns="urn:junit"><testsuite>{whole(one_case("<error/>"))}</testsuite></testsuites>'
    )
    assert outcomes(read(tmp_path, content)) == {"m::a": "error"}


def test_sqlites_words_are_found_in_what_a_failure_says():
    text = "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked\nNo such table: t"
    assert junit.complaints_of(text) == {"database is locked", "no such table"}
    assert junit.complaints_of("assert 3 == 4") == frozenset()
