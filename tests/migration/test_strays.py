import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.conftest import used_by_another
from tests.migration.notes_application import NotesApplication
from unified_db.migration import naming, processes, stage, strays

START = "{python} server.py {port}"


@pytest.fixture
def notes(tmp_path):
    app = {"start": START, "ready": "/ping", "python": sys.executable, "port": processes.free_port()}
    return NotesApplication.create(tmp_path, app=app)


def guard_of(notes):
    config, *rest = notes.rehearse()
    stages = stage.stage_trees(config, *rest)
    return strays.Guard(config, stages), stages


def run_staged(guard, stages, command, *, side="after"):
    """Run *command* staged, ask for nothing while it runs, and return when it has ended."""
    env = guard.record("it", side).environment(dict(os.environ))
    done = subprocess.run(command, cwd=stages.root(side), env=env, capture_output=True, check=False)
    assert not done.returncode, done.stderr


def judge(notes, code, **options):
    """The findings where a staged script with *code* ran for a moment."""
    (notes.root / "stray.py").write_text(code)
    guard, stages = guard_of(notes)
    with guard:
        run_staged(guard, stages, [sys.executable, "stray.py"], **options)
    return guard.findings()


def test_nothing_touched_passes(notes):
    (finding,) = judge(notes, "import sqlite3\nsqlite3.connect('data/unified.db').close()\n")
    assert (finding.passed, finding.where, finding.measured) == (True, "all", "left alone")


def test_a_read_that_no_look_saw_is_named_with_the_line_that_did_it_and_the_line_that_names_it(notes):
    (notes.root / "settings.py").write_text(f"\nPATH = {str(notes.database)!r}\n")
    (finding,) = judge(notes, "import settings\nopen(settings.PATH, 'rb').read(100)\n")
    assert (finding.passed, finding.where) == (False, "data/notes.db")
    assert finding.measured.startswith("opened by process ")
    assert finding.measured.endswith(" at stray.py:2, named in settings.py:2")


def test_a_read_counts_also_while_the_real_application_uses_the_file(notes):
    with used_by_another(notes.database, "SELECT * FROM notes"):
        (finding,) = judge(notes, f"import sqlite3\nsqlite3.connect({str(notes.database)!r}).close()\n")
    assert not finding.passed
    assert " at stray.py:2" in finding.measured


@pytest.mark.parametrize(
    ("code", "word"),
    [
        pytest.param("import os\nos.remove({path!r})", "removed", id="removed"),
        pytest.param("import os\nos.rename({path!r}, {path!r} + '.old')", "moved", id="moved"),
        pytest.param("import os\nos.truncate({path!r}, 0)", "cut", id="cut"),
    ],
)
def test_what_was_done_to_the_file_is_said(notes, code, word):
    (finding,) = judge(notes, code.format(path=str(notes.database)))
    assert finding.measured.startswith(f"{word} by process ")


def test_a_file_that_another_program_opened_for_a_moment_counts_where_nobody_else_uses_it(notes):
    guard, stages = guard_of(notes)
    with guard:
        run_staged(guard, stages, ["cat", str(notes.database)])
    (finding,) = guard.findings()
    assert (finding.passed, finding.where) == (False, "data/notes.db")
    assert "gone before it could be named" in finding.measured


def test_what_the_real_application_does_meanwhile_is_not_held_against_staged_processes(notes):
    guard, _ = guard_of(notes)
    insert = "INSERT INTO notes (text) VALUES ('d')"
    with (
        used_by_another(notes.database, insert),
        guard,
        closing(sqlite3.connect(notes.database)) as connection,
        connection,
    ):
        connection.execute("INSERT INTO notes (text) VALUES ('e')")
    (finding,) = guard.findings()
    assert finding.passed
    assert finding.measured == "no staged process opened them; others use them"


def test_a_real_server_that_opens_its_file_for_each_request_alone_counts_as_somebody_else(notes):
    guard, _ = guard_of(notes)
    with socket.socket() as real_server:
        real_server.bind(("127.0.0.1", notes.config().app.port))
        real_server.listen()
        with guard, closing(sqlite3.connect(notes.database)) as connection, connection:
            connection.execute("INSERT INTO notes (text) VALUES ('d')")
    assert guard.findings()[0].passed


def test_a_changed_file_counts_by_its_content_where_nobody_else_used_it(notes, monkeypatch):
    monkeypatch.setattr(strays.Watch, "touched", lambda _: frozenset())
    guard, _ = guard_of(notes)
    with guard:
        status = notes.database.stat()
        content = bytearray(notes.database.read_bytes())
        content[-1] ^= 1
        notes.database.write_bytes(content)
        os.utime(notes.database, ns=(status.st_atime_ns, status.st_mtime_ns))
    (finding,) = guard.findings()
    assert (finding.where, finding.passed) == ("data/notes.db", False)
    assert finding.measured.startswith("changed")


def test_a_new_time_stamp_alone_is_no_change(notes):
    guard, _ = guard_of(notes)
    with guard:
        os.utime(notes.database)
    assert guard.findings()[0].passed


def test_a_target_that_a_staged_process_made_counts(notes):
    (finding,) = judge(notes, f"open({str(notes.config().target_path)!r}, 'w').close()")
    assert (finding.where, finding.passed) == ("data/unified.db", False)


