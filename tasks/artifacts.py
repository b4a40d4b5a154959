"""The only module that touches Prefect's artifacts: a page of the run, one of each phase, progress.

Each page is there once: a newer one takes its place. Prefect's older pages show the artifacts of a flow run
itself above those of its tasks, in no order among these; so the page of the run is the flow run's only one.
For the newer ones it is drawn to be first (:mod:`tasks.places`). What a list shows of a page beside its key
is the sentence that it begins with.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound

from tasks import places, telling
from unified_db import pieces
from unified_db.migration import fleet, phase_pages, report, wording
from unified_db.migration.runs import RunFolder

_BAR_EVERY_S = 2.0
_TRIES, _BETWEEN_TRIES_S = 12, 5.0

# As a run goes through them. A decision has no number, since not every run waits for one.
_PHASES = ("plan", "backup", "merge", "validate", "stage", "suites", "benchmark", "cutover", "archive")

# Prefect refuses more than 1 MB; the run's folder has the whole text.
_MAX_CHARS = 240_000
_MAX_SENTENCE_CHARS = 240


def publish_summary(run: RunFolder, *, at_work: bool = False) -> None:
    """Show the whole of *run* on one page; with *at_work* as that of a run that goes on."""
    if telling.in_a_prefect_run():
        telling.guarded(lambda: _publish_summary(run, at_work=at_work))


def publish(phase: str, run: RunFolder) -> None:
    """Show what *phase* left in the folder of *run*."""
    if telling.in_a_prefect_run():
        telling.guarded(lambda: _publish_page(phase, phase_pages.phase_markdown(phase, run)))


@contextlib.contextmanager
def shown(phase: str, run: RunFolder) -> Iterator[None]:
    """Show what the block, which is *phase*, leaves in the folder of *run*; or why it stopped."""
    try:
        yield
    except Exception as error:
        said = error
        if telling.in_a_prefect_run():
            telling.guarded(lambda: _publish_page(phase, phase_pages.stopped_markdown(phase, run, said)))
        raise
    publish(phase, run)
    publish_summary(run, at_work=True)


def publish_fleet(rows: Sequence[fleet.FleetRow], said: str) -> None:
    """Show a fleet as one table, which is made anew when anything in it changes.

    Tries for a minute: a fleet has nothing else to do, and its table is what it is for.
    """
    if not telling.in_a_prefect_run():
        return
    cells = json.dumps([row.cells() for row in rows])
    table = _placed(ArtifactCreate(key="unify-fleet", type="table", data=cells, description=said))
    for _ in range(_TRIES - 1):
        with contextlib.suppress(httpx.HTTPError):
            _replace(table)
            return
        time.sleep(_BETWEEN_TRIES_S)
    telling.guarded(lambda: _replace(table))


@contextlib.contextmanager
def progressing(phase: str, run: RunFolder) -> Iterator[None]:
    """Show in Prefect how far *phase* is while the block goes on, where that is more than two seconds."""
    if not telling.in_a_prefect_run():
        yield
        return
    bar = _Bar(artifact_key(f"unify-{phase}-progress"), _title(phase, run))
    with pieces.observed(bar.pace.note):
        bar.start()
        try:
            yield
        finally:
            bar.stop()


class _Bar:
    """A progress artifact, made, moved and removed by a thread of its own: the phase waits for no API."""

    def __init__(self, key: str, title: str) -> None:
        self.pace = pieces.Pace()
        self._key, self._title = key, title
        self._artifact: UUID | None = None
        self._over = threading.Event()
        # The copy tells Prefect which run the artifact belongs to.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._go_on), daemon=True)

    def start(self) -> None:
        """Begin to look; nothing is made before there is something to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Have it removed, since the phase's page takes its place, and wait for that hardly at all."""
        self._over.set()
        telling.join(self._thread, telling.IMPATIENT_S)

    def _go_on(self) -> None:
        while not self._over.wait(_BAR_EVERY_S):
            telling.guarded(self._show)
        telling.guarded(self._remove)

    def _show(self) -> None:
        sentence = self.pace.sentence()
        if not sentence:
            return
        percent, text = round(100 * self.pace.share, 1), f"{self._title}: {sentence}"
        with _own_client() as client:
            if self._artifact is None:
                asked = ArtifactCreate(key=self._key, type="progress", data=percent, description=text)
                self._artifact = client.create_artifact(_placed(asked)).id
            else:
                client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=text))

    def _remove(self) -> None:
        if self._artifact is not None:
            with _own_client() as client:
                client.delete_artifact(self._artifact)


