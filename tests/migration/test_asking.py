"""Where the values of a request come from, how they are filled in, and what an answer must hold."""

import json
import shutil
import sqlite3
from contextlib import closing
from random import Random

import pytest

from tests.migration.notes_application import NotesApplication
from unified_db.errors import ConfigError
from unified_db.migration import asking, benchmark, plan, report, stage
from unified_db.migration.asking import ask
from unified_db.migration.config import RequestConfig
from unified_db.migration.runs import create_run

SECRET = "SECRET-value/of a row?&"
VALUES = "SELECT id, text FROM notes"


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path, benchmark={"budget_s": 30, "request": []})


def request(**values):
    return RequestConfig.model_validate({"name": "a", "path": "/", **values})


def config_with(notes, **values):
    notes.settings["benchmark"]["request"] = [{"name": "note", "path": "/notes/{id}", **values}]
    return notes.config()


def test_a_value_is_encoded_in_the_path_and_keeps_its_type_in_the_body():
    row = {"id": 7, "text": SECRET, "nothing": None}
    asked = ask(
        request(
            method="POST",
            path="/x/{text}?n={id}",
            body={"id": "{id}", "both": ["{id}: {text}"], "none": "{nothing}", "other": "{unknown}"},
            values=VALUES,
        ),
        [row],
    )
    assert asked.path == "/x/SECRET-value%2Fof%20a%20row%3F%26?n=7"
    assert json.loads(asked.body) == {"id": 7, "both": [f"7: {SECRET}"], "none": None, "other": "{unknown}"}


def test_a_value_that_looks_like_a_column_is_not_filled_in_again():
    assert ask(request(path="/{a}", values=VALUES), [{"a": "{b}", "b": "x"}]).path == "/%7Bb%7D"


def test_each_request_is_a_fresh_one_and_its_parts_agree():
    wanted = request(path="/{uuid}", method="PUT", body={"id": "{uuid}"}, expect_text="{uuid}", changes=True)
    first, second = ask(wanted), ask(wanted)
    assert first.path != second.path
    assert first.path == "/" + json.loads(first.body)["id"] == "/" + first.expect_text


def test_all_rows_are_taken_in_the_end():
    rows, random = [{"id": n} for n in range(5)], Random(1)
    taken = {ask(request(path="/{id}", values=VALUES), rows, random=random).path for _ in range(200)}
    assert taken == {f"/{n}" for n in range(5)}


NO_TEXT, NO_JSON = "answer without the expected text", "answer without the expected JSON"


@pytest.mark.parametrize(
    ("status", "answer", "problem"),
    [
        pytest.param(200, '{"a": {"b": 1, "c": 2}, "l": [{"x": "yes"}]}', "", id="as-expected"),
        pytest.param(201, '{"a": {"b": 1}, "l": [{"x": "yes"}]}', "status 201", id="another-status"),
        pytest.param(200, '{"a": {"b": 1}, "l": [{"x": "no"}]}', NO_TEXT, id="no-text"),
        pytest.param(200, "yes", NO_JSON, id="no-json"),
        pytest.param(200, '{"a": {"b": true}, "l": [{"x": "yes"}]}', NO_JSON, id="true-is-not-1"),
        pytest.param(200, '{"a": {}, "l": [{"x": "yes"}]}', NO_JSON, id="key-gone"),
        pytest.param(200, '{"a": {"b": 1}, "l": [{}, "yes"]}', NO_JSON, id="longer"),
    ],
)
def test_an_answer_is_good_when_it_holds_what_is_expected(status, answer, problem):
    asked = ask(request(expect_text="yes", expect_json={"a": {"b": 1}, "l": [{}]}))
    assert asked.problem(status, answer.encode()) == problem


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"path": "/{id}"}, "needs `values`", id="column-without-a-query"),
        pytest.param({"changes": True}, "needs {uuid}", id="a-change-of-what-is-there"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_with_the_configuration(notes, values, said):
    with pytest.raises(ConfigError, match=said):
        config_with(notes, **{"path": "/", **values})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param("DELETE FROM notes", "more than read", id="deletes"),
        pytest.param("INSERT INTO notes (text) VALUES ('x') RETURNING id", "more than read", id="inserts"),
        pytest.param("PRAGMA user_version = 3", "more than read", id="pragma"),
        pytest.param("ATTACH 'made.db' AS made", "more than read", id="attaches"),
        pytest.param("VACUUM INTO 'made.db'", "more than read", id="makes-a-file"),
        pytest.param("SELECT id FROM notes; DELETE FROM notes", "one statement", id="two-statements"),
        pytest.param("SELECT id FROM letters", "no such table: letters", id="no-such-table"),
        pytest.param("SELEC id", "syntax error", id="no-sql"),
        pytest.param("SELECT id FROM notes WHERE 0", "data/notes.db: no rows", id="no-rows"),
        pytest.param("SELECT text FROM notes", r"\{id\} is none of its columns", id="column-missing"),
        pytest.param("SELECT count(*) AS n FROM notes", "filled in nowhere", id="column-unused"),
        pytest.param("SELECT NULL AS id FROM notes", "NULL", id="null-in-a-path"),
        pytest.param("SELECT x'00' AS id FROM notes", "BLOB", id="blob"),
        pytest.param("SELECT CAST(x'ff' AS TEXT) AS id FROM notes", "UTF-8", id="no-utf-8"),
    ],
)
def test_a_query_that_gives_no_values_is_refused_in_the_plan(notes, tmp_path, monkeypatch, query, said):
    monkeypatch.chdir(tmp_path)
    config = config_with(notes, values=query, path="/{id}/{text}" if "text" in query else "/{id}")
    before = notes.database.read_bytes()
    with pytest.raises(ConfigError, match=said) as refused:
        plan.make_plan(config, create_run(config.state_folder))
    assert refused.value.exit_code == 2
    assert "Mend it in unify.toml" in refused.value.hint
    assert notes.database.read_bytes() == before
    assert not (tmp_path / "made.db").exists()