def test_a_process_that_has_a_real_file_open_is_told_by_name_when_it_hears_no_hook(notes):
    (notes.root / "stray.py").write_text(
        f"import time\nf = open({str(notes.database)!r}, 'rb')\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    guard, stages = guard_of(notes)
    with (
        used_by_another(notes.database, "SELECT 1"),
        guard,
        processes.Server.start(
            [sys.executable, "-I", "stray.py"],
            cwd=stages.after,
            env=guard.record("it", "after").environment(dict(os.environ)),
            log_file=notes.root / "log",
        ) as server,
    ):
        while "up" not in processes.log_tail(server.log_file):
            time.sleep(0.02)
        guard.look(server.pids())
    (finding,) = guard.findings()
    assert (finding.passed, finding.where) == (False, "data/notes.db")
    assert f"opened by process {server.pid} " in finding.measured
    assert finding.measured.endswith("named in stray.py:2")


OUTLIVING = """
import subprocess, sys
quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}}
child = subprocess.Popen([sys.executable, "-I", "-c", {code!r}], **quiet)
open("pid", "w").write(str(child.pid))
while not __import__("os").path.exists("up"):
    pass
"""


def test_a_staged_process_that_outlives_its_command_does_not_pass_for_the_real_application(notes):
    code = f"import time; f = open({str(notes.database)!r}); open('up', 'w').close(); time.sleep(60)"
    (notes.root / "stray.py").write_text(OUTLIVING.format(code=code))
    guard, stages = guard_of(notes)
    try:
        with guard:
            run_staged(guard, stages, [sys.executable, "-W", "ignore", "stray.py"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((stages.after / "pid").read_text()), 9)
    (finding,) = guard.findings()
    assert not finding.passed
    assert (stages.after / "pid").read_text() in finding.measured


def write_settings(notes, line):
    (notes.root / "settings.txt").write_text(f"# the database\n{line}\n")


NAMED = {
    "absolute": ("{path}", "settings.txt:2"),
    "url": ("sqlite:///{path}?timeout=5", "settings.txt:2"),
    "percent-encoded": ("file://{quoted}", "settings.txt:2"),
    "from-the-home-folder": ("~/no te/notes/data/notes.db", "settings.txt:2"),
    "through-a-link": ("{linked}/data/notes.db", "settings.txt:2"),
    "its-folder": ('join("{folder}", "notes.db")', "settings.txt:2"),
    "the-root": ('BASE = "{root}"', "settings.txt:2"),
    "nowhere": ("data/notes.db", ""),
    # The file beside it says the folder.
    "another-file": ("{path}.bak", "settings.txt:2"),
    "a-longer-name": ("{root}-old/data", ""),
}


@pytest.mark.parametrize("form", NAMED)
def test_the_place_that_names_the_file_is_found_in_every_form(tmp_path, monkeypatch, form):
    home = tmp_path / "home"
    (home / "no te").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    notes = NotesApplication.create(home / "no te")
    (home / "linked").symlink_to(notes.root)
    line, place = NAMED[form]
    path = notes.database
    write_settings(
        notes,
        line.format(
            path=path,
            quoted=str(path).replace(" ", "%20"),
            linked=home / "linked",
            folder=path.parent,
            root=notes.root,
        ),
    )
    config = notes.config()
    if form == "through-a-link":
        config = config.model_copy(update={"file": home / "linked" / "unify.toml"})
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "settings.txt").write_bytes((notes.root / "settings.txt").read_bytes())
    assert naming.find_place(config, path, roots=[tree]) == place


def test_the_shell_s_working_folder_is_no_setting(notes, monkeypatch):
    monkeypatch.setenv("PWD", str(notes.root))
    assert naming.find_place(notes.config(), notes.database, roots=[]) == ""


def test_a_variable_that_names_the_file_is_told_by_its_name_alone(notes, monkeypatch):
    monkeypatch.setenv("NOTES_DATABASE", f"sqlite:///{notes.database}")
    (finding,) = judge(notes, "import os\nopen(os.environ['NOTES_DATABASE'].split('///')[1]).close()\n")
    assert finding.measured.endswith("named in the environment variable NOTES_DATABASE")


def test_the_place_in_a_database_or_a_large_file_is_none(notes):
    (notes.root / "a.bin").write_bytes(b"\0" + str(notes.database).encode())
    (notes.root / "b.txt").write_text(str(notes.database) + "\n" * 2**20)
    code = f"import pathlib\np = pathlib.Path({str(notes.database.parent)!r}, 'notes.db')\np.read_bytes()\n"
    (finding,) = judge(notes, code)
    assert finding.measured.endswith("named in stray.py:2")


@pytest.mark.parametrize("code", ["open('model.bin', 'ab').write(b'x')", "open('model.bin').read()"])
def test_writing_to_a_file_that_both_sides_share_closes_the_gate(notes, code):
    notes.settings["staging"] = {"reviewed": True, "shared": ["*.bin"]}
    (notes.root / "model.bin").write_bytes(b"x" * 1000)
    (finding,) = judge(notes, code)
    assert finding.passed == ("'ab'" not in code)
    assert finding.where == ("all" if finding.passed else "model.bin")
