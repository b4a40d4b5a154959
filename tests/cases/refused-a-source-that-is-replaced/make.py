"""Something that puts another file at the path of a source again and again."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import build_database

CHANGES_BY_ITSELF = True


def make(folder: Path) -> Iterator[list[Path]]:
    # Large enough that several replacements fall into every copy of it.
    sql = "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(30000000))"
    path = build_database(folder / "app.db", sql)
    others = [build_database(folder / name, sql) for name in ("1.db", "2.db", "3.db", "4.db", "5.db")]
    code = (
        "import itertools, os, sys, time\n"
        "for other in itertools.cycle(sys.argv[2:]): os.link(other, sys.argv[1] + '.new'); "
        "os.replace(sys.argv[1] + '.new', sys.argv[1]); time.sleep(0.001)"
    )
    replacing = subprocess.Popen([sys.executable, "-c", code, path, *others])
    try:
        first = path.stat().st_ino
        while path.stat().st_ino == first:
            time.sleep(0.001)
        yield [path]
    finally:
        replacing.kill()
        replacing.wait()
