import os
import subprocess
import sys

import pytest

from unified_db.migration.opened import Probe
from unified_db.migration.recording import Recording


@pytest.fixture
def database(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "app.db").write_bytes(b"")
    return folder / "app.db"


def make_probe(tmp_path, database):
    return Probe(tmp_path / "probe", [database], Recording(tmp_path / "recording", root=tmp_path))


def follow(tmp_path, database, *command, env=None):
    probe = make_probe(tmp_path, database)
    with probe:
        environment = probe.environment({**os.environ, **(env or {})})
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    return probe, done


def python(code, *options):
    return [sys.executable, *options, "-c", code]


CONNECTS = "import sqlite3; sqlite3.connect({!r}).execute('SELECT 1 FROM sqlite_master')"


@pytest.mark.parametrize("name", [":memory:", "", "file::memory:", "file:x?mode=memory&cache=shared"])
def test_a_database_without_a_file_is_told_as_such(tmp_path, database, name):
    probe, _ = follow(tmp_path, database, *python(f"import sqlite3; sqlite3.connect({name!r}, uri=True)"))
    assert probe.recording.in_memory()
    assert probe.opened == probe.others == set()


# -I: nothing of ours is in the process, as in one of another language.
ATTACHES = """
import sqlite3
connection = sqlite3.connect(":memory:")
connection.execute("ATTACH 'data/app.db' AS a")
connection.execute("SELECT 1 FROM a.sqlite_master")
"""
REPLACES = """
import os
open("data/new", "w").close()
os.replace("data/new", "data/app.db")
open("data/app.db").close()
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(CONNECTS.format("data/app.db"), id="opens"),
        pytest.param(ATTACHES, id="attaches"),
        pytest.param(REPLACES, id="replaces-the-file-first"),
        pytest.param(
            f"import os\nif not os.fork(): os.setsid(); {CONNECTS.format('data/app.db')}\nelse: os.wait()",
            id="in-a-session-of-its-own",
        ),
    ],
)
def test_no_program_opens_a_database_unseen_however_short(tmp_path, database, code):
    probe, done = follow(tmp_path, database, *python(code, "-I"))
    assert done.returncode == 0, done.stderr
    assert probe.opened == {database}
    assert probe.recording.heard == 0


def test_a_database_that_nobody_opens_is_not_told(tmp_path, database):
    code = "import os; os.stat('data/app.db'); os.listdir('data'); open('data/other', 'w').close()"
    probe, _ = follow(tmp_path, database, *python(code))
    assert probe.opened == set()


def test_a_database_that_nobody_named_is_told_where_python_connects_to_it(tmp_path, database):
    probe, _ = follow(tmp_path, database, *python(CONNECTS.format("data/other.db")))
    assert probe.others == {tmp_path / "data" / "other.db"}
    assert probe.opened == set()
    assert not probe.recording.in_memory()


def test_a_sitecustomize_of_the_application_is_loaded_as_without_us(tmp_path, database):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.LOADED = __file__")
    code = f"print(LOADED); import sitecustomize as s; print(s.__file__); {CONNECTS.format('data/app.db')}"
    probe, done = follow(tmp_path, database, *python(code), env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.split() == [str(tmp_path / "sitecustomize.py")] * 2, done.stderr
    assert probe.recording.databases() == {database}


def test_an_interpreter_that_follows_no_search_path_runs_pytest_as_ever(tmp_path, database):
    """The parent has pytest loaded, its child knows nothing of our folder."""
    code = (
        "import pytest, subprocess, sys\n"
        "pytest.main(['--version'])\n"
        "print(subprocess.run([sys.executable, '-I', '-m', 'pytest', '--version'], text=True,"
        " capture_output=True))"
    )
    _, done = follow(tmp_path, database, *python(code))
    assert "returncode=0" in done.stdout, done.stdout + done.stderr


def test_what_lies_on_the_search_path_shadows_nothing(tmp_path, database):
    (tmp_path / "unify_db_names.py").write_text("MINE = True")
    code = "import unify_db_names; print(unify_db_names.MINE)"
    _, done = follow(tmp_path, database, *python(code), env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.strip() == "True"


def test_without_the_kernels_help_who_has_a_file_open_is_looked_at(tmp_path, database, monkeypatch):
    monkeypatch.setattr("unified_db.migration.watching.sys.platform", "elsewhere")
    probe = make_probe(tmp_path, database)
    with probe, database.open("rb"):
        probe.look([os.getppid()])
        assert probe.opened == set()
        probe.look([os.getpid()])
    assert probe.opened == {database}
