"""Conversations go on: real servers on the old file and on the unified one."""

import logging
import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.migration.notes_application import NotesApplication
from unified_db.errors import ConfigError, ServerError
from unified_db.migration import benchmark, continuity, stage, strays
from unified_db.migration.measuring import Bench
from unified_db.migration.plan import make_plan
from unified_db.migration.runs import create_run

SECRET = "SECRET-text"
READ = {"path": "/talk/{thread}"}
SAY = {"method": "POST", "path": "/talk/{thread}", "body": {"text": "more"}}
THREADS = "SELECT DISTINCT thread FROM messages ORDER BY thread"


@pytest.fixture
def talk(tmp_path):
    """An application whose conversations begun before are those of SECRET-a and SECRET-b."""
    notes = NotesApplication.create(tmp_path)
    shutil.copyfile(Path(__file__).parent / "apps" / "talk_server.py", notes.root / "server.py")
    with closing(sqlite3.connect(notes.database)) as connection, connection:
        connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, thread TEXT, text TEXT)")
        rows = [(f"SECRET-{thread}", f"{SECRET} {n}") for thread in "ab" for n in range(3)]
        connection.executemany("INSERT INTO messages (thread, text) VALUES (?, ?)", rows)
    return notes


def go_on(talk, *requests, planted=(), ignore=("asked_at",), values=THREADS):
    """The findings with *requests* as the conversation, and *planted* on the unified side."""
    conversation = {"name": "talk", "values": values, "ignore": ignore, "request": requests}
    talk.settings["continuity"] = [conversation]
    config, run, backups, unified = talk.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    for name in planted:
        (stages.after / name).touch()
    with strays.Guard(config, stages) as guard:
        bench = Bench(config, stages, run, guard=guard, deadline=math.inf)
        return continuity.check_continuity(config, stages, backups, bench.serving)


def test_conversations_that_go_on_alike_are_one_finding_that_says_how_many(talk):
    (finding,) = go_on(talk, READ, SAY, READ)
    assert finding.passed
    assert finding.measured == "6 answers in 2 conversations alike"


@pytest.mark.parametrize(
    ("planted", "request_", "measured"),
    [
        pytest.param("lose", READ, "messages: 2 items instead of 3", id="a-lost-message"),
        pytest.param("shout", READ, "messages[0].text: another value", id="another-text"),
        pytest.param("broken", READ, "status: 500 instead of 200", id="another-status"),
        pytest.param("mute", {"path": "/stream/{thread}"}, "the whole answer: 2 items", id="a-lost-event"),
        pytest.param("shout", {"path": "/stream/{thread}"}, "[0].data.text: another value", id="an-event"),
        pytest.param("shout", {"path": "/by_text/{thread}"}, "*: not there before; *: missing", id="a-key"),
        pytest.param("shout", {"path": "/text/{thread}"}, "another text from line 1 on", id="a-plain-text"),
    ],
)
def test_another_answer_closes_and_its_field_is_named(talk, planted, request_, measured, caplog):
    caplog.set_level(logging.DEBUG, "unified_db")
    (finding,) = go_on(talk, request_, planted=[planted])
    assert not finding.passed
    assert finding.where == "talk, request 1 of 1"
    assert measured in finding.measured
    assert "in 2 conversations" in finding.measured
    assert "SECRET" not in f"{finding}{caplog.text}".upper().replace("SECRETS", "")


def test_a_message_that_is_lost_later_is_named_by_the_request_that_shows_it(talk):
    findings = go_on(talk, SAY, {"path": "/text/{thread}"}, READ, planted=["lose"])
    assert [f.where for f in findings] == [
        "talk, request 1 of 3",
        "talk, request 2 of 3",
        "talk, request 3 of 3",
    ]
    assert findings[0].measured.startswith("count: another value")


def test_what_differs_on_the_old_file_too_proves_nothing_and_does_not_close(talk):
    (finding,) = go_on(talk, {"path": "/luck/{thread}"}, READ, ignore=())
    assert finding.passed
    assert "but for number, asked_at: not comparable, it differs on the old files too" in finding.measured
    assert "`ignore`" in finding.measured


def test_what_differs_on_the_old_file_too_hides_no_lost_message_beside_it(talk):
    (finding,) = go_on(talk, {"path": "/luck/{thread}"}, planted=["lose"], ignore=())
    assert not finding.passed
    assert finding.measured.startswith("messages: 2 items instead of 3, in 2 conversations")


def test_what_is_ignored_is_not_asked_about_twice(talk, monkeypatch):
    asked = []
    send = continuity._send
    monkeypatch.setattr(continuity, "_send", lambda *a: asked.append(a) or send(*a))
    (finding,) = go_on(talk, {"path": "/luck/{thread}"}, ignore=("number",))
    assert finding.passed
    assert len(asked) == 4  # two conversations on two sides


def test_each_side_is_asked_on_fresh_copies(talk):
    """What the old side is asked again would be another answer on the database of the first time."""
    (finding,) = go_on(talk, SAY, {"path": "/luck/{thread}"}, ignore=())
    assert "but for number: not comparable" in finding.measured


