exec sqlite3 data/events.db "$@"
