"""A server on the standard library alone, with two SQLite files."""

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent


def database(key):
    for line in (HERE / ".env").read_text().splitlines():
        if line.startswith(f"{key}="):
            return HERE / line.removeprefix(f"{key}=")
    raise LookupError(key)


def count(key, table):
    with closing(sqlite3.connect(database(key))) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer({"notes": count("NOTES", "notes"), "events": count("EVENTS", "events")})

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with closing(sqlite3.connect(database("NOTES"))) as connection, connection:
            connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        self.answer({"kept": True})

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    pid_file = HERE / "server.pid"
    pid_file.write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
