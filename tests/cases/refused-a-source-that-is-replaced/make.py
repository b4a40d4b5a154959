"""Something that puts another file at the path of a source again and again."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

CHANGES_BY_ITSELF = True


def make(folder: Path) -> Iterator[list[Path]]:
    path = build_database(folder / "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    others = folder / "others"
    others.mkdir()
    # Who reads the source itself would be its user.
    shutil.copy(path, others / "first.db")
    # None of them is deleted, so that none has the number of one that was there before.
    code = (
        "import itertools, os, shutil, sys, time\n"
        "for n in itertools.count():\n"
        "    other = shutil.copyfile(sys.argv[2], f'{sys.argv[2]}.{n}')\n"
        "    os.link(other, sys.argv[1] + '.new')\n"
        "    os.replace(sys.argv[1] + '.new', sys.argv[1])\n"
        "    time.sleep(0.001)"
    )
    replacing = subprocess.Popen([sys.executable, "-c", code, path, others / "first.db"])
    try:
        first = path.stat().st_ino
        while path.stat().st_ino == first:
            time.sleep(0.001)
        yield [path]
    finally:
        replacing.kill()
        replacing.wait()
