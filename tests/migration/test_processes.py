import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.migration.notes_application import NotesApplication
from unified_db.errors import ServerError
from unified_db.migration import application, process_table, processes

REPOSITORY = Path(__file__).parents[2]

SPAWNING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep({seconds})
"""


def wait_until(condition, *, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid):
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def run_python(code, folder, **options):
    options = {"timeout_s": 20, **options}
    return processes.run_command(
        [sys.executable, "-c", code], cwd=folder, env=dict(os.environ), log_file=folder / "log", **options
    )


def start_python(code, folder):
    return processes.Server.start(
        [sys.executable, "-c", code], cwd=folder, env=dict(os.environ), log_file=folder / "log"
    )


@pytest.fixture
def notes(tmp_path):
    return NotesApplication.create(tmp_path)


def start_notes(notes, port):
    config = notes.config()
    return processes.Server.start(
        config.command(config.app.start, port=port),
        cwd=config.cwd,
        env=processes.staged_environment(config, port=port, temporary=notes.root / "tmp"),
        log_file=notes.root / "server.log",
    )


def test_a_command_ends_with_its_exit_code_and_keeps_what_it_printed(tmp_path):
    result = run_python("print('said'); raise SystemExit(3)", tmp_path)
    assert (result.exit_code, result.timed_out, result.log.read_text()) == (3, False, "said\n")


@pytest.mark.parametrize(
    ("seconds", "timeout_s"), [pytest.param(60, 5, id="timed-out"), pytest.param(0, 60, id="ended-by-itself")]
)
def test_no_child_outlives_its_command(tmp_path, seconds, timeout_s):
    result = run_python(SPAWNING.format(seconds=seconds), tmp_path, timeout_s=timeout_s)
    assert result.timed_out == (seconds > 0)
    wait_until(lambda: not is_alive(int(result.log.read_text())))


DAEMON = """
import os, signal, time
ready, tell = os.pipe()
if os.fork():
    os.wait()
    os.read(ready, 1)
    time.sleep({seconds})
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
os.write(tell, b"x")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("seconds", "timeout_s"),
    [pytest.param(60, 5, id="timed-out"), pytest.param(0.2, 60, id="ended-by-itself")],
)
def test_no_daemon_that_left_its_command_behind_outlives_it(tmp_path, seconds, timeout_s):
    result = run_python(DAEMON.format(seconds=seconds), tmp_path, timeout_s=timeout_s)
    daemon = result.log.read_text().strip()
    assert not is_alive(int(daemon))
    assert [e.split()[0] for e in result.ended] == [daemon]


def test_a_command_that_ignores_the_request_to_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_GRACE_S", 0.5)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    result = run_python(code, tmp_path, timeout_s=5)
    assert (result.timed_out, result.exit_code) == (True, -9)


