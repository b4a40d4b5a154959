"""Where the database lies: from .env beside this file."""

from pathlib import Path

_HERE = Path(__file__).parent


def database_path() -> Path:
    for line in (_HERE / ".env").read_text().splitlines():
        if line.startswith("DATABASE="):
            return _HERE / line.removeprefix("DATABASE=")
    raise LookupError("DATABASE is not set")
