import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from unified_db.migration.recording import Recording


@pytest.fixture
def root(tmp_path):
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def real(tmp_path):
    database = tmp_path / "real.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    return database


def record(root, code, *, watched=(), options=(), env=None, expect=0):
    """What a script with *code* in the tree opened, by its recording."""
    recording = Recording(root.parent / "recording", root=root, watched=watched)
    (root / "app.py").write_text(code)
    environment = recording.environment({**os.environ, **(env or {})})
    done = subprocess.run(
        [sys.executable, *options, "app.py"], cwd=root, env=environment, capture_output=True, check=False
    )
    assert done.returncode == expect, done.stderr
    assert not done.stderr
    return recording


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("data.db", id="relative"),
        pytest.param("{root}/data.db", id="absolute"),
        pytest.param("link.db", id="through-a-link"),
        pytest.param("file:data.db?cache=private", id="uri"),
        pytest.param("file://{root}/%64ata.db?mode=rwc#x", id="uri-with-escapes"),
    ],
)
def test_a_database_that_is_open_for_a_moment_is_noted_under_its_real_path(root, name):
    (root / "link.db").symlink_to("data.db")
    name = name.format(root=root)
    uri = name.startswith("file:")
    recording = record(root, f"import sqlite3\nsqlite3.connect({name!r}, uri={uri}).close()\n")
    assert recording.databases() == {root / "data.db"}
    (opening,) = recording.openings()
    assert (opening.event, opening.place) == ("sqlite3.connect", "app.py:2")


@pytest.mark.parametrize("name", [":memory:", "", "file::memory:", "file:x?mode=memory"])
def test_what_is_only_in_memory_is_no_file(root, name):
    recording = record(
        root, f"import sqlite3\nsqlite3.connect({name!r}, uri={name.startswith('file')}).close()\n"
    )
    assert not recording.openings()
    assert recording.heard == 1


OPENERS = {
    "read": "open({path!r}, 'rb').read(1)",
    "descriptor": "import os; os.close(os.open({path!r}, os.O_RDONLY))",
    "pathlib": "import pathlib; pathlib.Path({path!r}).read_bytes()",
    "bytes": "open({path!r}.encode(), 'rb').read(1)",
    "copy": "import shutil; shutil.copy2({path!r}, 'copy')",
    "remove": "import os; os.remove({path!r})",
    "rename": "import os; os.rename('app.py', {path!r})",
    "forked": "import os\nif not os.fork():\n    open({path!r}).close(); os._exit(0)\nos.wait()",
    "child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'open({path!r}).close()'])",
    "thread": "import threading\nt = threading.Thread(target=open, args=({path!r},)); t.start(); t.join()",
}


@pytest.mark.parametrize("opener", OPENERS)
def test_a_watched_file_is_noted_however_it_is_touched(root, real, opener):
    code = OPENERS[opener]
    code = code.replace("{path!r}", repr(str(real)) if opener != "child" else f'"{real}"')
    recording = record(root, code, watched=[real], options=["-W", "ignore"])
    assert {o.path for o in recording.openings()} == {real}


def test_a_watched_file_is_noted_through_a_link_with_another_name(root, real):
    (root / "other").symlink_to(real)
    recording = record(root, "open('other').close()", watched=[real])
    assert {o.path for o in recording.openings()} == {real}


def test_a_watched_sidecar_that_does_not_exist_yet_is_noted(root, real):
    wal = real.with_name("real.db-wal")
    recording = record(root, f"open({str(wal)!r}, 'w').close()", watched=[real, wal])
    assert {o.path for o in recording.openings()} == {wal}


def test_other_files_are_not_noted(root, real):
    assert not record(root, "open('app.py').close()", watched=[real]).openings()


def test_each_process_notes_a_database_once_however_often_it_connects(root):
    code = "import sqlite3\nfor _ in range(50): sqlite3.connect('a.db').close()\n"
    assert len(record(root, code).openings()) == 1


def test_a_relative_name_is_noted_anew_in_another_folder(root):
    code = (
        "import sqlite3, os\nsqlite3.connect('a.db').close()\nos.mkdir('x'); os.chdir('x')\n"
        "sqlite3.connect('a.db').close()\n"
    )
    assert record(root, code).databases() == {root / "a.db", root / "x" / "a.db"}


def test_the_application_keeps_its_own_sitecustomize_and_pythonpath(root, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/sitecustomize.py").write_text("import builtins\nbuiltins.OWN = __file__\n")
    code = (
        "import sys, sitecustomize\n"
        f"assert OWN == sitecustomize.__file__ == {str(tmp_path / 'own/sitecustomize.py')!r}\n"
        f"assert {str(tmp_path / 'own')!r} in sys.path\n"
        f"assert not [p for p in sys.path[:-1] if p.endswith('probe')], sys.path\n"
    )
    record(root, code, env={"PYTHONPATH": str(tmp_path / "own")})


def test_a_process_that_takes_no_hooks_is_not_counted_as_heard(root):
    code = "import sqlite3; sqlite3.connect('a.db').close()"
    recording = record(root, code, options=["-I"])
    assert (recording.heard, recording.databases()) == (0, frozenset())


def test_an_application_whose_notes_cannot_be_written_runs_on(root, real):
    code = f"import shutil; shutil.rmtree({str(root.parent / 'recording')!r}); open({str(real)!r}).close()"
    assert not record(root, code, watched=[real]).openings()


def test_a_new_recording_in_the_same_folder_begins_empty(root):
    record(root, "import sqlite3; sqlite3.connect('a.db').close()")
    assert not record(root, "pass").openings()


def test_a_line_that_was_cut_off_is_passed_over(root):
    recording = record(root, "import sqlite3; sqlite3.connect('a.db').close()")
    (note,) = Path(root.parent / "recording").glob("*.opened")
    with note.open("a") as stream:
        stream.write("('sqlite3.connect', '/hal")
    assert recording.databases() == {root / "a.db"}
