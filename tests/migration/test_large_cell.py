"""A cell of 900 MB, within memory. Takes minutes and gigabytes of disk: `make test-large`."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

CELL_BYTES = 900_000_000
LIMIT_BYTES = 150_000_000 + 3 * CELL_BYTES

# RssAnon leaves out the mapped pages of the files; nothing but sampling tells its highest value.
MERGE = """
import json, pathlib, sys, threading, time
from unified_db.migration import standalone

highest, done = 0, threading.Event()

def watch():
    global highest
    while not done.wait(0.01):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                highest = max(highest, int(line.split()[1]) * 1024)

watcher = threading.Thread(target=watch)
watcher.start()
report = standalone.merge_sources([pathlib.Path(p) for p in sys.argv[2:]], pathlib.Path(sys.argv[1]))
done.set()
watcher.join()
print(json.dumps({"highest": highest, "passed": all(v.passed for v in report.verdicts)}))
"""


@pytest.mark.skipif("UNIFY_DB_LARGE" not in os.environ, reason="minutes and gigabytes; `make test-large`")
@pytest.mark.parametrize("by_pages", [True, False], ids=["by-pages", "by-rows"])
def test_a_cell_of_900_mb(tmp_path: Path, by_pages: bool) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as conn, conn:
        conn.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, body BLOB)")
        conn.execute("INSERT INTO files VALUES (1, randomblob(?))", (CELL_BYTES,))
    with closing(sqlite3.connect(tmp_path / "other.db")) as conn, conn:
        conn.execute("CREATE TABLE other (b)")
        size = 1000 if by_pages else CELL_BYTES // 2
        conn.executemany("INSERT INTO other VALUES (zeroblob(?))", [(size,)] * 3)
    command = [
        sys.executable,
        "-c",
        MERGE,
        *(str(tmp_path / n) for n in ("unified.db", "app.db", "other.db")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    print(told)
    assert told["passed"]
    assert 0 < told["highest"] <= LIMIT_BYTES
