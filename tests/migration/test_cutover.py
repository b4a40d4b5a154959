"""Swapped, or exactly as before: the cut-over and its way back on a real small application."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import used_by_another
from tests.prefect_side.tiny_application import TinyApplication
from unified_db import files, integrity
from unified_db.errors import (
    CutoverRefusedError,
    CutoverUndoneError,
    GateClosedError,
    RollbackError,
    RunLockedError,
    SourceError,
    UsageError,
)
from unified_db.migration import archive, cutover, late, phases, processes, rollback, runs, standalone, undo
from unified_db.migration.journal import read_state, standing_acts
from unified_db.migration.lookout import Lookout
from unified_db.migration.records import Approval, Backup, CutoverRecord, GateName
from unified_db.migration.runs import RunFolder, create_run

ROOT = Path(__file__).parents[2]


def start_server(app: TinyApplication) -> None:
    """Start *app* as somebody does who knows nothing of us, and wait until it answers."""
    config = app.config()
    processes.start_detached(
        config.command(config.app.start),
        cwd=config.cwd,
        env={},
        log_file=app.root.parent / "app.log",
    ).wait_ready(processes.ready_url(config, port=config.app.port), timeout_s=20)


class Move:
    """A tiny application that runs, with everything ready for its cut-over."""

    def __init__(self, folder: Path, app: TinyApplication | None = None) -> None:
        self.app = app or TinyApplication.create(folder)
        self.run = self.prepare()

    def prepare(self) -> RunFolder:
        """A new run, ready for its cut-over, of the application as it is now; starts it."""
        run = self.prepare_again()
        self.start()
        return run

    def prepare_again(self) -> RunFolder:
        config = self.app.config()
        run = create_run(config.state_folder)
        files.write_durably(run.config, config.file.read_bytes())
        plan = phases.plan(config, run)
        backups = phases.backup(run, plan)
        phases.merge(run, backups)
        self.before = self.tree()
        return run

    def start(self) -> None:
        start_server(self.app)

    def switch(self) -> None:
        cutover.perform_cutover(self.app.config(), self.run)

    def approval(self) -> Approval:
        return Approval(
            run=self.run.name,
            approved_by="a test",
            approved_at=datetime.now(UTC),
            evidence_sha256=self.run.evidence_digest(),
            gates=tuple(GateName),
        )

    def tree(self) -> dict[str, str]:
        """Digest of every file of the application but its databases and its pid file."""
        return {
            str(p.relative_to(self.app.root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.app.root.rglob("*"))
            if p.is_file()
            and not {".unify-db", "__pycache__", "data"} & set(p.parts)
            and p.name != "server.pid"
        }

    def answer(self) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.app.config().app.port}/"
        with urllib.request.urlopen(url, timeout=10) as response:
            return dict(json.load(response))

    def add(self, path: Path, table: str, *texts: str) -> None:
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.executemany(f"INSERT INTO {table} (text) VALUES (?)", [(t,) for t in texts])

    def add_database(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.execute("CREATE TABLE stray (id INTEGER PRIMARY KEY, text)")
            conn.execute("INSERT INTO stray (text) VALUES ('written at the old path')")

    def texts(self, path: Path, table: str) -> list[str]:
        with closing(sqlite3.connect(path)) as conn:
            return [row[0] for row in conn.execute(f"SELECT text FROM {table} ORDER BY id")]


@pytest.fixture
def move(tmp_path: Path, without_a_look_at_the_interpreter: None) -> Iterator[Move]:
    made = Move(tmp_path)
    yield made
    with suppress(Exception):
        made.app.stop()


def is_old(move: Move) -> bool:
    return move.tree() == move.before and not move.app.unified.exists()


def is_new(move: Move) -> bool:
    return "data/unified.db" in (move.app.root / ".env").read_text() and move.app.unified.exists()


def test_the_application_serves_on_one_file_after_the_switch(move: Move) -> None:
    move.switch()
    assert is_new(move)
    assert move.answer() == {"notes": 3, "events": 3}
    assert read_state(move.run).state == "switched"


def test_rows_written_after_the_backup_arrive(move: Move) -> None:
    move.add(move.app.notes, "notes", "late")
    with closing(sqlite3.connect(move.app.events)) as conn, conn:
        conn.execute("UPDATE events SET text = 'changed' WHERE id = 1")
        conn.execute("DELETE FROM events WHERE id = 2")
    move.switch()
    assert move.texts(move.app.unified, "notes") == ["a", "b", "c", "late"]
    assert move.texts(move.app.unified, "events") == ["changed", "c"]


def write_while_stopping(move: Move, *statements: str) -> None:
    """Have the stop command of *move*'s application write to its old files first, as its last requests do."""
    lines = [
        f"conn = sqlite3.connect({str(move.app.notes)!r}); conn.executescript({s!r}); conn.close()"
        for s in statements
    ]
    (move.app.root / "last_requests.py").write_text("\n".join(["import sqlite3", *lines, "import stop"]))
    text = move.app.toml.read_text()
    move.app.toml.write_text(text.replace("{python} stop.py", "{python} last_requests.py"))
    move.run = move.prepare_again()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_rows_written_until_the_very_stop_arrive(move: Move, mode: str) -> None:
    with closing(sqlite3.connect(move.app.notes)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
    write_while_stopping(
        move,
        "INSERT INTO notes (text) VALUES ('late')",
        "UPDATE notes SET text = 'changed' WHERE id = 1; DELETE FROM notes WHERE id = 2",
    )
    move.add(move.app.notes, "notes", "since the backup")
    move.switch()
    assert move.texts(move.app.unified, "notes") == ["changed", "c", "since the backup", "late"]
    assert move.texts(move.app.unified, "events") == ["a", "b", "c"]
    record = move.run.load("cutover", CutoverRecord)
    assert record is not None
    assert record.late_rows == 4


def test_a_schema_change_until_the_very_stop_takes_the_cut_over_back(move: Move) -> None:
    write_while_stopping(move, "CREATE TABLE added (x)")
    with pytest.raises(CutoverUndoneError, match=r"schema of data/notes\.db was changed"):
        move.switch()
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_what_nobody_wrote_since_it_was_compared_is_not_compared_again(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    original = late._carry_one  # the one way by which a stopped source is read

    def carry(ready: late.ReadyCopy, item: Backup, lookout: Lookout) -> int:
        compared.append(item.label)
        return original(ready, item, lookout)

    monkeypatch.setattr(late, "_carry_one", carry)
    write_while_stopping(move, "INSERT INTO notes (text) VALUES ('late')")
    move.switch()
    assert compared == ["data/notes.db"]


def test_a_source_that_cannot_be_compared_beside_the_application_is_compared_without_it(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = late._image

    def fail_once(*arguments: object) -> object:
        monkeypatch.setattr(late, "_image", original)
        raise SourceError("no space for a copy")

    monkeypatch.setattr(late, "_image", fail_once)
    move.add(move.app.notes, "notes", "late")
    move.switch()
    assert move.texts(move.app.unified, "notes") == ["a", "b", "c", "late"]


def test_an_old_path_fails_loudly_and_says_where_the_data_went(move: Move) -> None:
    move.switch()
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        move.texts(move.app.notes, "notes")
    assert str(move.app.unified) in move.app.notes.read_text().splitlines()[0]


@pytest.mark.parametrize("archived", [False, True], ids=["before-the-archive", "after-the-archive"])
def test_a_rollback_restores_the_tree_and_keeps_what_was_written_since(move: Move, archived: bool) -> None:
    move.switch()
    if archived:
        archive.archive_originals(move.app.config(), move.run)
        assert list(move.run.originals.iterdir()) == []
    move.add(move.app.unified, "notes", "since")
    with closing(sqlite3.connect(move.app.unified)) as conn, conn:
        conn.execute("UPDATE events SET text = 'changed' WHERE id = 1")
        conn.execute("DELETE FROM events WHERE id = 3")
    record = rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)
    assert move.texts(move.app.notes, "notes") == ["a", "b", "c", "since"]
    assert move.texts(move.app.events, "events") == ["changed", "b"]
    assert sorted(record.carried) == [("events", 0, 1, 1), ("notes", 1, 0, 0)]
    with closing(sqlite3.connect(move.app.notes)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert move.answer() == {"notes": 4, "events": 2}
    assert read_state(move.run).state == "rolled_back"


def test_a_rollback_looks_at_the_restored_files_beside_requests(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    move.switch()
    find = integrity.integrity_problems

    def find_beside_a_request(conn: sqlite3.Connection) -> list[str]:
        assert move.answer() == {"notes": 3, "events": 3}
        return find(conn)

    monkeypatch.setattr(integrity, "integrity_problems", find_beside_a_request)
    record = rollback.roll_back(move.app.config(), move.run)
    assert [f.measured for f in record.findings] == ["ok", "ok"]


def test_rolling_back_twice_changes_nothing_more(move: Move) -> None:
    move.switch()
    rollback.roll_back(move.app.config(), move.run)
    rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)


def test_a_move_works_again_after_a_rollback(move: Move) -> None:
    move.switch()
    rollback.roll_back(move.app.config(), move.run)
    move.app.stop()
    move.run = move.prepare()
    move.switch()
    assert is_new(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_a_rollback_refuses_a_schema_that_changed_since(move: Move) -> None:
    move.switch()
    with closing(sqlite3.connect(move.app.unified)) as conn, conn:
        conn.execute("CREATE VIEW added AS SELECT * FROM notes, events")
    with pytest.raises(RollbackError, match="view added is new and has to do with tables of data/events"):
        rollback.roll_back(move.app.config(), move.run)
    assert is_new(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_a_rollback_carries_a_schema_that_changed_in_one_source_s_part(move: Move) -> None:
    move.switch()
    with closing(sqlite3.connect(move.app.unified)) as conn, conn:
        conn.execute("CREATE TABLE added (x)")
        conn.execute("ALTER TABLE events ADD COLUMN kind DEFAULT 'k'")
        conn.execute("INSERT INTO events (text) VALUES ('since')")
    record = rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)
    assert record.schema_carried == (
        ("data/notes.db", "table added is new"),
        ("data/events.db", "table events was changed"),
    )
    assert move.texts(move.app.events, "events") == ["a", "b", "c", "since"]
    assert move.answer() == {"notes": 3, "events": 4}


def test_what_a_rollback_finds_in_its_places_is_kept_and_told(move: Move) -> None:
    move.switch()
    env = move.app.root / ".env"
    env.write_text(env.read_text() + "ADDED=since\n")
    move.app.notes.unlink()
    move.add_database(move.app.notes)
    record = rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)
    aside = {a.path: a for a in record.set_aside}
    assert aside.keys() == {env, move.app.notes}
    assert aside[env].kept.read_text().endswith("ADDED=since\n")
    assert move.texts(aside[move.app.notes].kept, "stray") == ["written at the old path"]


def test_a_rollback_without_the_unified_file_is_refused_since_rows_would_be_lost(move: Move) -> None:
    move.switch()
    kept = move.app.unified.rename(move.app.root / "elsewhere.db")
    with pytest.raises(RollbackError, match="is gone"):
        rollback.roll_back(move.app.config(), move.run)
    kept.rename(move.app.unified)
    rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)


def test_a_rollback_of_a_run_that_switched_nothing_is_refused(move: Move) -> None:
    with pytest.raises(UsageError, match="switched nothing"):
        rollback.roll_back(move.app.config(), move.run)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_sidecar_that_an_earlier_database_left_at_the_target_is_never_played_back(
    move: Move, suffix: str
) -> None:
    stale = move.app.unified.with_name(move.app.unified.name + suffix)
    stale.write_bytes(b"left by an earlier database of that name")
    with pytest.raises(SourceError, match="is there already"):
        move.switch()
    with pytest.raises(SourceError, match="is there already"):
        standalone.merge_sources([move.app.notes, move.app.events], move.app.unified)
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_an_application_that_fails_on_the_new_file_is_put_back(move: Move) -> None:
    server = move.app.root / "server.py"
    server.write_text(
        server.read_text().replace(
            "def count(", 'assert database("NOTES").name == "notes.db"\n\n\ndef count('
        )
    )
    move.before = move.tree()
    with pytest.raises(CutoverUndoneError, match="taken back"):
        move.switch()
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}
    assert standing_acts(move.run) == []


def test_an_application_that_ignores_its_stop_is_left_running(move: Move) -> None:
    text = move.app.toml.read_text().replace("{python} stop.py", "true")
    move.app.toml.write_text(text.replace("[app]", "[app]\nstop_timeout_s = 2"))
    move.before = move.tree()
    # The server opens its files for each request only; this stands for one that keeps them open.
    code = f"f = open({str(move.app.notes)!r}); print('up', flush=True); input()"
    command = [sys.executable, "-c", code]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    try:
        with pytest.raises(CutoverUndoneError, match="still in use"):
            move.switch()
    finally:
        holder.communicate(b"\n")
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_an_application_is_started_again_beside_a_stranger_who_kept_its_files_open(move: Move) -> None:
    move.app.toml.write_text(move.app.toml.read_text().replace("[app]", "[app]\nstop_timeout_s = 1"))
    move.run = move.prepare_again()
    move.before = move.tree()
    with used_by_another(move.app.notes, "SELECT * FROM notes"):
        with pytest.raises(CutoverUndoneError, match="still in use") as caught:
            move.switch()
        assert "Everything is as it was" in caught.value.hint
        assert move.answer() == {"notes": 3, "events": 3}
    assert is_old(move)


def test_a_stop_command_that_stops_nothing_is_noticed_though_no_file_is_open(move: Move) -> None:
    text = move.app.toml.read_text().replace("{python} stop.py", "true")
    move.app.toml.write_text(text.replace("[app]", "[app]\nstop_timeout_s = 2"))
    move.before = move.tree()
    with pytest.raises(CutoverUndoneError, match="still answers"):
        move.switch()
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_where_no_command_stops_the_application_a_person_is_asked_to_and_waited_for(
    move: Move, caplog: pytest.LogCaptureFixture
) -> None:
    text = move.app.toml.read_text().replace("{python} stop.py", "")
    move.app.toml.write_text(text)
    move.run = move.prepare_again()
    asked = "stop the application now, within 30 s"

    def stop_when_asked() -> None:
        deadline = time.monotonic() + 30
        while asked not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        move.app.stop()

    person = threading.Thread(target=stop_when_asked)
    person.start()
    with caplog.at_level("INFO", logger="unified_db"), runs.keep_log(move.run):
        cutover.run_cutover(move.app.config(), move.run, move.approval())
    person.join()
    assert is_new(move)
    assert caplog.text.count(asked) == 1
    assert move.run.log.read_text().count(asked) == 1
    # What runs now we have started ourselves.
    with caplog.at_level("INFO", logger="unified_db"):
        rollback.roll_back(move.app.config(), move.run)
    assert caplog.text.count(asked) == 1
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_a_folder_that_cannot_be_written_is_found_by_the_plan(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the system's answer is given here.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != move.app.root / "data")
    with pytest.raises(SourceError, match="data cannot be written to"):
        move.prepare_again()


def test_a_file_that_was_edited_since_the_plan_stops_the_cutover_before_it_begins(move: Move) -> None:
    env = move.app.root / ".env"
    env.write_text(env.read_text() + "ADDED=1\n")
    with pytest.raises(CutoverRefusedError, match="changed since the plan"):
        move.switch()
    assert move.answer() == {"notes": 3, "events": 3}
    assert not move.app.unified.exists()


def test_evidence_that_was_changed_after_its_approval_is_refused(move: Move) -> None:
    approval = move.approval()
    path = move.run.evidence / "merge.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(GateClosedError, match="not what was approved"):
        cutover.run_cutover(move.app.config(), move.run, approval)
    assert is_old(move)


def test_the_cutover_works_in_a_process_of_its_own(move: Move) -> None:
    record = cutover.run_cutover(move.app.config(), move.run, move.approval())
    assert is_new(move)
    assert record.downtime_ms >= record.write_pause_ms > 0


def test_an_interruption_waits_where_the_cutovers_process_is_just_being_started(
    move: Move, tmp_path: Path
) -> None:
    program = (
        "import pathlib, subprocess, sys, time; popen = subprocess.Popen\n"
        "def begin(): pathlib.Path(sys.argv[4]).touch(); time.sleep(1)\n"
        "def slow(*a, **k): return popen(*a, **k, **({'preexec_fn': begin} if k.get('pass_fds') else {}))\n"
        "from unified_db.migration import cutover, runs, config\n"
        "from unified_db.migration.records import Approval\n"
        "cutover.subprocess.Popen = slow\n"
        "run = runs.RunFolder(pathlib.Path(sys.argv[2]))\n"
        "approval = Approval.model_validate_json(sys.argv[3])\n"
        "cutover.run_cutover(config.load_config(pathlib.Path(sys.argv[1])), run, approval); print('ended')"
    )
    begun = tmp_path / "begun"
    arguments = [move.app.toml, move.run.path, move.approval().model_dump_json(), begun]
    waiting = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=60)[0] == "ended\n"
    assert is_new(move)


def test_nobody_touches_a_run_while_its_cutover_is_at_work_and_interrupts_wait(
    move: Move,
) -> None:
    text = move.app.toml.read_text()
    move.app.toml.write_text(text.replace("{python} stop.py", "{python} slow_stop.py"))
    (move.app.root / "slow_stop.py").write_text("import time; time.sleep(1.5); import stop")
    move.run = move.prepare_again()
    program = (
        "import sys; from pathlib import Path; from unified_db.migration import cutover, runs, config\n"
        "from unified_db.migration.records import Approval\n"
        "run = runs.RunFolder(Path(sys.argv[2])); approval = Approval.model_validate_json(sys.argv[3])\n"
        "cutover.run_cutover(config.load_config(Path(sys.argv[1])), run, approval); print('ended')"
    )
    arguments = [move.app.toml, move.run.path, move.approval().model_dump_json()]
    waiting = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not standing_acts(move.run):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(RunLockedError, match="at work"):
        undo.require_no_cutover(move.app.config())
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30)[0] == "ended\n"
    undo.require_no_cutover(move.app.config())
    assert is_new(move)
    assert move.answer() == {"notes": 3, "events": 3}
