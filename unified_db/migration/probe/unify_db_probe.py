"""Notes which databases a Python process of a rehearsed suite connects to; lets pytest load our plugin.

Runs in the application's interpreter: the standard library alone, and nothing here may raise.
What is written: three fields for each database of a process, each ended by a NUL: the working
folder, the database as it was given, the process.
"""

import os
import sys


def follow(folder: str) -> None:
    """Note from now on what this process connects to, in *folder*/opened."""
    record = os.path.join(folder, "opened")  # noqa: PTH118 -- pathlib slows every start
    seen: set[tuple[str, str]] = set()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "sqlite3.connect":
            _note(arguments[0], record, seen)
        elif event == "import" and arguments[0] == "pytest":
            _offer_plugin()

    sys.addaudithook(hook)


def _note(database: object, record: str, seen: set[tuple[str, str]]) -> None:
    # An audit hook that raises makes the application's own call fail.
    try:
        fields = (os.getcwd(), os.fsdecode(database))  # type: ignore[arg-type]  # noqa: PTH109 -- as above
        if fields in seen:
            return
        seen.add(fields)
        command = " ".join(getattr(sys, "orig_argv", sys.argv))[:120]
        text = "\0".join((*fields, f"{os.getpid()} {command}", ""))
        # One write in append mode, so that records of processes that run at once do not mix.
        descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, os.fsencode(text))
        finally:
            os.close(descriptor)
    except (OSError, TypeError, ValueError):
        return


def _offer_plugin() -> None:
    # Only where pytest is about to be imported: a child with another search path would not find the plugin.
    known = [name for name in os.environ.get("PYTEST_PLUGINS", "").split(",") if name]
    if "unify_db_pytest" not in known:
        os.environ["PYTEST_PLUGINS"] = ",".join([*known, "unify_db_pytest"])
