"""The only module that touches Prefect's pause: a paused flow run has a button and a form on its page.

The pause is a way to decide, never what the run waits for: that is a file in the run's folder. So a
server that restarts, an API that is gone and a pause that is lost cost the form for that time and
nothing else. A paused run takes no slot of its work pool, so other applications go on meanwhile.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Literal

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Crashed, Paused, Running
from pydantic import Field

from tasks import telling
from unified_db.errors import UnifyError
from unified_db.migration import decisions, report
from unified_db.migration.records import Choice, Question
from unified_db.migration.runs import RunFolder

log = logging.getLogger("unified_db.pausing")

LOOK_EVERY_S = 2.0
CLOSE_S = 5.0
# Prefect ends a pause by itself some time after ours, for where our process is not there any more.
_GRACE = timedelta(minutes=10)
# The server stores an answer after it has resumed the run.
_MAX_LOOKS_FOR_ANSWER = 5
_MAX_LOST = 100
_LOST = "The process that waited for an answer here has ended; a later run of the application goes on."


class Decide(RunInput):
    """Whether the application is switched over."""

    # No field but the reason has a default: Prefect takes an empty form where all of them do.
    decision: Literal["approve", "reject"] = Field(
        description="approve: the application is stopped, switched to the unified file and started again. "
        "reject: the run ends and nothing is changed."
    )
    decided_by: str = Field(min_length=1, description="Your name; it stands in the report.")
    evidence: str = Field(
        min_length=decisions.MIN_DIGEST_CHARS,
        description="The digest of the evidence that you looked at; it stands on the page and in the report, "
        f"and its first {decisions.MIN_DIGEST_CHARS} characters are enough.",
    )
    reason: str = Field("", description="Why; it stands in the report.")


@contextlib.contextmanager
def decidable_in_prefect(run: RunFolder, question: Question) -> Iterator[None]:
    """Have the flow run paused, and its form answered to `decisions`, for the length of the block.

    Does nothing outside of a flow run. Costs two small requests every two seconds, made by a thread
    of its own, whose failures are logged once and tried again.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    desk = _Desk(run, question, context.flow_run.id)
    desk.open()
    try:
        yield
    finally:
        desk.close()


def end_lost_pauses(flow_runs: Sequence[str]) -> None:
    """End those of *flow_runs* that are still paused: the process that would take their answer is gone.

    For who holds the application's locks, so that no other process of it can be waiting.
    """
    if flow_runs:
        telling.bounded(lambda: _end_lost_pauses([uuid.UUID(known) for known in flow_runs[-_MAX_LOST:]]))


def _end_lost_pauses(flow_runs: list[uuid.UUID]) -> None:
    paused = FlowRunFilter(
        id=FlowRunFilterId(any_=flow_runs),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])),
    )
    with get_client(httpx_settings={}, sync_client=True) as client:
        for lost in client.read_flow_runs(flow_run_filter=paused):
            log.info("flow run %s was still paused, though its process is gone; it is ended", lost.name)
            client.set_flow_run_state(lost.id, Crashed(message=_LOST), force=True)


class _Desk:
    """Keeps one flow run paused, and takes what a person answers there."""

    def __init__(self, run: RunFolder, question: Question, flow_run: uuid.UUID) -> None:
        self._run, self._question, self._flow_run = run, question, flow_run
        self._keyset: dict[str, str] | None = None
        self._looks = 0
        self._failed = False
        self._over = threading.Event()
        # The copy tells Prefect which API is meant.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._go_on), daemon=True)

    def open(self) -> None:
        """Begin to pause and to look."""
        self._thread.start()

    def close(self) -> None:
        """Have the flow run go on in Prefect too, and wait for that hardly at all."""
        self._over.set()
        self._thread.join(CLOSE_S)

    def _go_on(self) -> None:
        while not self._over.is_set():
            self._guarded(self._look)
            self._over.wait(LOOK_EVERY_S)
        self._guarded(self._resume)

    def _guarded(self, act: Callable[[SyncPrefectClient], None]) -> None:
        try:
            # With settings of its own, however few: Prefect lends us the flow's client otherwise.
            with get_client(httpx_settings={}, sync_client=True) as client:
                act(client)
        except Exception as error:
            if not self._failed:
                bug = not isinstance(error, httpx.HTTPError)
                said = "Prefect cannot be asked at the moment (%s); the run waits all the same"
                log.info(said, type(error).__name__, exc_info=bug)
            self._failed = True
        else:
            if self._failed:
                log.info("Prefect answers again; the run waits")
            self._failed = False

    def _look(self, client: SyncPrefectClient) -> None:
        state = client.read_flow_run(self._flow_run).state
        if state is None:
            return
        if state.is_paused():
            # The server's own word: the answer to our pause may have been lost on its way.
            self._keyset, self._looks = state.state_details.run_input_keyset, 0
        elif state.is_cancelling() or state.is_cancelled():
            self._decide("reject", by="Prefect", reason="the flow run was cancelled")
        elif state.is_running():
            if self._keyset is None:
                self._pause(client)
            else:
                self._take_answer(client, self._keyset)

    def _pause(self, client: SyncPrefectClient, refused: str = "") -> None:
        pause: State[None] = Paused(
            pause_key=uuid.uuid4().hex, pause_expiration_time=self._question.expires_at + _GRACE
        )
        keyset = keyset_from_paused_state(pause)
        kept = {str(name): key for name, key in keyset.items()}
        pause.state_details.run_input_keyset = kept
        about = report.question_markdown(self._run, refused=refused)
        for key, value in (
            (keyset["schema"], Decide.model_json_schema()),
            (keyset["description"], about),
        ):
            client.create_flow_run_input(self._flow_run, key, json.dumps(value))
        if client.set_flow_run_state(self._flow_run, pause).status is SetStateStatus.ACCEPT:
            self._keyset, self._looks = kept, 0

    def _take_answer(self, client: SyncPrefectClient, keyset: dict[str, str]) -> None:
        try:
            answer = Decide.model_validate_json(
                client.read_flow_run_input(self._flow_run, keyset["response"])
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            self._looks += 1
            # Resumed by somebody who did not use the form.
            if self._looks >= _MAX_LOOKS_FOR_ANSWER:
                self._pause(client, "the run was resumed without an answer")
            return
        refused = self._decide(
            answer.decision, by=answer.decided_by, evidence=answer.evidence, reason=answer.reason
        )
        if refused:
            self._pause(client, refused)

    def _decide(self, choice: Choice, *, by: str, evidence: str | None = None, reason: str = "") -> str:
        """Decide, and look no more; why that was not taken where it was not."""
        try:
            decisions.decide(self._run, choice, by=by, through="Prefect", evidence=evidence, reason=reason)
        except UnifyError as error:
            log.warning("%s. %s", error.message, error.hint)
            if decisions.load_decision(self._run) is None:
                # Without the digest that was expected: who decides gets it from the evidence.
                return error.message.partition(":")[0]
        self._over.set()
        return ""

    def _resume(self, client: SyncPrefectClient) -> None:
        state = client.read_flow_run(self._flow_run).state
        if state is not None and state.is_paused():
            client.set_flow_run_state(self._flow_run, Running(), force=True)
