"""Starts runs of other deployments for a fleet, and tells where they stand; decides nothing.

Prefect's own `run_deployment` makes a new run whenever it is called. Here each child has a key made of
the fleet's flow run and its configuration, and so has the task run by which the fleet's page shows
it: a fleet that is begun again finds its children instead of starting them twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending
from prefect.tasks import Task

from tasks import labels
from unified_db.errors import UsageError
from unified_db.migration.fleet import Child, Member

log = logging.getLogger("unified_db.fleet")

# The API gives 200 at a time.
_AT_ONCE = 100


class Children:
    """The runs of one fleet, each of them made once.

    Args:
        fleet: The fleet's own flow run.
        dry_run: Whether they are of the deployment `dry-run`, or of `unify-db`, which switches.
    """

    def __init__(self, fleet: UUID, *, dry_run: bool) -> None:
        self._fleet, self._dry_run = fleet, dry_run
        self._deployment: UUID | None = None
        self._failed = False

    def start(self, member: Member) -> Child | None:
        """The run of *member*: a new one, or the one that this fleet has started before.

        Returns:
            None where Prefect cannot be asked at the moment; a child that is over where it refuses.

        Raises:
            UsageError: The deployment is not there.
        """
        try:
            with _client() as client:
                return self._make(client, member)
        except httpx.HTTPStatusError as error:
            if not error.response.is_client_error:
                self._say_unreachable(error)
                return None
            return Child("", "FAILED", f"Prefect refused to make its run ({error.response.status_code})")
        except httpx.HTTPError as error:
            self._say_unreachable(error)
            return None

    def _make(self, client: SyncPrefectClient, member: Member) -> Child:
        assert member.config is not None
        key = _key(self._fleet, member.config)
        mode: labels.Mode = "dry-run" if self._dry_run else "run"
        made = client.create_flow_run_from_deployment(
            self._find_deployment(client),
            parameters={"config": str(member.config), "dry_run": self._dry_run},
            name=f"{mode} {member.name}",
            tags=[*labels.tags_of(member.name, mode), "fleet"],
            idempotency_key=key,
            parent_task_run_id=self._stand_in(client, member, key),
        )
        return _child(made)

    def look(self, children: Sequence[Child]) -> dict[str, Child]:
        """Where *children* stand now, by flow run; the ones that cannot be asked about stay as they were."""
        known: dict[str, Child] = {child.flow_run: child for child in children}
        for first in range(0, len(children), _AT_ONCE):
            part = [child.flow_run for child in children[first : first + _AT_ONCE]]
            known.update(self._look(part))
        return known

    def _look(self, flow_runs: Sequence[str]) -> Mapping[str, Child]:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(known) for known in flow_runs]))
        try:
            with _client() as client:
                found = [_child(run) for run in client.read_flow_runs(flow_run_filter=wanted, limit=200)]
        except httpx.HTTPError as error:
            self._say_unreachable(error)
            return {}
        self._failed = False
        deleted = {
            known: Child(known, "DELETED", "its flow run was deleted in Prefect") for known in flow_runs
        }
        return {**deleted, **{child.flow_run: child for child in found}}

    def _say_unreachable(self, error: httpx.HTTPError) -> None:
        # The children go on without us; so do we, once the API is there again.
        if not self._failed:
            log.warning("Prefect cannot be asked at the moment (%s); the fleet waits", type(error).__name__)
        self._failed = True

    def _find_deployment(self, client: SyncPrefectClient) -> UUID:
        if self._deployment is None:
            name = f"unify-db/{'dry-run' if self._dry_run else 'unify-db'}"
            try:
                self._deployment = client.read_deployment_by_name(name).id
            except ObjectNotFound as error:
                raise UsageError(
                    f"there is no deployment {name}",
                    hint="`prefect --no-prompt deploy --all` in unify-db's folder makes it, or `make serve`.",
                ) from error
        return self._deployment

    def _stand_in(self, client: SyncPrefectClient, member: Member, key: str) -> UUID:
        """The task run of the fleet that stands for a child, as the state of which Prefect shows its own."""
        task: Task[..., Any] = Task(name=member.name, fn=_nothing)
        task.task_key = "unify-db-fleet.child"
        made = client.create_task_run(
            task=task, flow_run_id=self._fleet, dynamic_key=key, name=member.name, state=Pending()
        )
        return made.id


def _nothing() -> None:
    """Never called: its task run is a child's place on the fleet's page."""


def _key(fleet: UUID, config: Path) -> str:
    return hashlib.sha256(f"{fleet} {config}".encode()).hexdigest()[:32]


def _child(run: FlowRun) -> Child:
    state = run.state
    if state is None:
        return Child(str(run.id), "SCHEDULED")
    return Child(str(run.id), state.type.value, state.message or "")


def _client() -> SyncPrefectClient:
    # With settings of its own, however few: Prefect lends us the flow's client otherwise.
    return get_client(httpx_settings={}, sync_client=True)
