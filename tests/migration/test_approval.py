"""A person decides: switched, or exactly as before, whoever answers how, and whatever dies while waiting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from tests.conftest import look_at, small_file_system
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.errors import GateClosedError, UsageError
from unified_db.migration import approval, decisions, gates, journal
from unified_db.migration.config import ApprovalConfig
from unified_db.migration.journal import Journal, read_entries, read_state
from unified_db.migration.records import Approval, Backups, Decision, GateName, Question, Verdict
from unified_db.migration.runs import RunFolder, create_run, list_runs

ROOT = Path(__file__).parents[2]
WAIT_S = 60


class Asking:
    """A tiny application whose configuration asks a person, and the command with a played rehearsal.

    Attributes:
        run: The run that came to wait last.
    """

    run: RunFolder

    def __init__(self, app: TinyApplication, **settings: object) -> None:
        self.app = app
        self.app.configure(approval={"mode": "ask", **settings})
        self.before = self.tree()

    def tree(self) -> dict[str, tuple[object, ...]]:
        """All of the application, byte for byte, but what a run leaves of itself."""
        return {n: f for n, f in look_at(self.app.root).items() if not n.startswith(".unify-db")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.migration.asked", *arguments],
            cwd=self.app.root,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> subprocess.Popen[str]:
        """A run that waits by the time this returns."""
        process = self.start("run", "--no-prefect", "--json")
        deadline = time.monotonic() + WAIT_S
        while (run := self.run_of(process)) is None or read_state(run).state != "waiting":
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"no run came to wait: {process.communicate()}")
            time.sleep(0.05)
        self.run = run
        return process

    def run_of(self, process: subprocess.Popen[str]) -> RunFolder | None:
        begun = ((r, read_entries(r.journal)[:1]) for r in list_runs(self.app.root / ".unify-db"))
        return next((r for r, first in begun if first and first[0].fields["pid"] == process.pid), None)

    def json(self, *arguments: str) -> dict[str, Any]:
        return self.end(self.start(*arguments, "--json"))

    @staticmethod
    def end(process: subprocess.Popen[str]) -> dict[str, Any]:
        """What *process* prints at its end; the exit code in it must be its own."""
        out, said = process.communicate(timeout=WAIT_S)
        content: dict[str, Any] = json.loads(out)
        assert content["exit_code"] == process.returncode, said
        assert "Traceback" not in said
        return content

    def digest(self) -> str:
        question = decisions.load_question(self.run)
        assert question is not None
        return question.evidence_sha256


@pytest.fixture
def app(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()


@pytest.fixture
def asking(app: TinyApplication) -> Asking:
    return Asking(app)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=WAIT_S)


# ---- how a wait ends -----------------------------------------------------------------------------


def test_an_approved_run_switches_and_names_who_and_on_which_evidence(asking: Asking) -> None:
    going = asking.ask()
    told = asking.json("status")
    name, digest = told["run"], asking.digest()
    assert told["evidence"] == digest
    assert f"unify-db approve {name}" in told["next"]
    assert asking.tree() == asking.before, "nothing is touched while it waits"
    for page in (asking.run.report, asking.run.summary):
        assert digest[:12] in page.read_text()
        assert f"unify-db reject {name}" in page.read_text()
    with closing(connect(asking.app.notes)) as connection, connection:
        connection.execute("INSERT INTO notes (text) VALUES ('written while it waits')")

    said = asking.json("approve", name, "--evidence", digest[:12], "--by", "Ada", "--reason", "quiet now")
    assert said["exit_code"] == 0
    assert (said["decision"]["by"], said["decision"]["evidence_sha256"]) == ("Ada", digest)

    done = asking.end(going)
    assert (done["exit_code"], done["state"]) == (0, "archived")
    approved = asking.run.load("approval", Approval)
    assert approved is not None
    assert (approved.approved_by, approved.evidence_sha256) == ("Ada", digest)
    with closing(connect(asking.app.unified)) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (4,)
    assert "Approved by Ada" in asking.run.report.read_text()
    entries = [e for e in read_entries(asking.run.journal) if e.event == "run"]
    assert [e.status for e in entries] == ["begin", "waiting", "decided"]
    assert entries[-1].fields["by"] == "Ada"


def test_a_rejected_run_closes_with_3_and_leaves_every_byte(asking: Asking) -> None:
    going = asking.ask()
    assert asking.json("reject", asking.run.name, "--reason", "not today")["state"] == "closed"
    done = asking.end(going)
    assert (done["exit_code"], done["state"]) == (3, "closed")
    assert "not today" in done["message"]
    assert asking.tree() == asking.before
    assert "the switch was not approved" in asking.run.report.read_text()
    assert asking.json("resume", asking.run.name)["exit_code"] == 3, "a rejection is for good"
    assert asking.tree() == asking.before


def test_a_run_that_nobody_answers_closes_with_3_and_leaves_every_byte(app: TinyApplication) -> None:
    asking = Asking(app, timeout="8s")
    done = asking.end(asking.ask())
    assert (done["exit_code"], done["state"]) == (3, "closed")
    assert "nobody decided in time: approval.timeout is 8.0 s" in done["message"]
    assert asking.tree() == asking.before
    late = asking.json("approve", done["run"])
    assert late["exit_code"] == 2
    assert "nobody decided in time" in late["message"]
    assert asking.tree() == asking.before


def test_a_dry_run_never_asks(asking: Asking) -> None:
    done = asking.json("dry-run", "--no-prefect")
    assert (done["exit_code"], done["state"]) == (0, "closed")
    assert decisions.load_question(RunFolder(Path(done["folder"]))) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_wait_says_how_to_go_on_and_does(asking: Asking, number: signal.Signals) -> None:
    going = asking.ask()
    going.send_signal(number)
    left = asking.end(going)
    assert left["exit_code"] == 128 + number
    assert left["state"] == "waiting"
    assert "its process has ended" in left["hint"]
    assert f"unify-db resume {left['run']}" in left["hint"]
    assert asking.tree() == asking.before
    assert f"unify-db resume {left['run']}" in asking.json("approve", left["run"])["next"]
    assert asking.json("resume", left["run"])["state"] == "archived"


# ---- what dies while it waits --------------------------------------------------------------------


def test_a_run_whose_process_died_is_approved_then_resumed_on_the_same_evidence(asking: Asking) -> None:
    kill(asking.ask())
    told = asking.json("status")
    assert told["state"] == "waiting"
    assert "its process has ended" in told["next"]
    before = {p.name: p.stat().st_mtime_ns for p in asking.run.evidence.iterdir()}
    said = asking.json("approve", told["run"])
    assert said["state"] == "interrupted"
    assert f"Nothing was switched yet. `unify-db resume {told['run']}` goes on" in said["next"]
    assert asking.tree() == asking.before, "approving switches nothing by itself"
    assert asking.json("resume", told["run"])["state"] == "archived"
    after = {p.name: p.stat().st_mtime_ns for p in asking.run.evidence.iterdir()}
    assert {n: after[n] for n in before} == before


def test_a_run_that_is_resumed_before_it_was_decided_goes_on_waiting_for_the_same_answer(
    asking: Asking,
) -> None:
    kill(asking.ask())
    question = decisions.load_question(asking.run)
    going = asking.start("resume", asking.run.name, "--json")
    deadline = time.monotonic() + WAIT_S
    while [e.status for e in read_entries(asking.run.journal)].count("waiting") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert decisions.load_question(asking.run) == question
    asking.json("approve", asking.run.name, "--evidence", asking.digest())
    assert asking.end(going)["state"] == "archived"


def test_a_run_whose_process_died_is_closed_by_a_rejection_alone(asking: Asking) -> None:
    kill(asking.ask())
    name = asking.run.name
    assert asking.json("reject", name)["state"] == "closed"
    assert asking.json("status", name)["state"] == "closed"
    assert asking.json("resume", name)["exit_code"] == 3
    assert asking.tree() == asking.before


def test_a_run_whose_process_died_is_closed_when_its_time_is_over(app: TinyApplication) -> None:
    asking = Asking(app, timeout="8s")
    kill(asking.ask())
    name = asking.run.name
    time.sleep(8)
    assert asking.json("status")["state"] == "closed"
    late = asking.json("approve", name)
    assert late["exit_code"] == 3
    assert "too late" in late["message"]
    assert asking.json("resume", name)["exit_code"] == 3
    assert asking.tree() == asking.before


def test_an_archived_run_that_is_resumed_stays_archived(asking: Asking) -> None:
    going = asking.ask()
    asking.json("approve", asking.run.name)
    assert asking.end(going)["state"] == "archived"
    assert asking.json("resume", asking.run.name)["state"] == "archived"


def test_another_process_with_the_same_number_is_not_the_one_that_waits(tmp_path: Path) -> None:
    run = create_run(tmp_path / ".unify-db")
    Journal(run).write("run", "begin", pid=os.getpid())
    assert read_state(run).state == "running"
    with pytest.MonkeyPatch.context() as patch:
        # As after a restart of the machine: the number is the same, the process is another.
        patch.setattr(journal, "_born", lambda _pid: "another boot 4711")
        assert read_state(run).state == "interrupted"


# ---- what is looked at again after the wait ------------------------------------------------------


def _edit_settings(app: TinyApplication) -> None:
    (app.root / ".env").write_text((app.root / ".env").read_text() + "OTHER=1\n")


def _change_schema(app: TinyApplication) -> None:
    with closing(connect(app.notes)) as connection, connection:
        connection.execute("ALTER TABLE notes ADD COLUMN extra")


def _put_another_file(app: TinyApplication) -> None:
    app.notes.write_bytes(b"no database at all")


def _take_the_target(app: TinyApplication) -> None:
    app.unified.write_bytes(b"somebody else's")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_edit_settings, ".env was changed since the plan", id="an-edit-no-longer-applies"),
        pytest.param(_change_schema, "the schema of data/notes.db was changed", id="another-schema"),
        pytest.param(_put_another_file, "data/notes.db is no longer the database", id="no-source-any-more"),
        pytest.param(_take_the_target, "unified.db", id="the-target-is-taken"),
    ],
)
def test_what_changed_during_the_wait_stops_the_switch_before_the_application(
    asking: Asking, change: Callable[[TinyApplication], None], says: str
) -> None:
    going = asking.ask()
    change(asking.app)
    after = asking.tree()
    assert asking.json("approve", asking.run.name)["exit_code"] == 0
    done = asking.end(going)
    assert done["exit_code"] == 4
    assert says in done["message"]
    assert asking.tree() == after
    assert ("cutover", "begin") not in [(e.event, e.status) for e in read_entries(asking.run.journal)]


def test_a_disk_that_filled_up_during_the_wait_stops_the_switch_until_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_file_system(disk, size="48m"):
        asking = Asking(TinyApplication.create(disk))
        with closing(connect(asking.app.notes)) as connection, connection:
            connection.execute("INSERT INTO notes (text) VALUES (randomblob(3000000))")
        going = asking.ask()
        before = asking.tree()
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 2_000_000))
        asking.json("approve", asking.run.name)
        done = asking.end(going)
        assert done["exit_code"] == 4
        assert "not enough space" in done["message"]
        assert "Make room" in done["hint"]
        assert asking.tree() == before
        (disk / "filler").unlink()
        assert asking.json("resume", asking.run.name)["state"] == "archived"
        asking.app.stop()


def test_an_application_that_another_run_moved_meanwhile_is_left_alone(asking: Asking) -> None:
    kill(asking.ask())
    first = asking.run.name
    second = asking.ask()
    asking.json("approve", asking.run.name)
    assert asking.end(second)["state"] == "archived"
    moved = asking.tree()
    assert asking.json("approve", first)["exit_code"] == 0
    done = asking.json("resume", first)
    assert done["exit_code"] == 4
    assert "has switched the application over in the meantime" in done["message"]
    assert {n: f for n, f in asking.tree().items() if n != "server.pid"} == {
        n: f for n, f in moved.items() if n != "server.pid"
    }


def test_a_second_run_is_told_that_the_first_one_waits(asking: Asking) -> None:
    going = asking.ask()
    refused = asking.json("dry-run", "--no-prefect")
    assert refused["exit_code"] == 4
    assert f"unify-db approve {asking.run.name}" in refused["hint"]
    asking.json("reject", asking.run.name)
    asking.end(going)


# ---- what may be decided -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_an_unknown_run_and_one_that_does_not_wait_are_wrong_use(asking: Asking, verb: str) -> None:
    name = asking.json("dry-run", "--no-prefect")["run"]
    unknown = asking.json(verb, "20200101T000000Z-0000")
    assert unknown["exit_code"] == 2
    done = asking.json(verb, name)
    assert done["exit_code"] == 2
    assert "does not wait for a person: it is closed" in done["message"]
    assert not (Path(done["folder"]) / "evidence" / "decision.json").exists()


def test_other_evidence_is_not_approved_and_the_run_goes_on_waiting(asking: Asking) -> None:
    going = asking.ask()
    for digest in ("deadbeefdeadbeef", asking.digest()[:4], ""):
        refused = asking.json("approve", asking.run.name, "--evidence", digest)
        assert refused["exit_code"] == 3
        assert "other evidence" in refused["message"]
        assert refused["state"] == "waiting"
    asking.json("reject", asking.run.name)
    asking.end(going)


@pytest.fixture
def asked(tmp_path: Path) -> RunFolder:
    """A run with a question, made in this process."""
    run = create_run(tmp_path / ".unify-db")
    Journal(run).write("run", "begin", pid=os.getpid())
    run.save("backup", Backups(taken_at=datetime.now(UTC), lock_ms=1, seconds=1, items=()))
    decisions.pose(ApprovalConfig(mode="ask"), run, _backups(run))
    Journal(run).write("run", "waiting")
    return run


def _backups(run: RunFolder) -> Backups:
    backups = run.load("backup", Backups)
    assert backups is not None
    return backups


def test_evidence_that_was_changed_is_not_approved_but_may_be_rejected(asked: RunFolder) -> None:
    asked.save("verdict-suites", Verdict(gate=GateName.SUITES, findings=()))
    with pytest.raises(GateClosedError, match="the evidence was changed since it was asked about"):
        approval.decide(asked, "approve", by="Ada")
    assert approval.decide(asked, "reject", by="Ada").choice == "reject"


@pytest.mark.parametrize("name", ["plan", "backup", "merge", "evidence-suites", "verdict-benchmark"])
def test_the_digest_covers_all_that_the_page_shows(asked: RunFolder, name: str) -> None:
    before = asked.evidence_digest()
    asked.save(name, Verdict(gate=GateName.SUITES, findings=()))
    assert asked.evidence_digest() != before


def test_of_two_who_decide_at_once_one_wins_and_all_others_are_told(asked: RunFolder) -> None:
    start, told = threading.Barrier(8), []

    def decide(number: int) -> None:
        start.wait()
        try:
            approval.decide(asked, "approve" if number % 2 else "reject", by=f"person {number}")
        except UsageError as error:
            told.append(error.message)

    threads = [threading.Thread(target=decide, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stands = decisions.load_decision(asked)
    assert stands is not None
    assert len(told) == 7
    assert all(f"by {stands.by}" in message for message in told)


def test_a_decision_in_the_last_moment_beats_the_clock(asked: RunFolder) -> None:
    question = decisions.load_question(asked)
    assert question is not None
    made = approval.decide(asked, "approve", by="Ada")
    assert decisions.expire(asked, question) == made


def test_nobody_cannot_decide(asked: RunFolder) -> None:
    with pytest.raises(UsageError, match="nobody is named"):
        approval.decide(asked, "approve", by=" \n")


def test_the_age_of_the_evidence_ends_a_wait_that_is_meant_to_last_longer(asked: RunFolder) -> None:
    old = Backups(taken_at=datetime.now(UTC) - timedelta(hours=2), lock_ms=1, seconds=1, items=())
    asked.save("backup", old)
    asking_for = ApprovalConfig(mode="ask", max_age=timedelta(hours=1), timeout=timedelta(days=1))
    question = decisions.pose(asking_for, asked, old)
    assert "older than approval.max_age allows" in question.expires_since
    with pytest.raises(GateClosedError, match=r"too late .* older than approval.max_age"):
        approval.decide(asked, "approve", by="Ada")


def test_evidence_that_is_made_again_is_asked_about_again(asked: RunFolder) -> None:
    approval.decide(asked, "approve", by="Ada")
    first = decisions.load_question(asked)
    assert decisions.pose(ApprovalConfig(mode="ask"), asked, _backups(asked)) == first
    assert decisions.load_decision(asked) is not None
    asked.save("verdict-suites", Verdict(gate=GateName.SUITES, findings=()))
    assert decisions.pose(ApprovalConfig(mode="ask"), asked, _backups(asked)) != first
    assert decisions.load_decision(asked) is None


def test_a_switch_that_asks_takes_no_word_but_a_persons_on_this_evidence(
    asked: RunFolder, app: TinyApplication
) -> None:
    app.configure(approval={"mode": "ask"})
    config, decided = app.config(), approval.decide(asked, "approve", by="Ada")
    with pytest.raises(GateClosedError, match="nobody was asked"):
        gates.approve(config, asked, ())
    other = decided.model_copy(update={"evidence_sha256": "0" * 64})
    with pytest.raises(GateClosedError, match="not what was approved"):
        gates.approve(config, asked, (), other)
    for choice in ("reject", "expire"):
        with pytest.raises(GateClosedError, match="not approved"):
            gates.approve(config, asked, (), decided.model_copy(update={"choice": choice}))
    with pytest.raises(GateClosedError, match="no verdict from"):
        gates.approve(config, asked, (), decided)


def test_evidence_that_is_too_old_is_not_asked_about(asked: RunFolder, app: TinyApplication) -> None:
    app.configure(approval={"mode": "ask", "max_age": "0s"})
    with pytest.raises(GateClosedError, match=r"old; approval\.max_age allows"):
        gates.pose(app.config(), asked)


def test_question_and_decision_survive_a_trip_through_json(asked: RunFolder) -> None:
    made = approval.decide(asked, "reject", by="Ada", reason="http://ada:hidden@host/ is down")
    assert Decision.model_validate_json(made.model_dump_json()) == made
    assert "hidden" not in made.model_dump_json()
    question = decisions.load_question(asked)
    assert question is not None
    assert Question.model_validate_json(question.model_dump_json()) == question
