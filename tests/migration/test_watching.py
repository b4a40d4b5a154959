import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from unified_db.migration.watching import Watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    (tmp_path / "other").write_text("x")
    return tmp_path / "a.db"


TOUCHES = {
    "read": "cat a.db",
    "opened and closed": ": < a.db",
    "written": "echo x >> a.db",
    "moved": "mv a.db b.db",
    "removed": "rm a.db",
    "replaced": "cp a.db c; mv c a.db",
    "through another name": "cat hard",
    "attached": f"{sys.executable} -c \"import sqlite3; c = sqlite3.connect(':memory:'); "
    "c.execute('ATTACH \\'a.db\\' AS a'); c.execute('SELECT * FROM a.t')\"",
}


@pytest.mark.parametrize("how", TOUCHES)
def test_whatever_touches_a_file_for_a_moment_is_told(database, how):
    (database.parent / "hard").hardlink_to(database)
    with Watch([database]) as watch:
        subprocess.run(["sh", "-c", TOUCHES[how]], cwd=database.parent, check=True)
        assert watch.touched() == {database}
        assert watch.touched() == frozenset()


def test_a_file_that_comes_later_is_followed(database):
    wal = database.with_name("a.db-wal")
    with Watch([database, wal]) as watch:
        wal.write_bytes(b"")
        assert watch.touched() == {wal}


def test_other_files_of_the_folder_and_looking_at_a_status_tell_nothing(database):
    with Watch([database]) as watch:
        (database.parent / "other").read_text()
        database.stat()
        assert watch.touched() == frozenset()


def test_events_that_the_kernel_dropped_are_admitted(database):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with Watch([database]) as watch:
        for _ in range(limit // 2):
            os.close(os.open(database, os.O_RDONLY))
            os.close(os.open(database.parent / "other", os.O_RDONLY))
        assert watch.touched() == {database}
        assert watch.missed
