#!/bin/sh
# Copies the databases into data/backup/TIMESTAMP, while the server runs or not.
#
# A plain cp would leave out what is still in a -wal file, so SQLite copies.
set -eu

cd "$(dirname "$0")/.."

DATABASES="data/unified_app.sqlite"
INTO="data/backup/$(date -u +%Y%m%dT%H%M%SZ)"

mkdir -p "$INTO"
for database in $DATABASES; do
    "${PYTHON:-python3}" - "$database" "$INTO/$(basename "$database")" <<'PYTHON'
import sqlite3
import sys
from contextlib import closing

source, copy = sys.argv[1:]
# mode=ro: a missing database is an error, not a new, empty file.
with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database:
    with closing(sqlite3.connect(copy)) as into:
        database.backup(into)
PYTHON
    echo "$INTO/$(basename "$database")"
done
