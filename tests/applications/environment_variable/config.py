import os

DATABASE_URL = os.getenv("DATABASE_URL", "sqlite+aiosqlite:///data/tickets.db")
CHECKPOINT_DB = os.environ.get("CHECKPOINT_DB", "data/memory.db")
