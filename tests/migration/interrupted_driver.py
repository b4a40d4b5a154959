"""Takes one application through a whole move in children, each interrupted in another phase; JSON lines.

Each next child resumes what the one before left. Called as `interrupted_driver.py SIGNAL CONFIG`; what is
printed is how each child ended. What takes long is played where another child has done it for real.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import flows.answers
import flows.direct
import flows.terminal  # noqa: F401 - all that a child would import is imported before it is forked
from flows import cli
from tests.migration import asked
from unified_db.migration import (
    approval,  # noqa: F401 - as above, with the next two
    archive,
    backup,
    benchmark,  # noqa: F401
    load,
    merge,
    plan,
    rollback,  # noqa: F401
    runs,
    stage,
    suites,
    validate,
)
from unified_db.migration.config import load_config
from unified_db.migration.journal import read_entries

NUMBER = signal.Signals[sys.argv[1]]
CONFIG = load_config(Path(sys.argv[2]))

Plant = Callable[[], None]


def after(module: Any, name: str) -> Plant:
    """The signal comes when MODULE.NAME has done its work, before anything is made of it."""

    def plant() -> None:
        real = getattr(module, name)

        def interrupted(*arguments: Any, **named: Any) -> Any:
            found = real(*arguments, **named)
            os.kill(os.getpid(), NUMBER)
            return found

        setattr(module, name, interrupted)

    return plant


def once_journaled(event: str, name: str) -> Plant:
    """The signal comes when the newest run's journal tells of *event*, an act's *name* or a status."""

    def plant() -> None:
        known = len(read_entries(newest().journal)) if runs.list_runs(CONFIG.state_folder) else 0

        def look() -> None:
            while not any(
                e.event == event and name in (e.status, e.fields.get("name"))
                for e in read_entries(newest().journal)[known:]
            ):
                time.sleep(0.002)
            os.kill(os.getpid(), NUMBER)

        threading.Thread(target=look, daemon=True).start()

    return plant


def newest() -> runs.RunFolder:
    return runs.list_runs(CONFIG.state_folder)[-1]


def child(phase: str, *arguments: str, plant: Plant = lambda: None, played: bool = False) -> None:
    """Do one verb in a child and print how it ended."""
    told = CONFIG.root.parent / "told.json"
    pid = os.fork()
    if not pid:
        code = 99
        try:
            for number, name in ((1, told), (2, CONFIG.root.parent / "told.log")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            if played:
                asked.play()
            plant()
            code = cli.main([*arguments, "--config", str(CONFIG.file), "--json"])
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answer = json.loads(told.read_text() or "{}")
    facts = {k: answer.get(k) for k in ("state", "message", "hint", "exit_code")}
    print(json.dumps({"phase": phase, "code": code, **facts, "left": left_behind()}), flush=True)


def left_behind() -> list[str]:
    """Processes of ours that still work in the application's tree, and files that are not finished."""
    own = int((CONFIG.root / "server.pid").read_text()) if (CONFIG.root / "server.pid").exists() else 0
    found = [p.name for p in CONFIG.root.rglob("*.partial*")]
    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        inside = str(process.info["cwd"] or "").startswith(str(CONFIG.root))
        if inside and process.info["pid"] not in {own, os.getpid()}:
            found.append(" ".join(process.info["cmdline"] or ["?"]))
    with runs.hold_lock(CONFIG.state_folder, [CONFIG.target_path]):
        return found


def main() -> None:
    child("plan", "run", "--no-prefect", plant=after(plan, "make_plan"))
    run = newest().name
    for phase, module, name in (
        ("backup", backup, "take_backups"),
        ("merge", merge, "merge_backups"),
        ("validate", validate, "validate"),
        ("stage", stage, "stage_trees"),
        ("suites", suites, "run_suites"),
    ):
        child(phase, "resume", run, plant=after(module, name))
    if NUMBER == signal.SIGTERM:
        # Both staged servers are up then, which takes seconds and is the same for both signals.
        child("benchmark", "resume", run, plant=after(load.Load, "send_one_by_one"))
    child("ask", "resume", run, plant=once_journaled("run", "waiting"), played=True)
    child("approve", "approve", run)
    child("archive", "resume", run, plant=after(archive, "_archive"), played=True)
    child("archived", "resume", run, played=True)
    child("rollback", "rollback", run, plant=once_journaled("rollback", "begin"))
    text = CONFIG.file.read_text()
    CONFIG.file.write_text(text.replace('mode = "ask"', 'mode = "auto"'))
    child("cutover", "run", "--no-prefect", plant=once_journaled("act", "stop"), played=True)


if __name__ == "__main__":
    main()
