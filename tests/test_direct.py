"""Without Prefect a phase is tried again as often as with it, and only for what may pass."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import direct
from flows.direct import Direct
from tasks import retries
from tests.conftest import used_by_another
from tests.prefect_side.tiny_application import TinyApplication
from unified_db import sources
from unified_db.errors import GateClosedError, SourceBusyError, SourceError
from unified_db.migration import phases
from unified_db.migration.records import MigrationPlan
from unified_db.migration.runs import RunFolder, create_run


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long was waited before each further try, without the wait."""
    found: list[float] = []
    monkeypatch.setattr(direct.time, "sleep", found.append)
    return found


class Failing:
    """A phase that fails *times* times with *error*, then returns its number of tries."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.tries = error, times, 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return self.tries


def test_a_busy_source_is_tried_again_with_growing_delays(
    monkeypatch: pytest.MonkeyPatch, slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "unified_db")
    monkeypatch.setattr(phases, "plan", Failing(SourceBusyError("notes.db is locked"), 3))
    assert Direct().plan(None, None) == 4  # type: ignore[arg-type, comparison-overlap]  # played
    assert len(slept) == 3
    for waited, delay in zip(slept, retries.READS_FILES.delays_s, strict=True):
        assert delay <= waited <= delay * (1 + retries.READS_FILES.jitter)
    assert "plan: notes.db is locked; trying again in" in caplog.text
    assert "(1 of 3)" in caplog.text


def test_the_last_try_raises_what_it_met(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    failing = Failing(SourceBusyError("notes.db is locked"), 99)
    monkeypatch.setattr(phases, "backup", failing)
    with pytest.raises(SourceBusyError, match="is locked"):
        Direct().backup(None, None)  # type: ignore[arg-type]  # played
    assert failing.tries == 4


@pytest.mark.parametrize(
    ("phase", "error"),
    [
        pytest.param("plan", SourceError("corrupt"), id="a-corrupt-source"),
        pytest.param("suites", GateClosedError("closed"), id="a-closed-gate"),
        pytest.param("merge", ValueError("bug"), id="a-bug"),
        pytest.param("rollback", SourceBusyError("busy"), id="a-rollback-whatever-it-met"),
    ],
)
def test_what_is_not_transient_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, slept: list[float], phase: str, error: Exception
) -> None:
    failing = Failing(error, 99)
    monkeypatch.setattr(phases, phase, failing)
    arguments = [None] * {"plan": 2, "suites": 3, "merge": 2, "rollback": 2}[phase]
    with pytest.raises(type(error)):
        getattr(Direct(), phase)(*arguments)
    assert (failing.tries, slept) == (1, [])


def test_a_writer_that_holds_a_source_for_a_moment_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = TinyApplication.create(tmp_path)
    run: RunFolder = create_run(app.config().state_folder)
    # The patience of one try, which is seconds.
    monkeypatch.setattr(sources, "reading", functools.partial(sources.reading, timeout_s=0.2))
    monkeypatch.setitem(retries.OF_PHASES, "plan", retries.Retries((0.01, 0.01)))
    sql = "PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE; DELETE FROM notes WHERE id = 3"
    with used_by_another(app.notes, sql) as writer:

        def let_go(record: logging.LogRecord) -> bool:
            if "trying again" in record.getMessage():
                writer.kill()
                writer.wait()
            return True

        monkeypatch.setattr(direct.log, "filters", [let_go])
        found = Direct().plan(app.config(), run)
    assert isinstance(found, MigrationPlan)
    assert [t.rows for s in found.sources for t in s.tables] == [3, 3]
