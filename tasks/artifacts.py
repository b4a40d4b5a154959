"""The only module that touches Prefect's artifacts: bounded in time and size, and it never raises.

An artifact is for people to look at. A run must not fail, nor wait, because Prefect's API is slow
or gone: its evidence lies in the run's folder already.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext

from unified_db import pieces
from unified_db.migration import phase_pages, report
from unified_db.migration.runs import RunFolder

log = logging.getLogger("unified_db.artifacts")

TIMEOUT_S = 5.0
# Once an artifact came late, the rest is sent all the same but hardly waited for.
_IMPATIENT_S = 0.5
_BAR_EVERY_S = 2.0
_came_late = threading.Event()

# Prefect refuses more than 1 MB; the run's folder has the whole text.
_MAX_CHARS = 240_000


def publish(phase: str, run: RunFolder) -> None:
    """Show what *phase* left in the folder of *run*, as a page and, where it fits, as a table."""
    if not _in_a_prefect_run():
        return
    _guarded(
        lambda: _publish_page(f"unify-{phase}", phase_pages.phase_markdown(phase, run), _title(phase, run))
    )
    _guarded(lambda: _publish_table(phase, run))


def publish_summary(run: RunFolder) -> None:
    """Show the whole of *run* on one page."""
    if _in_a_prefect_run():
        title = f"Run {run.name}"
        _guarded(lambda: _publish_page("unify-summary", report.summary_markdown(run), title))


@contextlib.contextmanager
def progressing(phase: str, run: RunFolder) -> Iterator[None]:
    """Show in Prefect how far *phase* is while the block goes on, where that is more than two seconds."""
    if not _in_a_prefect_run():
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
    """A progress artifact, made and moved by a thread of its own: the phase waits for no API."""

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
        """Show where it ended, and wait for that hardly at all."""
        self._over.set()
        self._thread.join(_IMPATIENT_S)

    def _go_on(self) -> None:
        while not self._over.wait(_BAR_EVERY_S):
            _guarded(self._show)
        if self._artifact is not None:
            _guarded(self._show)

    def _show(self) -> None:
        sentence = self.pace.sentence()
        if not sentence:
            return
        text, percent = f"{self._title}: {sentence}", 100 * self.pace.share
        if self._artifact is None:
            made = create_progress_artifact(progress=percent, key=self._key, description=text)
            self._artifact = cast("UUID", made)
        else:
            update_progress_artifact(artifact_id=self._artifact, progress=percent, description=text)


def _publish_page(key: str, markdown: str, title: str) -> None:
    text = _shorten(markdown)
    _bounded(lambda: create_markdown_artifact(markdown=text, key=artifact_key(key), description=title))


def _publish_table(phase: str, run: RunFolder) -> None:
    rows = phase_pages.phase_table(phase, run)
    if rows:
        key = artifact_key(f"unify-{phase}-table")
        _bounded(lambda: create_table_artifact(table=rows, key=key, description=_title(phase, run)))


def _title(phase: str, run: RunFolder) -> str:
    return f"{phase} of run {run.name}"


def artifact_key(name: str) -> str:
    """*name* in the characters that Prefect allows for a key: a-z, 0-9 and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")


def _shorten(markdown: str) -> str:
    if len(markdown) <= _MAX_CHARS:
        return markdown
    return markdown[:_MAX_CHARS].rsplit("\n", 1)[0] + "\n\n(cut here; the run's report has all of it)\n"


def _in_a_prefect_run() -> bool:
    # Outside of a run an artifact would start a server of its own.
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def _guarded(publish: Callable[[], None]) -> None:
    try:
        publish()
    except Exception:
        log.info("an artifact could not be made; the run goes on", exc_info=True)


def _bounded(create: Callable[[], object], *, timeout_s: float | None = None) -> None:
    """Call *create* in a thread and go on after *timeout_s*, whatever it does."""
    # The copy tells Prefect which run the artifact belongs to.
    context = contextvars.copy_context()
    # A daemon: a call that still hangs must not keep the process from ending.
    thread = threading.Thread(target=lambda: _guarded(lambda: context.run(_drop, create)), daemon=True)
    thread.start()
    if timeout_s is None:
        timeout_s = _IMPATIENT_S if _came_late.is_set() else TIMEOUT_S
    thread.join(timeout_s)
    if thread.is_alive() and not _came_late.is_set():
        _came_late.set()
        log.info("Prefect did not take an artifact in %g s; the run goes on without waiting", timeout_s)


def _drop(create: Callable[[], object]) -> None:
    create()
