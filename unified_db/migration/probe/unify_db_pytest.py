"""A pytest plugin for rehearsed suites: names tests in JUnit by their node id, runs chosen ones alone.

Runs in the application's interpreter, with its version of pytest. PYTEST_DONT_REWRITE
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from unify_db_names import NODE, RETRIED  # type: ignore[import-not-found]  # on the path, as this file is

_CLAIMED = "UNIFY_DB_PYTEST"


def _withdraw_offer() -> None:
    # What pytest has read by now would break a child that has another search path.
    offered = os.environ.pop("PYTEST_PLUGINS", "").split(",")
    rest = [name for name in offered if name and name != __name__]
    if rest:
        os.environ["PYTEST_PLUGINS"] = ",".join(rest)


_withdraw_offer()


def pytest_configure(config: Any) -> None:
    """Take part in the suite's own session and in its xdist workers, not in what its tests start."""
    folder = os.environ.get("UNIFY_DB_PROBE")
    if not folder:
        return
    if hasattr(config, "workerinput") or _CLAIMED not in os.environ:
        os.environ[_CLAIMED] = str(os.getpid())
        config.pluginmanager.register(_Follower(Path(folder)), "unify-db-follower")


class _Follower:
    def __init__(self, folder: Path) -> None:
        self._running = folder / "running"
        selected = folder / "selected.json"
        self._selected = set(json.loads(selected.read_text())) if selected.exists() else None
        self._retried: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        if self._selected is None:
            return
        dropped = [item for item in items if item.nodeid not in self._selected]
        items[:] = [item for item in items if item.nodeid in self._selected]
        config.hook.pytest_deselected(items=dropped)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running.write_text(nodeid, encoding="utf-8", errors="surrogateescape")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        # A rerun plugin's own outcome: the test failed, and may pass in the end.
        if report.outcome == "rerun":
            self._retried.add(report.nodeid)
        names = {name for name, _ in report.user_properties}
        # pytest's JUnit file takes them from the last report alone, or from each: so all of them get it.
        if NODE not in names:
            report.user_properties.append((NODE, report.nodeid))
        if RETRIED not in names and report.nodeid in self._retried:
            report.user_properties.append((RETRIED, "yes"))
