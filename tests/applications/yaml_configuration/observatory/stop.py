"""Ends the server that `python -m observatory` started here."""

import os
import signal
from contextlib import suppress
from pathlib import Path

with suppress(FileNotFoundError, ProcessLookupError):
    os.kill(int(Path("observatory.pid").read_text()), signal.SIGTERM)
Path("observatory.pid").unlink(missing_ok=True)
