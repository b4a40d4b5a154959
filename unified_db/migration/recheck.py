"""What must still be as it was planned, looked at again right before the application is stopped.

Hours may lie between the evidence and the switch where a person decides. Whatever is found here costs
nothing: nothing was stopped. What may change (rows) is carried over; what may not is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unified_db import sources
from unified_db.errors import CutoverRefusedError, SourceError
from unified_db.migration import copy
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import CutoverRecord, MigrationPlan, SchemaObject, SourceFacts, UnifiedFile
from unified_db.migration.runs import RunFolder, list_runs

UNTOUCHED = "Nothing was switched; the application was not stopped and still uses its old files."


def require_as_planned(
    config: MigrationConfig, run: RunFolder, plan: MigrationPlan, unified: UnifiedFile
) -> None:
    """Return where no other run moved the application, its sources are the planned ones, and space is left.

    Raises:
        CutoverRefusedError: Names the first thing that is not as it was.
        SourceBusyError: A source is locked; transient.

    Reads the schema of every source.
    """
    _require_no_other_switch(config, run, plan)
    for source in plan.sources:
        _require_same_source(source, scratch=run.path)
    _require_space(config, run, plan, unified)


def _require_no_other_switch(config: MigrationConfig, run: RunFolder, plan: MigrationPlan) -> None:
    for other in list_runs(config.state_folder):
        record = other.load("cutover", CutoverRecord) if other.name != run.name else None
        # One from before is what this run moves on from; a record is removed when its switch is undone.
        if record is not None and record.switched_at > plan.created_at:
            raise CutoverRefusedError(
                f"run {other.name} has switched the application over in the meantime",
                hint=f"This run changed nothing. `unify-db status {other.name}` shows what is in use.",
            )


def _require_same_source(source: SourceFacts, *, scratch: Path) -> None:
    try:
        found = sources.look_at(source.path, copy.read_objects, scratch=scratch)
    except SourceError as error:
        if error.transient:
            raise
        raise CutoverRefusedError(
            f"{source.label} is no longer the database that was planned: {error.message}",
            hint=f"Put it back and resume, or run again. {UNTOUCHED}",
        ) from error
    if definitions(found) != definitions(source.objects):
        raise CutoverRefusedError(
            f"the schema of {source.label} was changed since the plan",
            hint=f"Its tests ran on another schema than is there now; run again. {UNTOUCHED}",
        )


def definitions(objects: Iterable[SchemaObject]) -> set[tuple[str, str, str | None]]:
    """What a schema consists of, whatever its order: kind, name and text of each object."""
    return {(o.kind, o.name, o.sql) for o in objects}


def _require_space(
    config: MigrationConfig, run: RunFolder, plan: MigrationPlan, unified: UnifiedFile
) -> None:
    # The archive is at worst as large as what it packs.
    archived = sum(s.size_bytes + s.wal_bytes for s in plan.sources)
    try:
        sources.require_space({config.target_path.parent: unified.size_bytes, run.path: archived})
    except SourceError as error:
        hint = f"Make room, then `unify-db resume {run.name}`. {UNTOUCHED}"
        raise CutoverRefusedError(error.message, hint=hint) from error