def test_what_a_command_prints_is_kept_from_both_ends_and_never_all_of_a_flood(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_LOG_LIMIT_BYTES", 2_000_000)
    monkeypatch.setattr(processes, "_LOG_HEAD_BYTES", 1_000)
    flood = "for n in range(100): print('x' * 1_000_000); time.sleep(0.02)"
    code = f"import time\nprint('first')\n{flood}\nprint('last')"
    tracemalloc.start()
    result = run_python(code, tmp_path)
    tail = processes.log_tail(result.log)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = result.log.read_text()
    assert kept.startswith("first\n")
    assert "[cut here: it printed too much to keep]" in kept
    assert tail.endswith("last")
    assert len(kept) < 100_000_000
    assert peak < 1_000_000


def test_what_was_printed_last_before_a_log_is_cut_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_LOG_LIMIT_BYTES", 2_000)
    monkeypatch.setattr(processes, "_LOG_HEAD_BYTES", 100)
    (tmp_path / "log").write_text("first\n" + "x" * 5_000 + "\nlast\n")
    processes._bound_log(tmp_path / "log")
    kept = (tmp_path / "log").read_text()
    assert (kept[:6], kept[-6:], len(kept)) == ("first\n", "\nlast\n", 241)


def test_a_command_that_does_not_exist_is_an_error_of_ours(tmp_path):
    with pytest.raises(ServerError, match="cannot start 'no-such-program'"):
        processes.run_command(
            ["no-such-program"], cwd=tmp_path, env={}, log_file=tmp_path / "log", timeout_s=1
        )


def test_a_server_gets_ready_and_stops_in_spite_of_a_proxy_in_the_environment(notes, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    port = processes.free_port()
    with start_notes(notes, port) as server:
        url = processes.ready_url(notes.config(), port=port)
        assert server.wait_ready(url, timeout_s=20) > 0
        assert processes.wait_ready(url, timeout_s=5) < 5000
        assert server.peak_rss_bytes() > 1_000_000
        assert server.pid in server.pids()
    assert not server.running


def test_a_server_that_exits_is_reported_with_its_last_lines(tmp_path):
    code = "for n in range(100): print('line', n)\nraise SystemExit(7)"
    with (
        start_python(code, tmp_path) as server,
        pytest.raises(ServerError, match="exited with code 7") as caught,
    ):
        server.wait_ready("http://127.0.0.1:9/", timeout_s=20)
    assert caught.value.message.endswith("line 99")
    assert "line 79" not in caught.value.message


def test_a_server_that_never_answers_is_given_up(tmp_path):
    with (
        start_python("import time; time.sleep(60)", tmp_path) as server,
        pytest.raises(ServerError, match=r"was not ready after 0\.3 s"),
    ):
        server.wait_ready("http://127.0.0.1:9/", timeout_s=0.3)
    assert not server.running


def test_a_server_that_ignores_the_request_to_stop_is_ended_in_bounded_time(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    server = start_python(code, tmp_path)
    while "up" not in processes.log_tail(server.log_file):
        time.sleep(0.02)
    assert server.stop(timeout_s=0.2) == -9


def test_a_detached_server_has_a_session_of_its_own_and_appends_to_its_log(tmp_path):
    log_file = tmp_path / "log"
    log_file.write_text("earlier\n")
    server = processes.start_detached(
        [sys.executable, "-c", "import sys, time; print(sys.stdin.read() == '', flush=True); time.sleep(60)"],
        cwd=tmp_path,
        env=dict(os.environ),
        log_file=log_file,
    )
    try:
        deadline = time.monotonic() + 10
        while "True" not in log_file.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert log_file.read_text() == "earlier\nTrue\n"
        assert os.getsid(server.pid) == server.pid
    finally:
        server.stop()


def test_a_server_waits_until_it_is_known_which_process_it_is(tmp_path):
    command = ["sh", "-c", 'touch "$1"; exec sleep 60', "it's", str(tmp_path / "begun")]
    with processes.starting(command, cwd=tmp_path, env=dict(os.environ), log_file=tmp_path / "log") as server:
        known = process_table.describe(server.pid)
        time.sleep(0.1)
        assert not (tmp_path / "begun").exists()
    try:
        wait_until((tmp_path / "begun").exists)
        assert process_table.is_there(known), "it is the process that was told of"
    finally:
        server.stop()
    assert not process_table.is_there(known)


KILLED_WHILE_STARTING = """
import json, os, signal
from pathlib import Path
from unified_db.migration import process_table, processes
folder = Path({folder!r})
with processes.starting({command!r}, cwd=folder, env=dict(os.environ), log_file=folder / "log") as server:
    os.write({tell}, json.dumps(process_table.describe(server.pid)).encode())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_never_begins_where_we_are_killed_before_it_is_known_which_process_it_is(tmp_path):
    told, tell = os.pipe()
    command = [sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w')"]
    killed = KILLED_WHILE_STARTING.format(command=command, folder=str(tmp_path), tell=tell)
    with subprocess.Popen([sys.executable, "-c", killed], cwd=REPOSITORY, pass_fds=[tell]) as process:
        assert process.wait() == -signal.SIGKILL
    known = json.loads(os.read(told, 1000))
    wait_until(lambda: not process_table.is_there(known))
    assert not (tmp_path / "begun").exists()


def test_another_process_that_has_the_number_by_now_is_not_ended(tmp_path):
    server = start_python("import time; time.sleep(60)", tmp_path)
    try:
        known = process_table.describe(server.pid)
        application.end_started({**known, "began": "another boot 1"})
        assert server.running
        application.end_started(known)
        assert not server.running
    finally:
        server.stop()


def test_a_staged_process_gets_its_own_port_and_folder_and_the_overlay(tmp_path):
    notes = NotesApplication.create(
        tmp_path,
        app={"env": {"MAIL": "real", "MODE": "app"}},
        staging={"reviewed": True, "env": {"MAIL": "none"}},
    )
    env = processes.staged_environment(notes.config(), port=4321, temporary=tmp_path / "mine")
    assert (env["MAIL"], env["MODE"], env["PORT"]) == ("none", "app", "4321")
    assert (env["TMPDIR"], env["PYTHONDONTWRITEBYTECODE"]) == (str(tmp_path / "mine"), "1")
    assert processes.application_environment(notes.config())["PORT"] == "8000"


def test_a_staged_process_does_not_speak_for_the_real_service_and_keeps_its_home(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("HOME", "/home/somebody")
    config = NotesApplication.create(tmp_path).config()
    env = processes.staged_environment(config, port=4321, temporary=tmp_path / "mine")
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS"} & set(env)
    assert env["HOME"] == "/home/somebody"
    assert {env[name] for name in ("TMPDIR", "TEMP", "TMP")} == {str(tmp_path / "mine")}
    assert processes.application_environment(config)["NOTIFY_SOCKET"] == "/run/systemd/notify"


@pytest.mark.parametrize(
    ("ready", "url"),
    [
        pytest.param("/ping", "http://127.0.0.1:4321/ping", id="path"),
        pytest.param("ping", "http://127.0.0.1:4321/ping", id="path-without-slash"),
        pytest.param("http://localhost:8000/a?b=c", "http://127.0.0.1:4321/a?b=c", id="whole-url"),
    ],
)
def test_the_ready_address_is_asked_on_the_port_of_the_staged_server(tmp_path, ready, url):
    notes = NotesApplication.create(tmp_path, app={"ready": ready})
    assert processes.ready_url(notes.config(), port=4321) == url


def test_who_holds_a_database_is_told_whatever_name_the_file_has(tmp_path):
    database, other_name = tmp_path / "a.db", tmp_path / "b.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (x)")
        other_name.hardlink_to(database)
        me = f"{os.getpid()} "
        assert [h for h in process_table.holders([other_name]) if h.startswith(me)]
        assert process_table.holders([database], exclude={os.getpid()}) == []
        assert process_table.holders([database], among=[os.getppid()]) == []
    assert process_table.holders([database, tmp_path / "missing"]) == []


def test_who_holds_only_the_write_ahead_log_is_told(tmp_path):
    database = tmp_path / "a.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        with (tmp_path / "a.db-wal").open("rb"):
            code = "import time; f = open('a.db-wal'); print('up', flush=True); time.sleep(60)"
            with start_python(code, tmp_path) as server:
                wait_until(lambda: "up" in processes.log_tail(server.log_file), seconds=30)
                assert process_table.holders([database], among=server.pids())


ORPHANING = """
import os, sys, time
from pathlib import Path
from unified_db.migration import processes
from unified_db.migration.processes import Server
folder = Path({folder!r})
if {slowly}:
    late = folder / "late"
    late.write_text(f'#!/bin/sh\\nsleep 0.5\\nexec {{processes._SETPRIV}} "$@"')
    late.chmod(0o700)
    processes._SETPRIV = str(late)
command = [sys.executable, "-c", "import time; time.sleep(60)"]
server = Server.start(command, cwd=folder, env=dict(os.environ), log_file=folder / "log")
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("slowly", [False, True], ids=["whenever", "before the kernel knows of it"])
def test_a_staged_server_does_not_outlive_a_killed_run(tmp_path, slowly):
    command = [sys.executable, "-c", ORPHANING.format(folder=str(tmp_path), slowly=slowly)]
    parent = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not is_alive(server))
