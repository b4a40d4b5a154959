"""Loaded by every staged Python process, before any code of its own: our probes begin here.

An interpreter imports one `sitecustomize`, so the one that would have been loaded without ours follows.
"""

import importlib.machinery
import importlib.util
import os
import sys


def _load_the_next_one() -> None:
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize")
    if spec is None or spec.loader is None or spec.origin == __file__:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _begin() -> None:
    ours = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 -- pathlib slows every start
    # To the end: nothing of the application's may be shadowed by what lies in our folder.
    sys.path[:] = [entry for entry in sys.path if entry != ours] + [ours]
    if os.environ.get("UNIFY_DB_PROBE"):
        import unify_db_probe  # type: ignore[import-not-found]  # on the path, as this file is

        unify_db_probe.await_pytest()
    folder = os.environ.get("UNIFY_DB_OPENED")
    if folder:
        import unify_db_touches  # type: ignore[import-not-found]  # as above

        unify_db_touches.follow(folder)


_begin()
_load_the_next_one()
