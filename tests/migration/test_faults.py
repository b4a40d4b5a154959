"""What may go wrong around a cut-over on a real application: swapped, or as before, and it says which.

Elsewhere: full and read-only disks (`test_faults_disk.py`), signals (`test_faults_interrupted.py`), an
application that goes wrong after its start (`test_soak.py`), that does not stop or does not start on the new
file, an edit between plan and switch (`test_cutover.py`), a second run (`test_cli.py`), Prefect's API that
goes away (`prefect_side/test_asking.py`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import look_at, small_file_system
from tests.migration.test_cutover import Move, is_new, is_old
from tests.prefect_side.tiny_application import TinyApplication
from unified_db import files
from unified_db.errors import CutoverUndoneError, ExitCode, GateClosedError
from unified_db.migration import approval, archive, cutover, gates, journal, phases, rollback
from unified_db.migration.journal import Journal, read_entries, read_state
from unified_db.migration.records import Backups, Question
from unified_db.migration.runs import create_run, list_runs, open_run


@pytest.fixture
def move(tmp_path: Path, without_a_look_at_the_interpreter: None) -> Iterator[Move]:
    made = Move(tmp_path)
    yield made
    with suppress(Exception):
        made.app.stop()


# ---- writers that nobody told of the move --------------------------------------------------------

_WRITER = """
import signal, sqlite3, sys, time
from contextlib import closing
path, kept = sys.argv[1:]
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(True))
with open(kept, "a", buffering=1) as acknowledged:
    for number in range(100_000):
        if over:
            break
        try:
            # In autocommit: a `with conn` whose COMMIT is refused would keep the file open for good.
            with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as conn:
                conn.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
                conn.execute("INSERT INTO notes (text) VALUES (?)", (f"row {number}",))
            acknowledged.write(f"row {number}\\n")
        except sqlite3.Error as error:
            acknowledged.write(f"refused: {error}\\n")
        time.sleep(0.005)
