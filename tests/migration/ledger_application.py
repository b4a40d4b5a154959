"""A server on the standard library with two databases, and what must be true of it whatever was killed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Literal

import tomlkit

from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.processes import free_port
from unified_db.migration.runs import RunFolder

TREE = Path(__file__).parent / "apps" / "ledger"
TABLES = {"notes": "wal", "events": "delete"}
EDITED = (".env", "backup.sh", "count.sh")
_LEFT = re.compile(r"\.partial|\.ready|late-|-journal$|\.lock$|\.masked$|changed-since|found-at-old-path")
_WAIT_S = 20.0

State = Literal["old", "new"]


def copy_tree(origin: Path, copy: Path) -> None:
    """Copy a tree in which two names of one file stay that, as they are between two steps of a move."""
    known: dict[tuple[int, int], str] = {}

    def copy_file(source: str, target: str) -> str:
        status = os.lstat(source)
        first = known.setdefault((status.st_dev, status.st_ino), target)
        if first != target:
            os.link(first, target)
            return target
        return str(shutil.copy2(source, target, follow_symlinks=False))

    shutil.copytree(origin, copy, symlinks=True, copy_function=copy_file)


class LedgerApplication:
    """The application at `FOLDER/app`, with its ledger beside it and copies of its tree to go back to.

    Attributes:
        rows: What its tables hold besides the rows that the ledger tells of.
        served: False where no run starts or stops the server.
    """

    def __init__(self, folder: Path, *, served: bool = True) -> None:
        self.folder = folder
        self.served = served
        self.root = folder / "app"
        self.ledger = folder / "ledger"
        self.unified = self.root / "data" / "unified.db"
        self.rows = {"notes": ["a changed", "c", "late"], "events": ["a", "b", "c"]}
        self.port = free_port()

    def create(self) -> None:
        """Its tree with two databases, one in WAL mode, as before a run."""
        shutil.copytree(TREE, self.root)
        (self.root / ".env").write_text("# where it is\nNOTES=data/notes.db\nEVENTS=data/events.db\n")
        (self.root / ".env").chmod(0o600)
        (self.root / "backup.sh").chmod(0o750)
        (self.root / "data").mkdir()
        for table, mode in TABLES.items():
            with closing(sqlite3.connect(self.old(table))) as connection, connection:
                connection.execute(f"PRAGMA journal_mode={mode}")
                connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)")
                connection.executemany(f"INSERT INTO {table} (text) VALUES (?)", [("a",), ("b",), ("c",)])
            self.old(table).chmod(0o640)
        self._configure()
        self.before = self._configuration()

    def _configure(self) -> None:
        edits: list[dict[str, str]] = [
            {"file": ".env", "kind": "dotenv", "key": table.upper(), "value": "data/unified.db"}
            for table in TABLES
        ]
        edits += [
            {"file": file, "kind": "text", "when": "archive", "old": old, "new": "data/unified.db"}
            for file, old in (("backup.sh", "data/notes.db"), ("count.sh", "data/events.db"))
        ]
        server: dict[str, object] = {
            # Without what `site` does it starts twice as fast.
            "start": "{python} -I -S server.py {port}",
            "stop": "sh stop.sh",
            "port": self.port,
            "env": {"LEDGER": str(self.ledger)},
        }
        content = {
            "app": {"python": sys.executable, **(server if self.served else {})},
            "source": [
                {"path": "data/notes.db", "kind": "application"},
                {"path": "data/events.db", "kind": "other"},
            ],
            "target": {"path": "data/unified.db"},
            "edit": edits,
            "staging": {"reviewed": True},
            "cutover": {"soak_s": 0.0},
        }
        (self.root / "unify.toml").write_text(tomlkit.dumps(content))

    def old(self, table: str) -> Path:
        """The old file with *table*."""
        return self.root / "data" / f"{table}.db"

    def config(self) -> MigrationConfig:
        return load_config(self.root / "unify.toml")

    def keep(self, name: str) -> None:
        """Keep the tree and the ledger as they are under *name*."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        copy_tree(self.root, self.folder / name)
        (self.folder / f"{name}.ledger").write_text(self.ledger.read_text() if self.ledger.exists() else "")

    def restore(self, name: str) -> None:
        """Make the tree and the ledger what they were when they were kept under *name*."""
        shutil.rmtree(self.root)
        copy_tree(self.folder / name, self.root)
        shutil.copyfile(self.folder / f"{name}.ledger", self.ledger)

    def state(self) -> str:
        """A digest of all that a process finds: every file but logs, with its mode, and who serves."""
        digest = hashlib.sha256(str([p for p in self._started() if self._serves(p)]).encode())
        for path in sorted(self.root.rglob("*")):
            digest.update(f"{path} {path.lstat().st_mode}\n".encode())
            if path.is_file() and path.suffix != ".log":
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def start(self) -> None:
        """Start the server as its owner does, and wait until it serves."""
        server = [sys.executable, "-I", "-S", str(self.root / "server.py"), str(self.port)]
        os.posix_spawn(sys.executable, server, {"LEDGER": str(self.ledger)}, setsid=True)
        deadline = time.monotonic() + _WAIT_S
        while self.ask() is None:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.002)

    def ask(self, path: str = "/") -> dict[str, list[str]] | None:
        """All rows, as the server answers; None where nobody listens."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_WAIT_S) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:
            return None
        return dict(json.loads(answer.partition(b"\r\n\r\n")[2])) if answer else None

    def end(self) -> int:
        """End all servers by force; how many there were."""
        alive = [pid for pid in self._started() if self._serves(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(alive)

    def _started(self) -> list[int]:
        return [int(line[3:]) for line in self._told() if line.startswith("up ")]

    def _told(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def _serves(self, pid: int) -> bool:
        try:
            return b"server.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _configuration(self) -> dict[str, tuple[str, int]]:
        paths = [self.root / name for name in EDITED]
        return {p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mode) for p in paths}

    def problems(self, wanted: State, run: RunFolder) -> list[str]:
        """What is not as it must be; *wanted* is how the run was to end. The server is ended."""
        answer = self.ask("/add")
        found = [] if answer else ["the application does not answer"]
        found += self._wrong_rows(answer or {})
        alive = self.end()
        found += [] if alive == 1 else [f"{alive} servers were up"]
        found += self._wrong_files(wanted)
        found += self._leftovers(wanted)
        found += self._wrong_modes(run)
        return found

    def wrong_on_disk(self, wanted: State, *, archived: bool) -> list[str]:
        """As :meth:`problems`, of one that nobody serves, and of what it has itself alone."""
        found = self._wrong_files(wanted, archived=archived)
        if not found:
            files = {t: self.unified if wanted == "new" else self.old(t) for t in TABLES}
            found = self._wrong_rows({table: rows_of(file, table) for table, file in files.items()})
        return found

    def _wrong_rows(self, answer: dict[str, list[str]]) -> list[str]:
        lines = [line.split(" ") for line in self._told()]
        wrong = []
        for table, known in self.rows.items():
            rows = Counter(answer.get(table, ()))
            told = {s: {words[2] for words in lines if words[:2] == [s, table]} for s in ("begin", "done")}
            wrong += [f"{table}: {row} is there {rows[row]} times" for row in known if rows[row] != 1]
            wrong += [f"{table}: {row} is lost" for row in told["done"] if not rows[row]]
            wrong += [f"{table}: {row} is there {n} times" for row, n in rows.items() if n > 1]
            wrong += [f"{table}: {row} is nobody's" for row in rows if row not in told["begin"] | set(known)]
        return wrong

    def _wrong_files(self, wanted: State, *, archived: bool = True) -> list[str]:
        now, wrong = self._configuration(), []
        for name, before in self.before.items():
            if wanted == "old" and now[name] != before:
                wrong.append(f"{name} is not as before")
            edited = archived or name == ".env"
            if wanted == "new" and edited and "data/unified.db" not in (self.root / name).read_text():
                wrong.append(f"{name} is not edited")
            if now[name][1] != before[1]:
                wrong.append(f"{name} has another mode")
        for table, mode in TABLES.items():
            wrong += self._wrong_old(table, mode) if wanted == "old" else self._wrong_fence(table)
        if wanted == "new":
            wrong += [] if integrity(self.unified) == "ok" else ["the unified file is damaged"]
            wrong += [] if self.unified.stat().st_mode & 0o777 == 0o640 else ["the unified file's mode"]
        return wrong

    def _wrong_old(self, table: str, mode: str) -> list[str]:
        path = self.old(table)
        if not path.exists() or not path.read_bytes().startswith(b"SQLite format 3\x00"):
            return [f"{path.name} is no database"]
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA journal_mode").fetchone()[0]
        wrong = [] if found == mode else [f"{path.name} is in mode {found}"]
        wrong += [] if integrity(path) == "ok" else [f"{path.name} is damaged"]
        return wrong + ([] if path.stat().st_mode & 0o777 == 0o640 else [f"{path.name} has another mode"])

    def _wrong_fence(self, table: str) -> list[str]:
        path = self.old(table)
        if not path.exists():
            return [f"{path.name} has no fence"]
        first = path.read_bytes().partition(b"\n")[0].decode(errors="replace")
        return [] if first == f"This database moved to {self.unified}" else [f"{path.name} is no fence"]

    def _leftovers(self, wanted: State) -> list[str]:
        found = [p for p in self.root.rglob("*") if _LEFT.search(p.name) and p.name != "cutover.lock"]
        expected = {"notes.db", "events.db"} | ({"unified.db"} if wanted == "new" else set())
        there = {p.name for p in (self.root / "data").iterdir()}
        # The server was ended by force, so what its own connections left beside its files is its own.
        strange = {n for n in there - expected if n.removesuffix("-wal").removesuffix("-shm") not in expected}
        wrong = [f"{p.relative_to(self.root)} is left" for p in found] + [
            f"data/{n} is left" for n in strange
        ]
        top = {p.name for p in self.root.iterdir()}
        known = {p.name for p in TREE.iterdir()} | {".env", ".unify-db", "data", "server.pid", "unify.toml"}
        wrong += [f"{n} is new" for n in top - known]
        return wrong

    def _wrong_modes(self, run: RunFolder) -> list[str]:
        state = run.path.parents[1]
        folders = [state, state / "runs", *(p for p in run.path.rglob("*") if p.is_dir()), run.path]
        wrong = [f"{p.name} is open to others" for p in folders if p.stat().st_mode & 0o77]
        held = [run.journal, run.log, *run.preimages.iterdir(), *run.evidence.iterdir(), *_files(run.archive)]
        wrong += [f"{p.name} is open to others" for p in held if p.stat().st_mode & 0o77]
        if (state / ".gitignore").read_text() != "*\n":
            wrong.append(".gitignore does not ignore all")
        lock = run.path / "cutover.lock"
        if lock.exists():
            with lock.open() as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    wrong.append("cutover.lock is held")
        return wrong


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def rows_of(path: Path, table: str) -> list[str]:
    """The texts of *table* in the database at *path*."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT text FROM {table}")]


def integrity(path: Path) -> str:
    """What SQLite says of the file at *path*."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
