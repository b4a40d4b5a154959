"""Settings from the process environment and backend/.env."""

import os
from pathlib import Path

from dotenv import load_dotenv
from sqlalchemy.engine import make_url

BACKEND_DIR = Path(__file__).resolve().parent.parent

DEFAULT_DATABASE_URL = "sqlite:///./langgraph_agent.db"
DEFAULT_CHAT_MODEL = "offline-rules-1"
DEFAULT_LOG_LEVEL = "INFO"
DEFAULT_PORT = 8000


def load_env() -> None:
    """Read backend/.env; what the process environment already says stays."""
    load_dotenv(BACKEND_DIR / ".env", override=False)


def resolve_sqlite_url(url: str) -> str:
    """The same URL, a relative SQLite path made absolute: any working folder will do."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    path = (BACKEND_DIR / parsed.database).resolve()
    return parsed.set(database=str(path)).render_as_string(hide_password=False)


def get_database_url() -> str:
    """The application database as SQLAlchemy wants it."""
    return resolve_sqlite_url(os.environ.get("DATABASE_URL") or DEFAULT_DATABASE_URL)


def get_chat_model() -> str:
    """The model of conversations that name no provider."""
    return os.environ.get("CHAT_MODEL") or DEFAULT_CHAT_MODEL


def get_log_level() -> str:
    """The log level's name in capitals."""
    return (os.environ.get("LOG_LEVEL") or DEFAULT_LOG_LEVEL).upper()


def get_port() -> int:
    """The port to listen on when the command line names none."""
    return int(os.environ.get("PORT") or DEFAULT_PORT)


load_env()
