"""The phases done directly, one after the other in this process, without Prefect.

Tried again as often as Prefect would, for the same errors alone (:mod:`tasks.retries`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tasks import retries
from unified_db.errors import UnifyError
from unified_db.migration import gates, phases
from unified_db.migration.config import MigrationConfig
from unified_db.migration.records import (
    Approval,
    ArchiveRecord,
    Backups,
    CutoverRecord,
    Decision,
    MigrationPlan,
    Question,
    RollbackRecord,
    UnifiedFile,
    Verdict,
)
from unified_db.migration.runs import RunFolder
from unified_db.migration.stage import Stages

log = logging.getLogger("unified_db.direct")

_T = TypeVar("_T")


class Direct:
    """:class:`flows.order.Phases` without Prefect: for its absence, for `resume` and for `rollback`."""

    def announce(self, config: MigrationConfig, run: RunFolder) -> None:
        """Nobody to tell but who started it."""

    def plan(self, config: MigrationConfig, run: RunFolder) -> MigrationPlan:
        """What would move."""
        return _tried("plan", lambda: phases.plan(config, run))

    def backup(self, run: RunFolder, plan: MigrationPlan) -> Backups:
        """Copies of one instant."""
        return _tried("backup", lambda: phases.backup(run, plan))

    def merge(self, run: RunFolder, backups: Backups) -> UnifiedFile:
        """The unified file."""
        return _tried("merge", lambda: phases.merge(run, backups))

    def validate(self, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Verdict:
        """The open verdict of the validation gate."""
        return gates.require_passed(_tried("validate", lambda: phases.validate(run, backups, unified)))

    def stage(
        self, config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile
    ) -> Stages:
        """The staged trees."""
        return _tried("stage", lambda: phases.stage(config, run, backups, unified))

    def suites(self, config: MigrationConfig, run: RunFolder, stages: Stages) -> Verdict:
        """The open verdict of the suites gate."""
        return gates.require_passed(_tried("suites", lambda: phases.suites(config, run, stages)))

    def benchmark(
        self,
        config: MigrationConfig,
        run: RunFolder,
        stages: Stages,
        *,
        backups: Backups,
        unified: UnifiedFile,
    ) -> Verdict:
        """The open verdict of the benchmark gate."""
        verdict = _tried(
            "benchmark",
            lambda: phases.benchmark(config, run, stages, backups=backups, unified=unified),
        )
        return gates.require_passed(verdict)

    def ask(self, run: RunFolder, question: Question) -> Decision:
        """A person's word that allows the switch."""
        return gates.require_approved(_tried("ask", lambda: phases.ask(run, question)))

    def cutover(self, config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
        """The switch."""
        return _tried("cutover", lambda: phases.cutover(config, run, approval))

    def archive(self, config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
        """The old files, compressed."""
        return _tried("archive", lambda: phases.archive(config, run))

    def rollback(self, config: MigrationConfig, run: RunFolder) -> RollbackRecord:
        """The switch taken back."""
        return _tried("rollback", lambda: phases.rollback(config, run))

    def summarise(self, run: RunFolder) -> None:
        """The run's report."""
        from unified_db.migration.report import write_report

        write_report(run)


def _tried(phase: str, do: Callable[[], _T]) -> _T:
    """What *do* returns, tried again after a transient error as often as :mod:`tasks.retries` says."""
    how = retries.OF_PHASES[phase]
    for number, delay_s in enumerate(how.delays_s, 1):
        try:
            return do()
        except Exception as error:
            if not retries.is_transient(error):
                raise
            wait_s = delay_s * (1 + how.jitter * random.random())  # noqa: S311 -- spreads tries, no secret
            reason = error.message if isinstance(error, UnifyError) else str(error)
            log.warning(
                "%s: %s; trying again in %.0f s (%d of %d)", phase, reason, wait_s, number, len(how.delays_s)
            )
        time.sleep(wait_s)
    return do()
