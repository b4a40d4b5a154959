"""The command as a script sees it: standard output, exit codes, and that it always ends."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_side.tiny_application import SECRET, TinyApplication
from unified_db.migration.processes import free_port

REPOSITORY = Path(__file__).parent.parent
ALWAYS = {"ok", "verb", "run", "exit_code", "error", "message", "hint"}
OF_A_RUN = {"state", "verdicts", "write_pause_ms", "downtime_ms", "report", "archive", "next"}
OF_A_MERGE = {"target", "tables", "bytes", "seconds", "verdicts"}


class Command:
    """Calls `unify-db` in a folder, as the entry point does, with a Prefect home of its own."""

    def __init__(self, cwd: Path, home: Path, *, module: str = "unified_db._launcher") -> None:
        self.module = module
        self.cwd = cwd
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        self.env = {**kept, "PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(home), "COLUMNS": "200"}

    def __call__(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*arguments),
            cwd=self.cwd,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def json(self, *arguments: object, **env: str) -> dict[str, Any]:
        """The one object on standard output; its exit code must be the process's."""
        done = self(*arguments, "--json", **env)
        (line,) = done.stdout.splitlines()
        content: dict[str, Any] = json.loads(line)
        assert content["exit_code"] == done.returncode, done.stderr
        assert content["ok"] == (done.returncode == 0)
        assert set(content) >= ALWAYS
        return content

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.line(*arguments),
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", self.module, *map(str, arguments)]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()


@pytest.fixture
def unify(tiny: TinyApplication, tmp_path: Path) -> Command:
    return Command(tiny.root, tmp_path / "prefect")


@pytest.fixture
def played(tiny: TinyApplication, tmp_path: Path) -> Command:
    """As `unify`, with suites and benchmark played: for what is a matter of the command alone."""
    return Command(tiny.root, tmp_path / "prefect", module="tests.migration.asked")


def wait_for(line: str, application: TinyApplication) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        logs = application.root.glob(".unify-db/runs/*/run.log")
        if any(line in log.read_text() for log in logs):
            return
        time.sleep(0.02)
    pytest.fail(f"no run came to {line!r}")


def is_untouched(application: TinyApplication) -> bool:
    with closing(sqlite3.connect(application.notes)) as connection:
        rows = connection.execute("SELECT count(*) FROM notes").fetchone()[0]
    settings = (application.root / ".env").read_text()
    return rows == 3 and "NOTES=data/notes.db" in settings and not application.unified.exists()


# ---- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["fly"], id="an-unknown-verb"),
        pytest.param(["rollback"], id="a-missing-run"),
        pytest.param(["approve"], id="a-missing-run-to-approve"),
        pytest.param(["reject", "20200101T000000Z-0000"], id="an-unknown-run-to-reject"),
        pytest.param(["status", "--speed", "9"], id="an-unknown-option"),
        pytest.param(["status", "20200101T000000Z-0000"], id="an-unknown-run"),
        pytest.param(["plan", "--config", "nowhere.toml"], id="a-missing-configuration"),
        pytest.param(["merge", "--into", "x.db"], id="nothing-to-merge"),
    ],
)
def test_wrong_use_ends_with_2_and_a_sentence(unify: Command, arguments: list[str]) -> None:
    content = unify.json(*arguments)
    assert content["exit_code"] == 2
    assert content["message"]
    assert content["hint"]


def test_help_and_no_verb_show_the_verbs(unify: Command) -> None:
    for arguments in ([], ["--help"]):
        done = unify(*arguments)
        assert done.returncode == 0
        for verb in ("run", "status", "approve", "reject", "resume", "rollback"):
            assert f" {verb} " in done.stdout


def test_help_and_status_do_not_wait_for_prefect(unify: Command) -> None:
    code = "import sys, flows.cli; sys.exit('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=unify.env, cwd=unify.cwd, check=False)
    assert done.returncode == 0


# ---- files without an application ----------------------------------------------------------------


def test_merge_then_validate(unify: Command, tiny: TinyApplication) -> None:
    sources = (tiny.notes, tiny.events)
    merged = unify.json("merge", *sources, "--into", tiny.unified)
    assert set(merged) >= OF_A_MERGE
    assert {t["name"]: t["rows"] for t in merged["tables"]} == {"notes": 3, "events": 3}
    assert merged["bytes"] == tiny.unified.stat().st_size
    assert unify.json("validate", *sources, "--against", tiny.unified)["ok"]


