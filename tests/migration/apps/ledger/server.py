"""A server that is up after a few milliseconds, on two databases; it tells a ledger which rows it committed.

It reads its settings once, as it starts, adds a row to both tables then, one for every GET of /add, and
the last ones when it is asked to end. GET / answers all rows. The ledger, given in LEDGER, has a line
"begin TABLE TEXT" before each commit and "done TABLE TEXT" after it.
"""

import json
import os
import select
import signal
import socket
import sqlite3
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = ("notes", "events")


def settings():
    with open(f"{HERE}/.env", encoding="utf-8") as stream:
        lines = [line.strip().partition("=") for line in stream if "=" in line]
    return {key: value for key, _, value in lines}


def told(line):
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")


def add(connections, what):
    for table, connection in connections.items():
        text = f"{what}-{os.getpid()}-{time.monotonic_ns()}"
        told(f"begin {table} {text}")
        connection.execute(f"INSERT INTO {table} (text) VALUES (?)", (text,))
        told(f"done {table} {text}")


def rows(connections):
    return {t: [r[0] for r in c.execute(f"SELECT text FROM {t} ORDER BY id")] for t, c in connections.items()}


def answer(client, connections):
    path = client.recv(4096).split(b" ")[1]
    if path == b"/add":
        add(connections, "asked")
    body = json.dumps(rows(connections)).encode()
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve(listener, connections, asked_to_end):
    while True:
        ready, _, _ = select.select([listener, asked_to_end], [], [])
        if asked_to_end in ready:
            return
        client, _ = listener.accept()
        with client:
            client.settimeout(5)
            answer(client, connections)


def main():
    pid_file = f"{HERE}/server.pid"
    told(f"up {os.getpid()}")
    with open(pid_file, "w", encoding="utf-8") as stream:
        stream.write(str(os.getpid()))
    asked_to_end, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    found = settings()
    files = {t: f"{HERE}/{found[t.upper()]}" for t in TABLES}
    connections = {t: sqlite3.connect(f, isolation_level=None, timeout=10) for t, f in files.items()}
    add(connections, "started")
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        serve(listener, connections, asked_to_end)
    add(connections, "last")
    for connection in connections.values():
        connection.close()
    os.unlink(pid_file)


main()