def _publish_summary(run: RunFolder, *, at_work: bool) -> None:
    page = report.summary_markdown(run, at_work=at_work)
    _show(_page("summary", page, "Read this first. "), of_the_flow=True)


def _publish_page(phase: str, text: str) -> None:
    lead = f"Phase {_PHASES.index(phase) + 1}. " if phase in _PHASES else ""
    _show(_page(phase, text, lead))


def _page(name: str, text: str, lead: str = "") -> ArtifactCreate:
    """A page with its first line, which is its heading, as what lists show of it."""
    sentence = text.partition("\n")[0].removeprefix("# ").replace("\\", "")
    shown = wording.shorten(f"{lead}{sentence}", _MAX_SENTENCE_CHARS)
    return ArtifactCreate(
        key=artifact_key(f"unify-{name}"), type="markdown", data=_shorten(text), description=shown
    )


def _show(artifact: ArtifactCreate, *, of_the_flow: bool = False) -> None:
    placed = _placed(artifact, of_the_flow=of_the_flow)
    telling.bounded(lambda: _replace(placed))


def _placed(artifact: ArtifactCreate, *, of_the_flow: bool = False) -> ArtifactCreate:
    """*artifact* as one of the task that is running; with *of_the_flow* as one of its flow alone."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    place: dict[str, UUID] = {}
    if flow is not None and flow.flow_run is not None:
        place["flow_run_id"] = flow.flow_run.id
    if task is not None and not of_the_flow:
        place["task_run_id"] = task.task_run.id
    return artifact.model_copy(update=place)


_making = threading.Lock()


def _replace(artifact: ArtifactCreate) -> None:
    # One after the other: what was late must not come after what is newer.
    with _making, _own_client() as client:
        # Asked for, not remembered: also of a process before, and of a call whose answer was lost.
        known = client.read_artifacts(artifact_filter=_of_its_place(artifact))
        first = artifact.task_run_id is None
        # That of another task run cannot be moved to this one; one that stands wrong is drawn again.
        mine = [o.id for o in known if o.task_run_id == artifact.task_run_id]
        kept = next((made for made in mine if places.is_first(made) == first), None)
        if kept is None:
            kept = places.draw(partial(_make, client, artifact), partial(_drop, client), first=first)
        else:
            _renew(client, kept, artifact)
        for other in known:
            if other.id != kept:
                _drop(client, other.id)


# The client's own methods send an event as well, of every draft and with all of a page that is renewed.
def _make(client: SyncPrefectClient, artifact: ArtifactCreate) -> UUID:
    asked = artifact.model_dump(mode="json", exclude_unset=True)
    return UUID(client.request("POST", "/artifacts/", json=asked).json()["id"])


def _renew(client: SyncPrefectClient, kept: UUID, artifact: ArtifactCreate) -> None:
    asked = artifact.model_dump(mode="json", include={"data", "description"})
    client.request("PATCH", "/artifacts/{id}", path_params={"id": kept}, json=asked)


def _drop(client: SyncPrefectClient, made: UUID) -> None:
    with contextlib.suppress(ObjectNotFound):
        client.delete_artifact(made)


def _of_its_place(artifact: ArtifactCreate) -> ArtifactFilter:
    return ArtifactFilter(
        key=ArtifactFilterKey(any_=[str(artifact.key)]),
        flow_run_id=ArtifactFilterFlowRunId(any_=[artifact.flow_run_id] if artifact.flow_run_id else []),
    )


def _own_client() -> SyncPrefectClient:
    # With settings of its own, however few: Prefect lends us the flow's client otherwise.
    return get_client(httpx_settings={}, sync_client=True)


def _title(phase: str, run: RunFolder) -> str:
    return f"{phase} of run {run.name}"


def artifact_key(name: str) -> str:
    """*name* in the characters that Prefect allows for a key: a-z, 0-9 and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")


def _shorten(markdown: str) -> str:
    if len(markdown) <= _MAX_CHARS:
        return markdown
    return markdown[:_MAX_CHARS].rsplit("\n", 1)[0] + "\n\n(cut here; the run's report has all of it)\n"
