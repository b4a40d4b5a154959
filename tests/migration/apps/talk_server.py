"""Conversations over HTTP, on the standard library alone; what goes wrong is planted by files beside it.

lose: the newest message of a thread is not given. shout: texts are given in capitals. broken: /talk
answers 500. mute: a stream ends before its last event. hang: no answer to a POST.
"""

import json
import random
import sqlite3
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from settings import database_path

HERE = Path(__file__).parent
PLANTED = ("lose", "shout", "broken", "mute", "hang")
LOSE, SHOUT, BROKEN, MUTE, HANG = ((HERE / name).exists() for name in PLANTED)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ping":
            return self.answer(200, {"ok": True})
        _, kind, thread = self.path.split("/")
        messages = read(thread)
        if kind == "text":
            return self.send(200, "text/plain; charset=utf-8", "\n".join(m["text"] for m in messages))
        if kind == "stream":
            events = [f"event: message\ndata: {json.dumps(m)}\n\n" for m in messages]
            return self.send(200, "text/event-stream", "".join(events[: -1 if MUTE else None]))
        if kind == "by_text":
            return self.answer(200, {m["text"]: m["id"] for m in messages})
        if kind == "luck":
            return self.answer(200, {"number": random.random(), "messages": messages})
        answer = {"messages": messages, "asked_at": time.time_ns()}
        return self.answer(500 if BROKEN else 200, answer)

    def do_POST(self):
        if HANG:
            time.sleep(60)
        thread = self.path.split("/")[2]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with closing(sqlite3.connect(database_path(), timeout=10)) as connection, connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("INSERT INTO messages (thread, text) VALUES (?, ?)", (thread, body["text"]))
        return self.answer(200, {"count": len(read(thread)), "said": body})

    def answer(self, status, content):
        return self.send(status, "application/json", json.dumps(content))

    def send(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def read(thread):
    with closing(sqlite3.connect(database_path())) as connection:
        rows = connection.execute("SELECT id, text FROM messages WHERE thread = ? ORDER BY id", (thread,))
        found = [{"id": i, "text": text.upper() if SHOUT else text} for i, text in rows]
    return found[:-1] if LOSE else found


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
