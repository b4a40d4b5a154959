"""The application that `write_pause.py` moves: two databases, a standard library server, and a writer.

    write_pause_server.py PORT      serves in the working folder
    write_pause_server.py stop      ends the one that serves there, and waits until it is gone

The writer is at work for as long as a file `write` lies there: a message, a changed user, and a
checkpoint with a pending write, each committed on its own, then a moment of rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PID = Path("server.pid")
_REST_S = 0.005
_MESSAGE = """
INSERT INTO messages (conversation_id, role, content, created_at)
SELECT conversation_id, role, content, created_at FROM messages LIMIT 1
"""
_USER = "UPDATE users SET name = name || 'x' WHERE id = 1 + abs(random()) % 1000"
_CHECKPOINT = """
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, type, checkpoint, metadata)
SELECT thread_id, checkpoint_ns, hex(randomblob(16)), type, checkpoint, metadata FROM checkpoints LIMIT 1
"""
_PENDING = """
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value)
SELECT thread_id, checkpoint_ns, hex(randomblob(16)), task_id, idx, channel, type, value FROM writes LIMIT 1
"""
_WRITES = (
    ("APPLICATION", _MESSAGE),
    ("APPLICATION", _USER),
    ("CHECKPOINTS", _CHECKPOINT),
    ("CHECKPOINTS", _PENDING),
)


def database(key: str) -> str:
    """Where `.env` says that the database *key* is."""
    lines = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines())
    return lines[key]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        counts = []
        for key, table in (("APPLICATION", "messages"), ("CHECKPOINTS", "checkpoints")):
            with closing(sqlite3.connect(database(key))) as conn:
                counts += conn.execute(f"SELECT max(rowid) FROM {table}").fetchone()
        body = repr(counts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


def _write() -> None:
    conns = {
        key: sqlite3.connect(database(key), isolation_level=None) for key in ("APPLICATION", "CHECKPOINTS")
    }
    while True:
        for key, sql in _WRITES if Path("write").exists() else ():
            conns[key].execute(sql)
        time.sleep(_REST_S)


def _stop() -> None:
    pid = int(_PID.read_text())
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGTERM)
        # A child of a process that does not collect it stays in /proc without a command line.
        while Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.005)


def main(argument: str) -> None:
    """What the module says."""
    if argument == "stop":
        _stop()
        return
    _PID.write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=_write, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(argument)), _Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
