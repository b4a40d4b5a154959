"""What Prefect may decide by itself: when to try again, and how long to wait for an artifact."""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from prefect import Task
from prefect.client.schemas.actions import ArtifactCreate
from prefect.states import Failed

from flows.order import Phases
from flows.unify import TASKS
from tasks import artifacts, labels, places, policy, retries, telling
from unified_db import pieces
from unified_db.errors import CutoverUndoneError, GateClosedError, SourceBusyError, SourceError

PHASES = [n for n in vars(Phases) if not n.startswith("_")]
NO_TASKS = {"announce", "summarise"}


@pytest.mark.parametrize(
    ("error", "again"),
    [
        pytest.param(SourceBusyError("busy"), True, id="a-busy-source-is-tried-again"),
        pytest.param(OSError(errno.EAGAIN, "again"), True, id="a-passing-os-error-is-tried-again"),
        pytest.param(OSError(errno.ENOSPC, "full"), False, id="a-full-disk-is-not"),
        pytest.param(SourceError("corrupt"), False, id="a-corrupt-source-is-not"),
        pytest.param(GateClosedError("closed"), False, id="a-closed-gate-is-not"),
        pytest.param(CutoverUndoneError("undone"), False, id="an-undone-cutover-is-not"),
        pytest.param(TimeoutError(), False, id="a-timeout-is-not"),
        pytest.param(ValueError("bug"), False, id="a-bug-is-not"),
    ],
)
def test_only_what_is_transient_is_tried_again(error: Exception, again: bool) -> None:
    state = Failed(data=error)
    assert policy.retries_transient(None, None, state) is again  # type: ignore[arg-type]  # asks neither


@pytest.mark.parametrize("phase", [p for p in PHASES if p not in NO_TASKS])
def test_every_phase_is_a_task_of_its_name_that_no_cache_answers(phase: str) -> None:
    task: Any = getattr(TASKS, phase)
    assert isinstance(task, Task)
    assert task.name == phase
    assert task.persist_result is False
    assert task.retries == 0 or task.retry_condition_fn is policy.retries_transient
    assert task.retries == 0 or task.timeout_seconds


@pytest.mark.parametrize("phase", [p for p in PHASES if p not in {*NO_TASKS, "rollback"}])
def test_every_phase_is_tried_again_for_what_is_transient_and_has_a_time_limit(phase: str) -> None:
    task: Any = getattr(TASKS, phase)
    assert task.retries > 0
    assert task.retry_condition_fn is policy.retries_transient
    assert task.timeout_seconds


@pytest.mark.parametrize("phase", [p for p in PHASES if p not in NO_TASKS])
def test_a_task_is_tried_as_often_as_the_same_phase_without_prefect(phase: str) -> None:
    task, how = cast("Any", getattr(TASKS, phase)), retries.OF_PHASES[phase]
    assert task.retries == len(how.delays_s)
    assert task.retries == 0 or task.retry_delay_seconds == list(how.delays_s)


def test_a_rollback_is_never_tried_twice_since_the_application_is_stopped_by_then() -> None:
    assert cast("Any", TASKS.rollback).retries == 0


def test_outside_of_a_prefect_run_no_artifact_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(artifacts.phase_pages, "phase_markdown", lambda *_: asked.append("a phase"))
    monkeypatch.setattr(artifacts.report, "summary_markdown", lambda *_: asked.append("the run"))
    artifacts.publish("plan", None)  # type: ignore[arg-type]  # not looked at
    artifacts.publish_summary(None)  # type: ignore[arg-type]  # not looked at
    assert asked == []


def test_an_artifact_that_hangs_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unified_db")
    monkeypatch.setattr(telling, "_came_late", threading.Event())
    hanging = threading.Event()
    started = time.monotonic()
    telling.bounded(lambda: hanging.wait(30), timeout_s=0.1)
    assert time.monotonic() - started < 10
    assert "goes on without waiting" in caplog.text
    telling.settle(0.1)
    assert time.monotonic() - started < 10
    hanging.set()


def test_what_came_late_is_given_a_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_came_late", threading.Event())
    go_on, told = threading.Event(), threading.Event()

    def tell() -> None:
        go_on.wait(30)
        told.set()

    telling.bounded(tell, timeout_s=0.01)
    assert not told.is_set()
    go_on.set()
    telling.settle(30)
    assert told.is_set()


def test_an_artifact_that_fails_fails_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise ConnectionError("no API")

    caplog.set_level(logging.INFO, "unified_db")
    telling.bounded(refuse)
    assert "could not be shown" in caplog.text


