"""Entry point of the command `unify-db`: finds the flow's code and hands over to it.

`flows` and `tasks` are names that an application may have itself. In a checkout they lie beside
`unified_db`; in an installed copy inside of it, in `_flow/`, where they take nothing away from
anybody. The command needs ours, also when it is run from the root of an application that has its
own and puts itself on the path with `PYTHONPATH=.`; so their folder goes first on `sys.path`, in
this process alone: children get their environment from us, not our path.

The hand-over is by name. `unified_db` must not import `flows`, which an application that installs
the runtime alone has no need of, and this is no exception: what is imported here is the program
that this file starts.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_NEEDED = ("typer", "rich", "pydantic")
_INSTALL = 'pip install --no-cache-dir "unify-db[flow] @ PLACE"'


def main() -> int:
    """Run the command line; the exit code."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"unify-db: the command is not installed here, only the runtime: {', '.join(missing)} missing.\n"
            f"Install it with {_INSTALL}, where PLACE is the wheel or repository the runtime came from.\n"
        )
        return 2
    put_first(code_folder())
    cli = importlib.import_module("flows.cli")
    return int(cli.main(sys.argv[1:]))


def code_folder() -> Path:
    """The folder that holds our `flows` and `tasks`: inside the installed package, or the checkout."""
    inside = _PACKAGE / "_flow"
    return inside if (inside / "flows").is_dir() else _PACKAGE.parent


def put_first(folder: Path) -> None:
    """Make *folder* the first place where modules are looked for, and keep nobody else's `flows`."""
    sys.path[:] = [str(folder), *(p for p in sys.path if p != str(folder))]
    for name in [n for n in sys.modules if n.partition(".")[0] in {"flows", "tasks"}]:
        # A sitecustomize or a plugin may have imported the application's.
        del sys.modules[name]


if __name__ == "__main__":
    sys.exit(main())
