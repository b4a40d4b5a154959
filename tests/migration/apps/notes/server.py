"""A server on the standard library alone; what goes wrong in it is planted by files beside it.

slow: milliseconds added to /notes. broken: /notes answers 500. noisy: /notes logs an error.
greedy: /notes keeps four megabytes per request. parent: a child process holds sixty-four.
hangs: /notes never answers. hangs_at_once: nor while another /notes is asked. other_answer: /notes
counts wrongly.
"""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from settings import database_path

HERE = Path(__file__).parent
WORK_S = 0.015
KEPT = []


def planted(name):
    path = HERE / name
    return path.read_text() if path.exists() else ""


SLOW_S, BROKEN, NOISY, GREEDY = (
    float(planted("slow") or 0) / 1000,
    *map(planted, ("broken", "noisy", "greedy")),
)
PARENT, HANGS, HANGS_AT_ONCE, OTHER_ANSWER = map(
    planted, ("parent", "hangs", "hangs_at_once", "other_answer")
)
HOLD = "import sys; kept = b'x' * 64_000_000; print('held', flush=True); sys.stdin.read()"
IN_NOTES = threading.Semaphore(1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/ping":
            return self.answer(200, {"ok": True})
        if self.path.startswith("/echo"):
            return self.answer(200, {"text": parse_qs(urlsplit(self.path).query)["text"][0]})
        alone = IN_NOTES.acquire(blocking=False)
        if HANGS or (HANGS_AT_ONCE and not alone):
            time.sleep(3600)
        time.sleep(WORK_S + SLOW_S)
        if alone:
            IN_NOTES.release()
        if GREEDY:
            KEPT.append(b"x" * 4_000_000)
        if NOISY:
            print("ERROR notes: could not read", flush=True)
        with closing(sqlite3.connect(database_path())) as connection:
            count = connection.execute("SELECT count(*) FROM notes").fetchone()[0]
        return self.answer(500 if BROKEN else 200, {"count": count + bool(OTHER_ANSWER)})

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        with closing(sqlite3.connect(database_path(), timeout=10)) as connection, connection:
            # How long a disk takes to sync says nothing of what is tested with this application.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        return self.answer(201, {"text": text})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    if PARENT:
        child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
