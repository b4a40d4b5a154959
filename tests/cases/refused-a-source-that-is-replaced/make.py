"""Something that puts another file at the path of a source again and again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

CHANGES_BY_ITSELF = True


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    other = build_database(folder / "other.db", "CREATE TABLE t (x)")
    code = (
        "import os, shutil, sys, time\n"
        "while True: shutil.copyfile(sys.argv[2], sys.argv[1] + '.new'); "
        "os.replace(sys.argv[1] + '.new', sys.argv[1]); time.sleep(0.0001)"
    )
    replacing = subprocess.Popen([sys.executable, "-c", code, path, other])
    try:
        yield [path]
    finally:
        replacing.kill()
        replacing.wait()