"""


def test_a_writer_that_ignores_the_stop_loses_no_row_and_is_refused_aloud_after_the_switch(
    move: Move, tmp_path: Path
) -> None:
    """It opens the old path for each row, so most looks for open files do not see it."""
    kept = tmp_path / "acknowledged"
    command = [sys.executable, "-c", _WRITER, str(move.app.notes), str(kept)]
    writer = subprocess.Popen(command)
    try:
        while not kept.exists() or "row" not in kept.read_text():
            time.sleep(0.01)
        with suppress(CutoverUndoneError):
            move.switch()
        told = kept.stat().st_size
        while kept.stat().st_size == told:
            time.sleep(0.01)
    finally:
        # Not in the middle: a row that is there and was not acknowledged would be one too many.
        writer.terminate()
        writer.wait()
    lines = kept.read_text().splitlines()
    acknowledged = [line for line in lines if line.startswith("row")]
    switched = is_new(move)
    assert switched or is_old(move)
    if switched:
        assert "not a database" in lines[-1]
    found = move.texts(move.app.unified if switched else move.app.notes, "notes")
    assert sorted(found) == sorted(["a", "b", "c", *acknowledged])


def test_at_no_moment_of_a_switch_is_an_old_path_free_for_a_new_database(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [move.app.notes, move.app.events]
    missing: list[str] = []

    def look(event: str, _arguments: tuple[Any, ...]) -> None:
        if looking and event in {"os.rename", "os.remove", "os.link", "open", "os.chmod"}:
            missing.extend(f"{p.name} before {event}" for p in sources if not os.path.lexists(p))

    looking = True
    sys.addaudithook(look)
    move.switch()
    looking = False
    assert is_new(move)
    assert missing == []


def test_a_file_system_without_links_is_moved_on_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, kept = tmp_path / "old.db", tmp_path / "kept"
    path.write_bytes(b"content")
    files.replace_keeping(path, kept, b"fence", mode=0o444)
    assert (path.read_bytes(), kept.read_bytes()) == (b"fence", b"content")


# ---- places --------------------------------------------------------------------------------------


def rewrite(app: TinyApplication, old: str, new: str) -> None:
    app.toml.write_text(app.toml.read_text().replace(old, new))


def there_and_back(move: Move) -> None:
    """Switch, write a row, archive, roll back: the tree is as before, with the row."""
    before = {n: f[0] for n, f in look_at(move.app.root).items() if not n.startswith(".unify-db")}
    move.switch()
    assert move.answer() == {"notes": 3, "events": 3}
    archive.archive_originals(move.app.config(), move.run)
    move.add(move.app.config().target_path, "notes", "since")
    rollback.roll_back(move.app.config(), move.run)
    assert move.tree() == move.before
    assert move.texts(move.app.notes, "notes") == ["a", "b", "c", "since"]
    assert move.answer() == {"notes": 4, "events": 3}
    after = {n: f[0] for n, f in look_at(move.app.root).items() if not n.startswith(".unify-db")}
    assert after == before, "every name is what it was: a file, a folder, a link"
    assert not move.app.config().target_path.exists()


@pytest.mark.parametrize("what", ["the-target", "a-source"])
@pytest.mark.usefixtures("without_a_look_at_the_interpreter")
def test_another_file_system_is_moved_to_and_back(tmp_path: Path, what: str) -> None:
    app = TinyApplication.create(tmp_path)
    elsewhere = app.root / "data" / "elsewhere"
    with small_file_system(elsewhere, size="64m"):
        if what == "the-target":
            rewrite(app, "data/unified.db", "data/elsewhere/unified.db")
        else:
            shutil.move(app.notes, elsewhere / "notes.db")
            app.notes = elsewhere / "notes.db"
            for file in (app.toml, app.root / ".env"):
                file.write_text(file.read_text().replace("data/notes.db", "data/elsewhere/notes.db"))
        try:
            there_and_back(Move(tmp_path, app))
        finally:
            app.stop()
        assert [p.name for p in elsewhere.iterdir()] == ([] if what == "the-target" else ["notes.db"])


@pytest.mark.parametrize(
    "what", ["a-source", "the-targets-folder", "the-configurations-folder", "the-edited-file"]
)
@pytest.mark.usefixtures("without_a_look_at_the_interpreter")
def test_links_in_a_path_stay_links(tmp_path: Path, what: str) -> None:
    app = TinyApplication.create(tmp_path)
    if what == "a-source":
        real = app.root / "data" / "real.db"
        app.notes.rename(real)
        app.notes.symlink_to(real)
    elif what == "the-targets-folder":
        (app.root / "real").mkdir()
        (app.root / "new").symlink_to("real")
        rewrite(app, "data/unified.db", "new/unified.db")
    elif what == "the-configurations-folder":
        (tmp_path / "link").symlink_to(app.root)
        app.toml = tmp_path / "link" / "unify.toml"
    else:
        (app.root / ".env").rename(app.root / "settings.env")
        (app.root / ".env").symlink_to("settings.env")
    try:
        there_and_back(Move(tmp_path, app))
    finally:
        app.stop()


# ---- the way back --------------------------------------------------------------------------------


def test_a_file_that_was_edited_since_the_switch_gets_its_old_content_and_is_kept(move: Move) -> None:
    move.switch()
    env = move.app.root / ".env"
    env.write_text(env.read_text() + "ADDED=1\n")
    edited = env.read_bytes()
    rollback.roll_back(move.app.config(), move.run)
    assert is_old(move)
    kept = list(move.run.preimages.glob("*-.env.changed-since"))
    assert [p.read_bytes() for p in kept] == [edited]


# Between fork and exec a child still has everything open that its parent has, the lock too.
_SLOW_FORK = """
import pathlib, subprocess, time
popen = subprocess.Popen.__init__
def begin():
    pathlib.Path({mark!r}).touch()
    time.sleep(1)
def slow(*arguments, **named):
    popen(*arguments, **named, preexec_fn=begin)