def test_a_new_conversation_has_the_same_fresh_name_on_both_sides(talk):
    fresh = {"method": "POST", "path": "/talk/{uuid}", "body": {"text": "hello {uuid}"}}
    read = {"path": "/talk/{uuid}", "expect_json": {"messages": [{"text": "hello {uuid}"}]}}
    (finding,) = go_on(talk, fresh, read, values="")
    assert finding.measured == "2 answers in 1 conversation alike"


def test_a_wrong_answer_on_the_old_file_closes_since_two_wrong_ones_are_equal_too(talk):
    (finding,) = go_on(talk, {**READ, "expect_status": 201})
    assert not finding.passed
    assert (finding.required, finding.measured) == (
        "status 201 and what the configuration expects",
        "status 200",
    )
    assert finding.check == "conversations are answered as expected on the old files"


def test_a_server_that_starts_on_the_old_file_alone_closes(talk, monkeypatch):
    conversation = {"name": "talk", "request": [{"path": "/ping"}]}
    talk.settings["continuity"] = [conversation]
    config, run, backups, unified = talk.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    bench = Bench(config, stages, run, guard=strays.Guard(config, stages), deadline=math.inf)
    (stages.after / "server.py").write_text("raise SystemExit('no')")
    (finding,) = continuity.check_continuity(config, stages, backups, bench.serving)
    assert "exited with code 1" in finding.measured
    (stages.before / "server.py").write_text("raise SystemExit('no')")
    with pytest.raises(ServerError):
        continuity.check_continuity(config, stages, backups, bench.serving)


@pytest.mark.parametrize(
    ("values", "request_", "message"),
    [
        pytest.param("SELECT thread FROM no_such_table", READ, "no such table", id="no-such-table"),
        pytest.param("DELETE FROM messages", READ, "more than read", id="no-select"),
        pytest.param("SELECT thread FROM messages WHERE 0", READ, "no rows", id="no-row"),
        pytest.param(THREADS, {"path": "/talk/{tread}"}, "filled in nowhere", id="no-such-column"),
    ],
)
def test_values_that_cannot_be_had_are_refused(talk, values, request_, message):
    with pytest.raises(ConfigError) as error:
        go_on(talk, request_, values=values)
    assert message in error.value.message
    assert error.value.exit_code == 2
    with pytest.raises(ConfigError) as planned:
        make_plan(talk.config(), create_run(talk.config().state_folder))
    assert planned.value.message == error.value.message


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ({"name": "a", "request": []}, "at least 1 item"),
        ({"name": "a", "request": [{"path": "x"}]}, "begins with /"),
        ({"name": "a", "request": [READ]}, "needs `values`"),
        ({"name": "a", "ignore": ["a..b"], "request": [READ]}, "is no field"),
    ],
)
def test_a_conversation_that_asks_nothing_or_wrongly_is_refused(talk, conversation, message):
    talk.settings["continuity"] = [conversation]
    with pytest.raises(ConfigError, match=message):
        talk.config()


def test_a_server_that_hangs_is_not_asked_for_ever(talk, monkeypatch):
    monkeypatch.setattr(continuity, "_TIMEOUT_S", 3.0)
    sent = []
    send = continuity._send
    monkeypatch.setattr(continuity, "_send", lambda *a: sent.append(a) or send(*a))
    findings = go_on(talk, SAY, SAY, READ, planted=["hang"])
    hung = "problem: ReadTimeout instead of an answer"
    skipped = "problem: not asked after 2 requests without an answer instead of an answer"
    said = [f.measured.partition(",")[0] for f in findings]
    assert said == [f"{hung}; {skipped}", f"{hung}; {skipped}", skipped]
    # Two on the unified side, and all of both conversations at six times on the old side.
    assert len(sent) == 2 + 6 * 6


def test_conversations_without_a_server_to_ask_close(talk):
    talk.settings["app"] = {"start": ""}
    (finding,) = go_on(talk, READ)
    assert not finding.passed
    assert finding.measured == "no app.start, so there is no server to ask"


def test_two_conversations_have_two_names(talk):
    talk.settings["continuity"] = [{"name": "a", "request": [{"path": "/ping"}]}] * 2
    with pytest.raises(ConfigError, match="the same name"):
        talk.config()


def test_a_lost_message_closes_the_benchmark_gate(talk, monkeypatch):
    monkeypatch.setattr("unified_db.migration.measuring._PHASE_LIMITS_S", (0.1, 0.1))
    conversation = {"name": "talk", "values": THREADS, "ignore": ["asked_at"], "request": [READ]}
    talk.settings["continuity"] = [conversation]
    talk.settings["benchmark"] = {"budget_s": 10, "request": [{"name": "ping", "path": "/ping"}]}
    config, run, backups, unified = talk.rehearse()
    stages = stage.stage_trees(config, run, backups, unified)
    (stages.after / "lose").touch()
    _, verdict = benchmark.run_benchmark(config, stages, backups, unified, run)
    assert not verdict.passed
    (finding,) = (f for f in verdict.failures if f.check == "conversations begun before go on")
    assert finding.measured.startswith("messages: 2 items instead of 3")