def test_validate_ends_with_3_and_names_the_difference(unify: Command, tiny: TinyApplication) -> None:
    sources = (tiny.notes, tiny.events)
    unify.json("merge", *sources, "--into", tiny.unified)
    with closing(sqlite3.connect(tiny.unified)) as connection, connection:
        connection.execute("UPDATE notes SET text = 'other' WHERE id = 2")
    content = unify.json("validate", *sources, "--against", tiny.unified)
    assert content["exit_code"] == 3
    failed = [f for v in content["verdicts"] for f in v["findings"] if not f["passed"]]
    assert any("notes" in f["where"] for f in failed)


def test_a_source_that_is_no_database_ends_with_4(unify: Command, tiny: TinyApplication) -> None:
    tiny.notes.write_bytes(b"not a database")
    assert unify.json("merge", tiny.notes, tiny.events, "--into", tiny.unified)["exit_code"] == 4


@pytest.mark.parametrize("target", ["data", ""], ids=["a-folder", "an-empty-name"])
def test_a_target_that_is_a_folder_is_wrong_use_and_no_matter_of_a_source(
    unify: Command, tiny: TinyApplication, target: str
) -> None:
    for option, verb in (("--into", "merge"), ("--against", "validate")):
        content = unify.json(verb, tiny.notes, tiny.events, option, target)
        assert content["exit_code"] == 2
        assert f"the target {tiny.root / target} is a folder" in content["message"]
        assert option in content["hint"]
        assert "source" not in content["hint"]
    assert not (tiny.root / ".unify-db").exists()


def test_a_file_where_a_folder_is_asked_for_is_wrong_use(unify: Command, tiny: TinyApplication) -> None:
    other = tiny.root / "check_tiny.py"
    merge = ("merge", tiny.notes, tiny.events, "--into", tiny.unified, "--backups", other)
    for call in (
        merge,
        ("backup", tiny.notes, "--into", other),
        ("backup", tiny.notes, "--into", other / "x"),
    ):
        content = unify.json(*call)
        assert content["exit_code"] == 2
        assert f"{other} is no folder" in content["message"]
        assert "another folder" in content["hint"]
    assert not (tiny.root / ".unify-db").exists()


def test_backup_then_restore(unify: Command, tiny: TinyApplication, tmp_path: Path) -> None:
    copy = unify.json("backup", tiny.notes, "--into", tmp_path / "kept")["backup"]
    with closing(sqlite3.connect(tiny.notes)) as connection, connection:
        connection.execute("DELETE FROM notes")
    assert unify.json("restore", copy, "--to", tiny.notes)["ok"]
    assert is_untouched(tiny)


# ---- runs without Prefect ------------------------------------------------------------------------


def test_plan_reads_only(unify: Command, tiny: TinyApplication) -> None:
    content = unify.json("plan")
    assert content["ok"]
    assert {t["name"] for s in content["plan"]["sources"] for t in s["tables"]} == {"notes", "events"}
    assert Path(content["schema"]).exists()
    assert is_untouched(tiny)


def test_a_dry_run_changes_nothing(unify: Command, tiny: TinyApplication) -> None:
    content = unify.json("dry-run", "--no-prefect")
    assert content["ok"], content
    assert set(content) >= OF_A_RUN
    assert [v["gate"] for v in content["verdicts"]] == ["validation", "suites", "benchmark"]
    assert all(v["passed"] for v in content["verdicts"])
    assert is_untouched(tiny)


def test_run_status_rollback(unify: Command, tiny: TinyApplication) -> None:
    done = unify.json("run", "--no-prefect")
    assert done["state"] == "archived", done
    assert done["downtime_ms"] > 0
    assert Path(done["archive"]).is_dir()
    assert "NOTES=data/unified.db" in (tiny.root / ".env").read_text()
    with closing(sqlite3.connect(tiny.unified)) as connection, connection:
        connection.execute("INSERT INTO notes (text) VALUES ('later')")
    told = unify.json("status")
    assert {k: told[k] for k in OF_A_RUN} == {k: done[k] for k in OF_A_RUN}

    back = unify.json("rollback", done["run"])
    assert back["state"] == "rolled_back"
    assert "NOTES=data/notes.db" in (tiny.root / ".env").read_text()
    with closing(sqlite3.connect(tiny.notes)) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone()[0] == 4
    assert unify.json("resume", done["run"])["exit_code"] == 2


