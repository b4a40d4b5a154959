"""Exits with 1 where the file `broken` lies beside it and the databases are one."""

import sys
from pathlib import Path

from server import HERE, count, database

assert count("NOTES", "notes") == 3
sys.exit(int(Path(HERE / "broken").exists() and database("NOTES") == database("EVENTS")))
