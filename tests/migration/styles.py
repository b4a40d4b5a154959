"""The small applications of `tests/applications`: copied, filled by their own code, moved and taken back.

Each of them sets its paths in another style. `answers/STYLE.toml` is what a person adds to what `init`
writes.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import tomlkit

from flows import initiate
from flows.direct import Direct
from tests.migration.filler import Filler
from tests.migration.plain_move import state
from unified_db import files
from unified_db.migration import (
    application,
    cutover,
    gates,
    phases,
    process_table,
    processes,
    rollback,
    stage,
)
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.records import CutoverRecord, SuitesEvidence
from unified_db.migration.runs import RunFolder, create_run

APPLICATIONS = Path(__file__).parent.parent / "applications"
_MADE_BY_RUNNING = {".unify-db", "__pycache__", ".pytest_cache"}
_THREAD = "since"


@dataclass(frozen=True)
class Style:
    """One of the applications.

    Attributes:
        name: Its folder.
        table: A table of its own.
        writes: What adds a row that says "since" and a step to the thread "since": the path of a POST, or
            the arguments of a script.
        reads: What shows that row: the path of a GET, or the arguments of a script.
        asks: What the questions are about that `init` leaves open beside the review of what a copy reaches.
    """

    name: str
    table: str
    writes: str
    reads: str
    asks: tuple[str, ...] = ("app.stop", "benchmark.request")


class Application:
    """A copy of the application of *style* in *folder*, with its data and without a configuration."""

    def __init__(self, style: Style, folder: Path, filler: Filler) -> None:
        self.style = style
        self.root = folder / style.name
        left_out = shutil.ignore_patterns(*_MADE_BY_RUNNING, "*.db*", "*.sqlite*", "*.pid")
        shutil.copytree(APPLICATIONS / style.name, self.root, ignore=left_out)
        filler.fill(self.root)

    @property
    def toml(self) -> Path:
        return self.root / "unify.toml"

    def call(self, *arguments: str) -> str:
        """What a script of the application prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def initiate(self) -> list[str]:
        """Write `unify.toml` as `unify-db init --yes` does; what it still asks about."""
        answer = initiate.initiate(self.root, None, asks=False)
        return [question["about"] for question in answer.facts["questions"]]

    def answer(self) -> MigrationConfig:
        """The configuration, once a person has answered what `init` asks.

        Beside the answers a port that is free here, and a short watch.
        """
        document = tomlkit.parse(self.toml.read_text())
        document["staging"]["reviewed"] = True
        document["app"]["port"] = processes.free_port()
        document["cutover"]["soak_s"] = 0.2
        answers = APPLICATIONS / "answers" / f"{self.style.name}.toml"
        more = "\n" + answers.read_text() if answers.exists() else ""
        self.toml.write_text(tomlkit.dumps(document) + more)
        return load_config(self.toml)

    def tree(self) -> dict[str, bytes]:
        """Every file of the application but databases, `unify.toml` and what running it leaves."""
        return {name: content for name, content in self._files() if not _is_data(Path(name))}

    def databases(self) -> dict[str, bytes]:
        """Every file that is a database or stands beside one."""
        return {name: content for name, content in self._files() if _is_data(Path(name))}

    def _files(self) -> list[tuple[str, bytes]]:
        return [
            (str(path.relative_to(self.root)), path.read_bytes())
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path != self.toml and not _MADE_BY_RUNNING & set(path.parts)
        ]


def _is_data(path: Path) -> bool:
    return any(path.suffix.startswith(ending) for ending in (".db", ".sqlite", ".pid"))


@dataclass
class Move:
    """The move of *app* to one file and back.

    Attributes:
        switched: The cut-over, once it was made.
    """

    app: Application
    config: MigrationConfig
    run: RunFolder
    switched: CutoverRecord | None = None

    @classmethod
    def begin(cls, app: Application, config: MigrationConfig) -> Move:
        """A new run, of which nothing is done yet."""
        run = create_run(config.state_folder)
        files.write_durably(run.config, config.file.read_bytes())
        return cls(app, config, run)

    def rehearse(self) -> SuitesEvidence:
        """All short of the switch but the benchmark; what the suites did on old files and on the unified one.

        Response times are no matter of how an application sets its paths, and measuring takes a minute.

        Raises:
            UnifyError: A gate is closed, or the plan refuses.
        """
        direct, config, run = Direct(), self.config, self.run
        plan = direct.plan(config, run)
        gates.require_covered(plan)
        stage.require_reviewed(config)
        backups = direct.backup(run, plan)
        unified = direct.merge(run, backups)
        direct.validate(run, backups, unified)
        direct.suites(config, run, direct.stage(config, run, backups, unified))
        phases.unstage(run)
        evidence = run.load("evidence-suites", SuitesEvidence)
        assert evidence is not None
        return evidence

    def start(self) -> None:
        """Start the application as a person would, on what it is configured to use."""
        config = self.config
        processes.start_detached(
            config.command(config.app.start),
            cwd=config.cwd,
            env=processes.application_environment(config),
            log_file=self.run.path / "before.log",
        ).wait_ready(processes.ready_url(config, port=config.app.port), timeout_s=30)

    def switch(self) -> None:
        self.switched = cutover.perform_cutover(self.config, self.run)

    def write(self) -> str:
        """Have the application write a row and a step of a thread; what it shows then."""
        if self.config.app.start:
            self._ask("POST", self.app.style.writes)
        else:
            self.app.call(*self.app.style.writes.split())
        return self.read()

    def read(self) -> str:
        """What the application shows."""
        if not self.config.app.start:
            return self.app.call(*self.app.style.reads.split())
        return self._ask("GET", self.app.style.reads)

    def _ask(self, method: str, path: str) -> str:
        url = f"http://127.0.0.1:{self.config.app.port}{path}"
        with httpx.Client(timeout=30, trust_env=False) as client:
            return client.request(method, url).raise_for_status().text

    def stop(self) -> None:
        """Stop what the switch started, where no command does."""
        if not self.config.app.stop:
            self._end_process()

    def back(self) -> None:
        rollback.roll_back(self.config, self.run)
        self.switched = None

    def end(self) -> None:
        """Leave no process behind."""
        self._end_process()
        with suppress(Exception):
            application.stop(self.config)

    def _end_process(self) -> None:
        if self.switched is not None and self.switched.pid is not None:
            application.end_started(process_table.describe(self.switched.pid))
        self.switched = None


def rows(*paths: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of all *paths* with its rows."""
    return {name: found for path in paths for name, found in state(path)[1].items()}


def steps(path: Path) -> int:
    """How many checkpoints of the thread "since" are in the file at *path*."""
    with closing(sqlite3.connect(path)) as conn:
        sql = "SELECT count(*) FROM checkpoints WHERE thread_id = ?"
        return int(conn.execute(sql, (_THREAD,)).fetchone()[0])
