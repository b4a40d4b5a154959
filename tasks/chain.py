"""The phases of one flow run as a chain in Prefect's graph: each after the one before it.

Left to itself, Prefect draws an arrow from a task to every later one that is given its result or a part
of it; phases that hand on nearly all they have become a tangle. Here it is told the order alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefect.tasks import Task
from prefect.utilities.annotations import opaque, quote

_T = TypeVar("_T")


class Chain:
    """The tasks of one flow run, in the order in which they are called."""

    def __init__(self) -> None:
        # All are kept, though the last alone is asked for: Prefect knows a result and its parts by their
        # addresses, and an address that is free again may become that of something else.
        self._results: list[object] = []

    def link(self, task: Task[..., _T]) -> Callable[..., _T]:
        """*task*, which is shown after the task of this chain that was called before it."""

        def call(*given: object, **named: object) -> _T:
            # opaque: what is inside of a result may be a part of an older one too.
            before = [opaque(result) for result in self._results[-1:]]
            hidden = {name: quote(value) for name, value in named.items()}
            result: _T = task(*map(quote, given), **hidden, wait_for=before)
            self._results.append(result)
            return result

        return call
