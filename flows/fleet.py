"""The flow "unify-db-fleet": many applications, each a run of its own, and one table of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Protocol
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from tasks import artifacts
from tasks.children import Children
from unified_db.errors import FleetIncompleteError
from unified_db.migration import fleet
from unified_db.migration.fleet import Child, FleetRow, Member
from unified_db.migration.records import Record

LOOK_EVERY_S = 3.0


class FleetOutcome(Record):
    """What became of every application of a fleet that ended well."""

    rows: tuple[FleetRow, ...]


class Starter(Protocol):
    """Who starts the runs of a fleet: :class:`tasks.children.Children`."""

    def start(self, member: Member) -> Child | None:
        """The run of *member*; None where it has to be tried again."""

    def look(self, children: Sequence[Child]) -> dict[str, Child]:
        """Where they stand now, by flow run."""


def name_run() -> str:
    """How a run of the flow is called in the UI."""
    parameters = flow_run.parameters
    configs = parameters.get("configs", "")
    meant = configs if isinstance(configs, str) else ", ".join(configs)
    return f"fleet {'dry-run' if parameters.get('dry_run', True) else 'run'} {meant}"[:200]


@flow(name="unify-db-fleet", flow_run_name=name_run, persist_result=False)
def unify_fleet(
    configs: str | list[str],
    dry_run: bool = True,
    at_once: Annotated[int, Field(ge=1, le=100)] = 2,
) -> FleetOutcome:
    """Move many applications, or rehearse their moves; each is a run of its own in the pool `unify-db`.

    One that fails stops no other. What became of each stands in the artifact `unify-fleet`. A fleet that
    is begun again (*Retry* on its page) goes on with the runs that it has started before.

    Args:
        configs: Which applications: a glob such as `/srv/*/unify.toml`, or a file that lists paths and globs,
            one a line; or a list of these. On the machine where the worker runs.
        dry_run: Stop each before the switch: everything is tried, nothing of the applications changes.
        at_once: How many are at work at a time, at most; the limit of the pool `unify-db` counts too. One
            that waits for a person is not counted.

    Returns:
        The rows of the table.

    Raises:
        FleetIncompleteError: Not all of them ended well; the table says which, and why.
    """
    members = fleet.find_members([configs] if isinstance(configs, str) else configs)
    children = Children(UUID(str(flow_run.get_id())), dry_run=dry_run)
    rows = run_fleet(members, children, at_once=at_once, publish=artifacts.publish_fleet)
    return require_all_well(rows)


def run_fleet(
    members: Sequence[Member],
    starter: Starter,
    *,
    at_once: int,
    publish: Callable[[Sequence[FleetRow], str], None],
    look_every_s: float = LOOK_EVERY_S,
) -> tuple[FleetRow, ...]:
    """Have every member without trouble run, *at_once* of them at a time; what became of each.

    Args:
        members: Those with a trouble have a row and are not run.
        starter: Starts their runs and tells where they stand.
        at_once: How many are at work at a time.
        look_every_s: Seconds between two looks at them.
        publish: Is given the rows and a sentence whenever something in them has changed.
    """
    waiting = [member for member in members if not member.trouble]
    children: dict[Member, Child] = {}
    settled: dict[Member, FleetRow] = {}
    shown: tuple[FleetRow, ...] | None = None
    while True:
        rows = _make_rows(members, children, settled)
        going = [child for child in children.values() if not child.is_over]
        over = not waiting and not going
        if rows != shown:
            publish(rows, fleet.sentence(rows) if over else _how_far(rows))
            shown = rows
        if over:
            return rows
        free = at_once - sum(child.takes_a_place for child in going)
        started = _start(starter, waiting[: max(free, 0)])
        waiting = [member for member in waiting if member not in started]
        time.sleep(look_every_s)
        now = starter.look([*going, *(child for child in started.values() if not child.is_over)])
        children = {m: now.get(c.flow_run, c) for m, c in {**children, **started}.items()}


def _start(starter: Starter, members: Sequence[Member]) -> dict[Member, Child]:
    """The children of those *members* that could be started."""
    started = ((member, starter.start(member)) for member in members)
    return {member: child for member, child in started if child is not None}


def _make_rows(
    members: Sequence[Member], children: Mapping[Member, Child], settled: dict[Member, FleetRow]
) -> tuple[FleetRow, ...]:
    """A row for each of *members*; those that will not change any more are kept in *settled*."""
    for member in members:
        child = children.get(member)
        if member not in settled and (member.trouble or (child is not None and child.is_over)):
            settled[member] = fleet.make_row(member, child)
    return tuple(settled.get(m) or fleet.make_row(m, children.get(m)) for m in members)


def require_all_well(rows: Sequence[FleetRow]) -> FleetOutcome:
    """The outcome of *rows*.

    Raises:
        FleetIncompleteError: There are none, or not all ended well.
    """
    if not rows or not all(row.passed for row in rows):
        raise FleetIncompleteError(
            fleet.sentence(rows),
            hint="The artifact unify-fleet says why. A new fleet begins each application anew; "
            "`unify-db status` in its folder shows where one stands.",
        )
    return FleetOutcome(rows=tuple(rows))


def _how_far(rows: Sequence[FleetRow]) -> str:
    return f"At work: {sum(row.passed for row in rows)} of {len(rows)} have ended well so far."