def test_a_query_without_end_is_ended(notes, monkeypatch):
    monkeypatch.setattr(asking, "_QUERY_TIMEOUT_S", 0.2)
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT max(id) AS id FROM n"
    config = config_with(notes, values=endless)
    with pytest.raises(ConfigError, match=r"longer than 0\.2 s"):
        asking.read_sources(config, create_run(config.state_folder))


def test_values_come_from_the_source_that_has_the_table(notes, tmp_path):
    other = notes.root / "data" / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE places (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO places (name) VALUES (?)", (SECRET,))
    notes.settings["source"] = [{"path": "data/notes.db"}, {"path": "data/other.db"}]
    config = config_with(notes, values="SELECT name AS id FROM places")
    assert asking.read_sources(config, create_run(config.state_folder)) == {"note": ({"id": SECRET},)}


def test_no_more_rows_are_taken_than_stated(notes):
    with closing(sqlite3.connect(notes.database)) as connection, connection:
        connection.executemany("INSERT INTO notes (text) VALUES (?)", [("x",)] * asking.MAX_ROWS)
    config = config_with(notes, values=VALUES)
    found = asking.read_sources(config, create_run(config.state_folder))
    assert len(found["note"]) == asking.MAX_ROWS


def test_values_reach_both_sides_and_neither_evidence_nor_report(notes, monkeypatch, caplog):
    """The server answers with the text that the path names, so an expected text proves that it got there."""
    caplog.set_level("DEBUG")
    monkeypatch.setattr("unified_db.migration.measuring._PHASE_LIMITS_S", (0.1, 0.1))
    with closing(sqlite3.connect(notes.database)) as connection, connection:
        connection.execute("UPDATE notes SET text = ? || id", (SECRET,))
    notes.settings["benchmark"]["min_diff_ms"] = 1000
    config_with(
        notes, path="/echo?text={text}", values=VALUES, expect_text="{text}", expect_json={"text": "{text}"}
    )
    config, run, backups, unified = notes.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    evidence, verdict = benchmark.run_benchmark(config, stages, backups, unified, run)
    assert verdict.passed, verdict.sentence()
    assert (evidence.before_errors, evidence.after_errors) == (0, 0)
    run.save("evidence-benchmark", evidence)
    run.save("verdict-benchmark", verdict)
    report.write_report(run)
    shutil.rmtree(run.stage)
    holding = [p for p in run.path.rglob("*") if p.is_file() and b"SECRET" in p.read_bytes()]
    assert {p.name for p in holding} == {"notes.db", "unified.sqlite"}
    assert "SECRET" not in caplog.text
