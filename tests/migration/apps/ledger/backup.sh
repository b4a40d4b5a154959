exec sqlite3 data/notes.db "$@"
