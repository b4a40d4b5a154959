"""What follows what, and what a stop leaves behind; the phases are played, the run's folder is real."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows import order
from flows.direct import Direct
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.errors import GateClosedError, RunLockedError, UsageError
from unified_db.migration import approval, gates, phases
from unified_db.migration.journal import read_entries, read_state
from unified_db.migration.records import Choice, Finding, GateName, Verdict
from unified_db.migration.runs import hold_lock, list_runs

REHEARSAL = ["plan", "backup", "merge", "validate", "stage", "suites", "benchmark"]


def make_verdict(gate: GateName, *, passed: bool = True) -> Verdict:
    finding = Finding(check="c", where="w", required="1", measured="1" if passed else "2", passed=passed)
    return Verdict(gate=gate, findings=(finding,))


@dataclass
class Rehearsed(Direct):
    """Real files up to the validation, a played rehearsal, and a list of all that was asked for."""

    closed: GateName | None = None
    asked: list[str] = field(default_factory=list)

    def __getattribute__(self, name: str) -> Any:
        if name in {*REHEARSAL, "ask", "cutover", "archive", "summarise"}:
            object.__getattribute__(self, "asked").append(name)
        return object.__getattribute__(self, name)

    def stage(self, *_: Any) -> Any:
        return None

    def suites(self, *_: Any) -> Verdict:
        return self._judge(GateName.SUITES)

    def benchmark(self, *_: Any, **__: Any) -> Verdict:
        return self._judge(GateName.BENCHMARK)

    def cutover(self, *_: Any) -> Any:
        return None

    def archive(self, *_: Any) -> Any:
        return None

    def _judge(self, gate: GateName) -> Verdict:
        return gates.require_passed(make_verdict(gate, passed=gate is not self.closed))


def test_a_dry_run_stops_before_the_switch(tiny: TinyApplication) -> None:
    played, config = Rehearsed(), tiny.config()
    run = order.begin(config, dry_run=True)
    outcome = order.migrate(played, config, run, dry_run=True)
    assert played.asked == [*REHEARSAL, "summarise"]
    assert outcome.cutover is None
    assert read_state(run).dry_run


def test_a_run_switches_and_archives_after_three_open_gates(tiny: TinyApplication) -> None:
    played, config = Rehearsed(), tiny.config()
    run = order.begin(config, dry_run=False)
    order.migrate(played, config, run, dry_run=False)
    assert played.asked == [*REHEARSAL, "cutover", "archive", "summarise"]
    assert (run.evidence / "approval.json").exists()


@pytest.mark.parametrize("gate", [GateName.SUITES, GateName.BENCHMARK])
def test_the_first_closed_gate_stops_the_run(tiny: TinyApplication, gate: GateName) -> None:
    played, config = Rehearsed(closed=gate), tiny.config()
    run = order.begin(config, dry_run=False)
    with pytest.raises(GateClosedError, match=gate.value):
        order.migrate(played, config, run, dry_run=False)
    assert played.asked == [*REHEARSAL[: REHEARSAL.index(gate.value) + 1], "summarise"]
    assert read_state(run).state == "closed"


def test_what_was_done_is_not_done_again(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    order.migrate(Rehearsed(), config, run, dry_run=True)
    before = {p.name: p.stat().st_mtime_ns for p in run.evidence.iterdir()}
    order.resume(Rehearsed(), config, run)
    assert {p.name: p.stat().st_mtime_ns for p in run.evidence.iterdir()} == before


def test_a_damaged_backup_is_taken_again_with_all_that_rests_on_it(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    order.migrate(Rehearsed(), config, run, dry_run=True)
    (run.backups / "notes.db").write_bytes(b"damaged")
    first = (run.evidence / "merge.json").stat().st_mtime_ns
    order.resume(Rehearsed(), config, run)
    assert (run.backups / "notes.db").read_bytes().startswith(b"SQLite format 3")
    assert (run.evidence / "merge.json").stat().st_mtime_ns > first


def test_a_resumed_dry_run_does_not_switch(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    played = Rehearsed()
    order.resume(played, config, run)
    assert "cutover" not in played.asked


def test_a_run_that_was_rolled_back_cannot_be_resumed(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=False)
    order.Journal(run).write("rollback", "done")
    with pytest.raises(UsageError, match="rolled back"):
        order.resume(Rehearsed(), config, run)


def test_a_second_run_is_refused_and_leaves_no_folder(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    with hold_lock(config.state_folder, [tiny.notes.resolve()]), pytest.raises(RunLockedError):
        order.migrate(Rehearsed(), config, run, dry_run=True)
    assert list_runs(config.state_folder) == []


def test_a_resumed_run_that_finds_the_lock_held_keeps_its_folder(tiny: TinyApplication) -> None:
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    order.migrate(Rehearsed(), config, run, dry_run=True)
    with hold_lock(config.state_folder, [tiny.notes.resolve()]), pytest.raises(RunLockedError):
        order.resume(Rehearsed(), config, run)
    assert run.path.exists()


def test_a_failure_names_its_phase_and_the_journal_its_reason(tiny: TinyApplication) -> None:
    tiny.notes.write_bytes(b"not a database at all")
    config = tiny.config()
    run = order.begin(config, dry_run=True)
    with pytest.raises(Exception, match="SQLite") as caught:
        order.migrate(Rehearsed(), config, run, dry_run=True)
    assert phases.phase_of(caught.value) == "plan"
    assert "SQLite" in read_state(run).reason


def test_a_report_that_fails_does_not_fail_the_run(tiny: TinyApplication) -> None:
    class Unreported(Rehearsed):
        def summarise(self, *_: Any) -> None:
            raise OSError("no space")

    config = tiny.config()
    run = order.begin(config, dry_run=True)
    order.migrate(Unreported(), config, run, dry_run=True)
    assert "the report could not be written" in run.log.read_text()


@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_a_person_who_is_asked_for_is_asked_between_the_gates_and_the_switch(
    tiny: TinyApplication, choice: Choice
) -> None:
    tiny.configure(approval={"mode": "ask"})
    config, played = tiny.config(), Rehearsed()
    run = order.begin(config, dry_run=False)

    seen: list[str] = []

    def decide() -> None:
        while read_state(run).state != "waiting":
            time.sleep(0.01)
        seen.extend(played.asked)
        approval.decide(run, choice, by="Ada")

    person = threading.Thread(target=decide)
    person.start()
    with contextlib.nullcontext() if choice == "approve" else pytest.raises(GateClosedError, match="Ada"):
        order.migrate(played, config, run, dry_run=False)
    person.join()
    assert "summarise" in seen, "the evidence is there before the question"
    switch = ["cutover", "archive"] if choice == "approve" else []
    assert played.asked == [*REHEARSAL, "summarise", "ask", *switch, "summarise"]


def test_evidence_that_is_too_old_makes_no_approval(tiny: TinyApplication) -> None:
    tiny.configure(approval={"max_age": "0s"})
    config, played = tiny.config(), Rehearsed()
    run = order.begin(config, dry_run=False)
    with pytest.raises(GateClosedError, match="old"):
        order.migrate(played, config, run, dry_run=False)
    assert "cutover" not in played.asked


def test_a_run_keeps_the_configuration_it_began_with(tiny: TinyApplication) -> None:
    run = order.begin(tiny.config(), dry_run=True)
    assert run.config.read_bytes() == tiny.toml.read_bytes()
    assert run.config.stat().st_mode & 0o077 == 0
    assert read_entries(run.journal)[0].fields["pid"] == os.getpid()


def test_a_prepared_run_is_the_one_that_begins(tiny: TinyApplication, tmp_path: Path) -> None:
    run = order.begin(tiny.config(), dry_run=True)
    with order.prepared(run):
        assert order.begin(tiny.config(), dry_run=True) is run
    assert order.begin(tiny.config(), dry_run=True).name != run.name
