"""A client that writes all through a run: errors only while the application is away, and no row lost."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows import order
from flows.direct import Direct
from tests.migration import asked
from tests.migration.test_cutover import start_server
from tests.prefect_side.tiny_application import TinyApplication
from unified_db.migration import phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.journal import read_entries, read_state
from unified_db.migration.records import CutoverRecord
from unified_db.migration.runs import RunFolder

# SQLite's own patience, after which a request that waits for a lock fails.
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Asked:
    """One request of the client: when, with what text, and what was wrong with it; empty for nothing."""

    text: str
    begun: float
    ended: float
    problem: str = ""


@dataclass
class Client:
    """Writes rows through the application's API, three at a time, for the length of a block."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    @contextmanager
    def writing(self) -> Iterator[None]:
        over, numbers = threading.Event(), itertools.count()
        threads = [threading.Thread(target=self._write, args=(over, numbers)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _write(self, over: threading.Event, numbers: Iterator[int]) -> None:
        while not over.wait(0.02):
            text, begun, problem = f"row {next(numbers)}", time.time(), ""
            try:
                with urllib.request.urlopen(self.url, data=text.encode(), timeout=30) as answer:
                    answer.read()
            except OSError as error:
                problem = repr(error)
            self.asked.append(Asked(text, begun, time.time(), problem))


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyApplication]:
    # Half a minute on staged copies, which the client does not meet.
    monkeypatch.setattr(phases, "benchmark", asked.play_benchmark)
    made = TinyApplication.create(tmp_path)
    check = made.root / "check_tiny.py"
    check.write_text(check.read_text().replace("== 3", ">= 3"))
    start_server(made)
    yield made
    with suppress(Exception):
        made.stop()


def window_of(run: RunFolder) -> tuple[float, float]:
    """From the stop to the first healthy answer, as `time.time` tells it."""
    record = run.load("cutover", CutoverRecord)
    assert record is not None
    stop = next(e for e in read_entries(run.journal) if e.fields.get("name") == "stop")
    began = stop.at.timestamp()
    return began, began + record.downtime_ms / 1000


def migrate(config: MigrationConfig) -> RunFolder:
    run = order.begin(config, dry_run=False)
    order.migrate(Direct(), config, run, dry_run=False)
    return run


def test_a_client_sees_errors_in_the_window_alone_and_every_acknowledged_row_is_there_once(
    app: TinyApplication,
) -> None:
    client = Client(f"http://127.0.0.1:{app.config().app.port}/")
    with client.writing():
        run = migrate(app.config())
        time.sleep(0.3)
    assert read_state(run).state == "archived"
    began, ended = window_of(run)
    assert [a for a in client.asked if a.problem and (a.ended < began or a.begun > ended)] == []
    outside = [a.ended - a.begun for a in client.asked if a.ended < began or a.begun > ended]
    assert max(outside) < _PATIENCE_S

    with closing(sqlite3.connect(app.unified)) as conn:
        found = Counter(text for (text,) in conn.execute("SELECT text FROM notes"))
    acknowledged = {a.text for a in client.asked if not a.problem}
    before = {a.text for a in client.asked if not a.problem and a.ended < began}
    after = {a.text for a in client.asked if not a.problem and a.begun > ended}
    assert len(before) > 20
    assert after
    assert [text for text in acknowledged if found[text] != 1] == []
    assert max(found.values()) == 1