def test_a_closed_gate_ends_with_3_and_switches_nothing(unify: Command, tiny: TinyApplication) -> None:
    (tiny.root / "broken").touch()
    content = unify.json("run", "--no-prefect")
    assert content["exit_code"] == 3
    assert content["state"] == "closed"
    assert "suites: closed" in content["message"]
    assert "Nothing was switched" in content["hint"]
    assert is_untouched(tiny)


def test_people_read_the_same_without_json(unify: Command, tiny: TinyApplication) -> None:
    done = unify("dry-run", "--no-prefect")
    assert "All three gates are open" in done.stdout
    assert "plan: done in" in done.stderr
    assert "Traceback" not in done.stderr
    files = [p for p in (tiny.root / ".unify-db").rglob("*") if p.is_file() and p.suffix in {".log", ".md"}]
    assert SECRET not in "".join([done.stdout, done.stderr, *(p.read_text() for p in files)])


def test_a_second_run_is_refused_with_4(unify: Command, tiny: TinyApplication) -> None:
    (tiny.root / "check_tiny.py").write_text("import time; time.sleep(60)")
    first = unify.start("dry-run", "--no-prefect")
    try:
        wait_for("suites: begins", tiny)
        content = unify.json("dry-run", "--no-prefect")
        assert content["exit_code"] == 4
        assert str(first.pid) in content["message"]
        assert unify.json("status")["state"] == "running"
    finally:
        first.terminate()
        first.communicate(timeout=120)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_an_interrupted_run_leaves_all_as_it_was_and_can_be_resumed(
    unify: Command, tiny: TinyApplication, number: signal.Signals, code: int
) -> None:
    # Outside of the tree, of which the run makes a copy.
    flag = tiny.root.parent / "slow"
    flag.touch()
    suite = tiny.root / "check_tiny.py"
    waits = f"import pathlib, time\nwhile pathlib.Path({str(flag)!r}).exists(): time.sleep(0.1)\n"
    suite.write_text(waits + suite.read_text())
    going = unify.start("dry-run", "--no-prefect", "--json")
    wait_for("suites: begins", tiny)
    going.send_signal(number)
    content = json.loads(going.communicate(timeout=180)[0])
    assert going.returncode == content["exit_code"] == code
    assert "resume" in content["hint"]
    assert is_untouched(tiny)
    told = unify.json("status")
    assert told["state"] == "interrupted"
    flag.unlink()
    assert unify.json("resume", told["run"])["ok"]


_TWICE = """
import signal
from flows import ending
ending.take_signals()
try:
    signal.raise_signal(signal.SIGHUP)
except ending.TerminatedError:
    signal.raise_signal(signal.SIGHUP)
    print("cleared away", end="")
"""
_IGNORED = """
import signal
from flows import ending
signal.signal(signal.SIGHUP, signal.SIG_IGN)
ending.take_signals()
signal.raise_signal(signal.SIGHUP)
print("goes on", end="")
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(_TWICE, "cleared away", id="said-twice-it-does-not-disturb-what-the-first-began"),
        pytest.param(_IGNORED, "goes on", id="under-nohup-it-is-ignored"),
    ],
)
def test_the_end_of_the_terminal(unify: Command, code: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], env=unify.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_bug_of_ours_is_a_sentence(unify: Command, tiny: TinyApplication) -> None:
    (tiny.root / ".unify-db").write_text("a file where a folder belongs")
    done = unify("plan")
    assert done.returncode == 1
    assert "a bug of unify-db" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in unify("plan", "--debug").stderr


# ---- with Prefect, and without it ----------------------------------------------------------------


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


class Unwell(http.server.BaseHTTPRequestHandler):
    """Says that it is well, and refuses all else."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.send_response(200 if self.path.endswith("/health") else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_run_is_shown_in_prefect_with_no_server_started(played: Command, tiny: TinyApplication) -> None:
    content = played.json("run")
    assert content["state"] == "archived", content
    with closing(sqlite3.connect(played.home / "prefect.db")) as connection:
        assert connection.execute("SELECT name, state_name FROM flow_run").fetchall() == [
            ("run tiny", "Completed")
        ]
        states = dict(connection.execute("SELECT name, state_name FROM task_run"))
        keys = {k for (k,) in connection.execute("SELECT key FROM artifact")}
    assert states == dict.fromkeys(
        [*("plan", "backup", "merge", "validate", "stage"), *("suites", "benchmark", "cutover", "archive")],
        "Completed",
    )
    assert {"unify-cutover", "unify-summary"} <= keys
    assert not (played.home / ".sdk_telemetry").exists()


