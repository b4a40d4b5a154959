"""Has pytest load our plugin in the processes of a rehearsed suite.

Runs in the application's interpreter: the standard library alone, and nothing here may raise.
"""

import os
import sys

_PLUGIN = "unify_db_pytest"


def await_pytest() -> None:
    """Offer the plugin once pytest is about to be imported.

    No sooner: a child with another search path would not find the plugin, and pytest would fail.
    """
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event != "import" or arguments[0] != "pytest":
        return
    known = [name for name in os.environ.get("PYTEST_PLUGINS", "").split(",") if name]
    if _PLUGIN not in known:
        os.environ["PYTEST_PLUGINS"] = ",".join([*known, _PLUGIN])
