"""The phases done directly, one after the other in this process, without Prefect."""

from __future__ import annotations

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


class Direct:
    """:class:`flows.order.Phases` without Prefect: for its absence, for `resume` and for `rollback`."""

    def announce(self, config: MigrationConfig, run: RunFolder) -> None:
        """Nobody to tell but who started it."""

    def plan(self, config: MigrationConfig, run: RunFolder) -> MigrationPlan:
        """What would move."""
        return phases.plan(config, run)

    def backup(self, run: RunFolder, plan: MigrationPlan) -> Backups:
        """Copies of one instant."""
        return phases.backup(run, plan)

    def merge(self, run: RunFolder, backups: Backups) -> UnifiedFile:
        """The unified file."""
        return phases.merge(run, backups)

    def validate(self, run: RunFolder, backups: Backups, unified: UnifiedFile) -> Verdict:
        """The open verdict of the validation gate."""
        return gates.require_passed(phases.validate(run, backups, unified))

    def stage(
        self, config: MigrationConfig, run: RunFolder, backups: Backups, unified: UnifiedFile
    ) -> Stages:
        """The staged trees."""
        return phases.stage(config, run, backups, unified)

    def suites(self, config: MigrationConfig, run: RunFolder, stages: Stages) -> Verdict:
        """The open verdict of the suites gate."""
        return gates.require_passed(phases.suites(config, run, stages))

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
        verdict = phases.benchmark(config, run, stages, backups=backups, unified=unified)
        return gates.require_passed(verdict)

    def ask(self, run: RunFolder, question: Question) -> Decision:
        """A person's word that allows the switch."""
        return gates.require_approved(phases.ask(run, question))

    def cutover(self, config: MigrationConfig, run: RunFolder, approval: Approval) -> CutoverRecord:
        """The switch."""
        return phases.cutover(config, run, approval)

    def archive(self, config: MigrationConfig, run: RunFolder) -> ArchiveRecord:
        """The old files, compressed."""
        return phases.archive(config, run)

    def rollback(self, config: MigrationConfig, run: RunFolder) -> RollbackRecord:
        """The switch taken back."""
        return phases.rollback(config, run)

    def summarise(self, run: RunFolder) -> None:
        """The run's report."""
        from unified_db.migration.report import write_report

        write_report(run)