@pytest.mark.parametrize("name", ["unify-plan", "Unify Plan!", "unify_plan", "--unify.plan--"])
def test_keys_are_what_prefect_allows(name: str) -> None:
    assert artifacts.artifact_key(name) == "unify-plan"


def test_a_page_stays_under_what_prefect_takes() -> None:
    text = artifacts._shorten("a line of a page\n" * 100_000)
    assert len(text.encode()) < 1_000_000
    assert text.endswith("(cut here; the run's report has all of it)\n")


def test_progress_is_shown_by_a_thread_that_the_phase_does_not_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, moved, hanging, removed = (threading.Event() for _ in range(4))
    monkeypatch.setattr(artifacts, "_BAR_EVERY_S", 0.01)
    monkeypatch.setattr(telling, "in_a_prefect_run", lambda: True)
    monkeypatch.setattr(pieces, "_WORTH_TELLING_S", 0.0)

    class Api:
        """Makes an artifact, and hangs once that is to be changed."""

        def __enter__(self) -> Api:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def create_artifact(self, artifact: Any) -> Any:
            assert (artifact.type, artifact.data) == ("progress", 50.0)
            made.set()
            return SimpleNamespace(id="id")

        def update_artifact(self, *_: object) -> None:
            moved.set()
            hanging.wait(30)
            raise ConnectionError("no API")

        def delete_artifact(self, _: object) -> None:
            removed.set()

    monkeypatch.setattr(artifacts, "_own_client", Api)
    run: Any = type("Run", (), {"name": "20260101"})
    with artifacts.progressing("merge", run):
        pieces.Tally("merge", 100).add(50)
        assert made.wait(10)
        assert moved.wait(10)
    hanging.set()
    assert removed.wait(10), "the phase's page takes its place"


@pytest.mark.parametrize(
    ("section", "name"),
    [
        pytest.param("", "deploy", id="its-folder-where-it-is-the-root"),
        pytest.param("[app]\nroot = '..'\n", "shop", id="the-root-that-it-names"),
        pytest.param("[app\n", "deploy", id="its-folder-where-it-cannot-be-read"),
        pytest.param("app = 1\n", "deploy", id="its-folder-where-it-says-something-else"),
    ],
)
def test_an_application_is_called_by_its_root(tmp_path: Path, section: str, name: str) -> None:
    config = tmp_path / "shop" / "deploy" / "unify.toml"
    config.parent.mkdir(parents=True)
    config.write_text(section)
    assert labels.application_name(config) == name
    assert labels.application_name(config.parent) == name
    config.unlink()
    assert labels.application_name(config) == "deploy"


def test_a_list_by_id_shows_first_what_is_meant_to_be_first() -> None:
    server, there = Random(7), set[UUID]()

    def make() -> UUID:
        there.add(made := UUID(int=server.getrandbits(128)))
        return made

    others = [places.draw(make, there.remove, first=False) for _ in range(100)]
    summary = places.draw(make, there.remove, first=True)
    assert there == {summary, *others}
    assert max(there) == summary


def test_to_be_first_is_given_up_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_LIMIT_S", 0.05)
    there: list[UUID] = []

    def make() -> UUID:
        there.append(UUID(int=len(there)))
        return there[-1]

    assert [places.draw(make, there.remove, first=True)] == there


def test_a_page_that_stands_wrong_is_drawn_anew_when_it_is_published_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low, high = UUID(int=1), UUID(int=0xFF << 120)
    ids = iter([low, high])
    there: dict[UUID, str] = {}

    class Api:
        """Draws the ids of *ids*, and keeps what was made and not removed."""

        def __enter__(self) -> Api:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read_artifacts(self, **_: object) -> list[Any]:
            return [SimpleNamespace(id=made, task_run_id=None) for made in there]

        def request(self, method: str, *_: object, json: dict[str, str], **path: Any) -> Any:
            made = next(ids) if method == "POST" else path["path_params"]["id"]
            there[made] = json["data"]
            return SimpleNamespace(json=lambda: {"id": str(made)})

        def delete_artifact(self, made: UUID) -> None:
            del there[made]

    monkeypatch.setattr(artifacts, "_own_client", Api)
    monkeypatch.setattr(places, "_LIMIT_S", 0.0)
    page = ArtifactCreate(key="unify-summary", type="markdown", data="first")
    artifacts._replace(page)
    assert there == {low: "first"}, "its time was up"
    artifacts._replace(page.model_copy(update={"data": "second"}))
    assert there == {high: "second"}
    artifacts._replace(page.model_copy(update={"data": "third"}))
    assert there == {high: "third"}, "what stands right is renewed where it is"
