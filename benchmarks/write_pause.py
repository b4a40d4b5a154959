"""How long an application is away while it is switched over, and what of that is ours.

    make bench-pause            1 GB of sources, three cases; writes docs/write-pause.{md,json}
    ... --gb 0.1 --runs 1       a quick trial, which writes nothing

Each run is a whole move of a fresh copy: plan, backup, merge, and the cut-over in a process of its
own, of a small application whose restart is measured beside it. A client asks every few
milliseconds all along. Where the time goes is read from the run's journal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomlkit

from benchmarks.data_path import machine
from benchmarks.data_path_sources import Sources, make_sources
from benchmarks.write_pause_report import markdown
from unified_db import files
from unified_db.migration import application, cutover, phases, processes
from unified_db.migration.config import MigrationConfig, load_config
from unified_db.migration.journal import read_entries
from unified_db.migration.records import Approval, CutoverRecord, GateName
from unified_db.migration.runs import RunFolder, create_run

ROOT = Path(__file__).resolve().parent.parent
CASES = (
    "nothing written late",
    "a writer from shortly before the cut-over until the stop",
    "a writer from before the backup until the stop",
)
_ASK_EVERY_S = 0.005
_WRITING_S = 2.0


@dataclass
class Client:
    """Asks the application again and again, and notes when it got an answer."""

    url: str
    answered: list[float] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask for the length of the block."""
        over = threading.Event()
        thread = threading.Thread(target=self._ask, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _ask(self, over: threading.Event) -> None:
        while not over.wait(_ASK_EVERY_S):
            try:
                with urllib.request.urlopen(self.url, timeout=5) as response:
                    response.read()
            except OSError:
                continue
            self.answered.append(time.monotonic())

    def longest_gap_ms(self) -> float:
        """Milliseconds between two answers, at the most."""
        pairs = zip(self.answered, self.answered[1:], strict=False)
        return max((later - earlier) * 1000 for earlier, later in pairs)


def install(folder: Path, sources: Sources) -> MigrationConfig:
    """A fresh copy of the application in *folder*, with copies of *sources*."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("write_pause_server.py"), folder / "server.py")
    keys = dict(zip(("APPLICATION", "CHECKPOINTS"), sources.paths, strict=True))
    for path in keys.values():
        files.copy_content(path, folder / "data" / path.name)
    (folder / ".env").write_text("".join(f"{k}=data/{p.name}\n" for k, p in keys.items()))
    start = {"start": "{python} server.py {port}", "stop": "{python} server.py stop", "ready": "/"}
    edits = [{"file": ".env", "kind": "dotenv", "key": k, "value": "data/unified.db"} for k in keys]
    values = {
        "app": {"python": sys.executable, "port": processes.free_port(), **start},
        "source": [
            {"path": f"data/{sources.application.name}", "kind": "application"},
            {"path": f"data/{sources.checkpoints.name}", "kind": "checkpoints"},
        ],
        "target": {"path": "data/unified.db"},
        "edit": edits,
        "cutover": {"soak_s": 0.1},
    }
    (folder / "unify.toml").write_text(tomlkit.dumps(values))
    os.sync()
    return load_config(folder / "unify.toml")


def start(config: MigrationConfig, run: RunFolder) -> None:
    """Start the application, and wait for its first answer."""
    with application.starting(config, run) as server:
        pass
    application.wait_healthy(config, server)


def restart_ms(config: MigrationConfig, run: RunFolder) -> float:
    """Stop issued to first healthy answer of a plain restart, in the median."""
    taken = []
    for _ in range(5):
        begun = time.monotonic()
        application.stop(config)
        start(config, run)
        taken.append((time.monotonic() - begun) * 1000)
    return statistics.median(taken)


def measure(folder: Path, sources: Sources, case: str) -> dict[str, Any]:
    """One whole move, and how long each step of its cut-over took."""
    config = install(folder, sources)
    run = create_run(config.state_folder)
    files.write_durably(run.config, config.file.read_bytes())
    start(config, run)
    try:
        return _move(config, run, case)
    finally:
        application.stop(config)
        shutil.rmtree(folder)


def _move(config: MigrationConfig, run: RunFolder, case: str) -> dict[str, Any]:
    folder = config.file.parent
    plain_ms = restart_ms(config, run)
    (folder / "write").touch() if case == CASES[2] else None
    backups = phases.backup(run, phases.plan(config, run))
    phases.merge(run, backups)
    (folder / "write").touch() if case == CASES[1] else None
    client = Client(processes.ready_url(config, port=config.app.port))
    with client.asking():
        time.sleep(_WRITING_S)
        record = cutover.run_cutover(config, run, _approval(run))
        time.sleep(0.2)
    (folder / "write").unlink(missing_ok=True)
    return {
        "restart_ms": plain_ms,
        "downtime_ms": record.downtime_ms,
        "pause_ms": record.downtime_ms - plain_ms,
        "late_rows": record.late_rows,
        "client_gap_ms": client.longest_gap_ms(),
        "steps": steps(run, record),
        "load": os.getloadavg()[0],
    }


def _approval(run: RunFolder) -> Approval:
    return Approval(
        run=run.name,
        approved_by="the benchmark",
        approved_at=datetime.now(UTC),
        evidence_sha256=run.evidence_digest(),
        gates=tuple(GateName),
    )


def steps(run: RunFolder, record: CutoverRecord) -> dict[str, float]:
    """Milliseconds between the marks that the cut-over leaves in its journal, from the stop on."""
    entries = read_entries(run.journal)
    began = next(e.at for e in entries if (e.event, e.fields.get("name")) == ("act", "stop"))
    taken: dict[str, float] = {}
    before, name_before = began, "stop"
    for entry in entries:
        name = str(entry.fields.get("name", ""))
        if entry.event != "act" or entry.at <= began:
            continue
        label = name if entry.status == "done" else f"{name_before}, then until {name}"
        label = name if name == name_before else label
        taken[label] = taken.get(label, 0.0) + (entry.at - before).total_seconds() * 1000
        before, name_before = entry.at, name
    since_start = record.downtime_ms - (before - began).total_seconds() * 1000
    return {**taken, "start, then until the first answer": since_start}


def main() -> None:
    """Measure all cases; with the full size also write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".benchmarks" / "write-pause")
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--into", type=Path, default=ROOT / "docs")
    parser.add_argument("--side", default="now", help="the name under which the figures are kept")
    parser.add_argument("--note", default="", help="what else went on, for the page")
    options = parser.parse_args()
    sources = make_sources(
        options.folder,
        f"{options.gb:g}",
        application_gb=0.15 * options.gb,
        checkpoints_gb=0.85 * options.gb,
    )
    side: dict[str, Any] = {"machine": machine() | {"note": options.note}, "bytes": sources.size_bytes}
    side["cases"] = {case: [] for case in CASES}
    for _ in range(options.runs):
        for case in CASES:
            found = measure(options.folder / "work", sources, case)
            side["cases"][case].append(found)
            print(json.dumps({"case": case, **found}), flush=True)
    kept = options.into / "write-pause.json"
    sides = json.loads(kept.read_text()) if kept.exists() else {}
    sides[options.side] = side
    print(markdown(sides))
    if options.gb >= 1:
        kept.write_text(json.dumps(sides, indent=1) + "\n")
        (options.into / "write-pause.md").write_text(markdown(sides))


if __name__ == "__main__":
    main()