subprocess.Popen.__init__ = slow
"""


@pytest.mark.parametrize("forking", [False, True], ids=["in the stop's program", "before that begins"])
def test_a_cutover_whose_process_is_killed_is_taken_back_by_whoever_waits_for_it(
    move: Move, monkeypatch: pytest.MonkeyPatch, forking: bool
) -> None:
    mark = move.app.root.parent / "stop-begun"
    program = f"import pathlib, stop, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(1)"
    (move.app.root / "slow_stop.py").write_text(program)
    rewrite(move.app, "{python} stop.py", "{python} slow_stop.py")
    move.run = move.prepare_again()
    if forking:
        slow = _SLOW_FORK.format(mark=str(mark))
        monkeypatch.setattr(cutover, "_PROGRAM", slow + cutover._PROGRAM)

    def kill() -> None:
        while not mark.exists():
            time.sleep(0.01)
        begun = [e for e in read_entries(move.run.journal) if (e.event, e.status) == ("cutover", "begin")]
        os.kill(begun[-1].fields["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(CutoverUndoneError, match="ended with code -9, and all was taken back"):
        cutover.run_cutover(move.app.config(), move.run, move.approval())
    killer.join()
    assert is_old(move)
    assert move.answer() == {"notes": 3, "events": 3}


def test_an_application_that_starts_neither_way_is_said_to_be_away_with_its_files_as_before(
    move: Move,
) -> None:
    server = move.app.root / "server.py"
    working = server.read_text()
    server.write_text("raise SystemExit('broken since it was started')\n")
    move.before = move.tree()
    with pytest.raises(
        CutoverUndoneError, match=r"(?s)exited with code 1.*taking the cut-over back stopped"
    ) as caught:
        move.switch()
    assert caught.value.exit_code == ExitCode.UNDONE
    assert "Files and configuration are as before, but the application does not run" in caught.value.hint
    assert f"unify-db rollback {move.run.name}" in caught.value.hint
    assert is_old(move)
    server.write_text(working)
    rollback.roll_back(move.app.config(), move.run)
    assert move.answer() == {"notes": 3, "events": 3}


# ---- clocks that jump ----------------------------------------------------------------------------


def test_a_run_that_begins_after_the_clock_was_set_back_is_the_newest_all_the_same(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    names = [create_run(tmp_path, now=now - timedelta(hours=n)).name for n in range(3)]
    assert [r.name for r in list_runs(tmp_path)] == names
    assert open_run(tmp_path).name == names[-1]


@pytest.mark.parametrize("hours", [-5, 5], ids=["back", "forward"])
def test_a_run_that_is_at_work_is_known_as_such_when_the_clock_was_set(tmp_path: Path, hours: int) -> None:
    run = create_run(tmp_path)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=hours)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "datetime", Clock)
        Journal(run).write("run", "begin", pid=os.getpid())
    assert read_entries(run.journal)[0].at != datetime.now(UTC)
    assert read_state(run).state == "running"


def test_evidence_from_the_future_is_not_taken_for_fresh(tmp_path: Path) -> None:
    app = TinyApplication.create(tmp_path)
    config = app.config()
    run = create_run(config.state_folder)
    backups = phases.backup(run, phases.plan(config, run))
    run.save("backup", backups.model_copy(update={"taken_at": datetime.now(UTC) + timedelta(hours=1)}))
    assert run.load("backup", Backups) is not None
    with pytest.raises(GateClosedError, match="the clock was set back"):
        gates.pose(config, run)


def test_a_clock_that_is_set_back_makes_nobody_wait_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path)
    now = datetime.now(UTC)
    question = Question(
        run=run.name,
        asked_at=now,
        expires_at=now + timedelta(seconds=0.2),
        expires_since="approval.timeout is 0.2 s",
        evidence_sha256=run.evidence_digest(),
    )
    run.save("question", question)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now.astimezone(tz)

    monkeypatch.setattr(approval, "datetime", Stopped)
    monkeypatch.setattr(approval, "POLL_S", 0.01)
    assert approval.wait_for_decision(run, question).choice == "expire"