def test_a_locked_prefect_database_does_not_stop_a_run(played: Command) -> None:
    played.home.mkdir()
    with closing(sqlite3.connect(played.home / "prefect.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN EXCLUSIVE")
        done = played("dry-run")
    assert done.returncode == 0, done.stderr
    assert "Prefect is not reachable" in done.stderr
    assert "going on without it" in done.stderr


def test_a_prefect_database_that_is_none_does_not_stop_a_run(played: Command) -> None:
    played.home.mkdir()
    (played.home / "prefect.db").write_bytes(b"not a database")
    assert played("dry-run").returncode == 0


def test_an_api_that_is_gone_does_not_stop_a_run(played: Command) -> None:
    done = played("dry-run", PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    assert done.returncode == 0, done.stderr
    assert "going on without it" in done.stderr


def test_an_api_that_refuses_everything_does_not_stop_a_run(played: Command) -> None:
    with serving(Unwell) as url:
        done = played("dry-run", PREFECT_API_URL=url, PREFECT_CLIENT_MAX_RETRIES="0")
    assert done.returncode == 0, done.stderr
    assert "Prefect failed" in done.stderr
    assert "Error logging to API" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["sigterm", "sighup"])
def test_a_terminated_run_takes_its_prefect_server_along(
    unify: Command, tiny: TinyApplication, number: signal.Signals
) -> None:
    (tiny.root / "check_tiny.py").write_text("import time; time.sleep(60)")
    going = unify.start("dry-run")
    wait_for("suites: begins", tiny)
    going.send_signal(number)
    going.communicate(timeout=300)
    assert going.returncode == 143
    assert is_untouched(tiny)
    command = f"{unify.home}".encode()
    left = [p for p in Path("/proc").glob("[0-9]*/environ") if _holds(p, command)]
    assert left == []


def _holds(environ: Path, text: bytes) -> bool:
    try:
        return text in environ.read_bytes()
    except OSError:
        return False


def test_merge_and_validate_rename_and_unite(tmp_path: Path) -> None:
    command = Command(tmp_path, tmp_path / "prefect")
    sql = "CREATE TABLE t (k TEXT PRIMARY KEY, v); CREATE TABLE u (x);"
    for name in ("a.db", "b.db"):
        with closing(sqlite3.connect(command.cwd / name)) as connection:
            connection.executescript(sql + f"INSERT INTO t VALUES ('{name}', 1), ('both', 2);")
    layout = ["--rename", "b.db:u=other_u", "--union", "t"]
    refused = command.json("merge", "a.db", "b.db", "--into", "unified.db")
    assert refused["exit_code"] == 4
    assert "[[rename]]" in refused["hint"]
    merged = command.json("merge", "a.db", "b.db", "--into", "unified.db", *layout)
    assert merged["exit_code"] == 0
    assert {(t["name"], t["source"], t["original"], t["united"]) for t in merged["tables"]} == {
        ("t", "a.db", None, True),
        ("t", "b.db", None, True),
        ("u", "a.db", None, False),
        ("other_u", "b.db", "u", False),
    }
    assert "3 tables merged and proven equal" in merged["message"]
    assert "u of b.db is now other_u" in merged["hint"]
    validated = command.json("validate", "a.db", "b.db", "--against", "unified.db", *layout)
    assert validated["exit_code"] == 0
    colliding = command.json("validate", "a.db", "b.db", "--against", "unified.db", "--union", "t")
    assert colliding["exit_code"] == 4
    unknown = command.json("merge", "a.db", "b.db", "--into", "unified.db", "--rename", "a.db:gone=x")
    assert unknown["exit_code"] == 2
