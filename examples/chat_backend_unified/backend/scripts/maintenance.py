"""Checks the databases and, with --vacuum, gives unused space back. Stop the server for that."""

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

BACKEND_DIR = Path(__file__).resolve().parent.parent
DATABASES = ("data/unified_app.sqlite",)


def check(path: Path, *, vacuum: bool) -> bool:
    """Print a line on one database; whether it is sound."""
    # mode=rw: a missing database is an error, not a new, empty file.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
        if vacuum:
            database.execute("VACUUM")
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        broken_keys = len(database.execute("PRAGMA foreign_key_check").fetchall())
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
    name = path.relative_to(BACKEND_DIR)
    print(f"{name}: {verdict}, {broken_keys} broken foreign keys, {pages} pages, {free} free")
    return verdict == "ok" and broken_keys == 0


def main() -> int:
    """0 when every database is sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vacuum", action="store_true")
    options = parser.parse_args()
    sound = [check(BACKEND_DIR / name, vacuum=options.vacuum) for name in DATABASES]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
