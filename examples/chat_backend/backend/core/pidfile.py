"""server.pid: which process is the server of this folder, and whether it still runs."""

import os
from pathlib import Path

from core.env_loader import BACKEND_DIR

PID_FILE = BACKEND_DIR / "server.pid"
SERVER_FILE = BACKEND_DIR / "server.py"


def read_pid(pid_file: Path = PID_FILE) -> int | None:
    """The process id in the file; None without a file or with something else in it."""
    try:
        return int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_pid(pid_file: Path = PID_FILE) -> None:
    """Say that this process is the server."""
    pid_file.write_text(f"{os.getpid()}\n")


def remove_own_pid(pid_file: Path = PID_FILE) -> None:
    """Remove the file, unless another process has written it since."""
    if read_pid(pid_file) == os.getpid():
        pid_file.unlink()


def is_server(pid: int) -> bool:
    """Whether *pid* lives and runs this folder's server.py.

    A process id is used again after a while, so being alive is not enough. Where there is no
    /proc it has to be.
    """
    if not Path("/proc/self/cmdline").exists():
        return _is_alive(pid)
    process = Path("/proc") / str(pid)
    try:
        # Empty for a process that has ended and waits to be collected by its parent.
        arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        working_folder = (process / "cwd").readlink()
    except OSError:
        return False
    return any((working_folder / argument).resolve() == SERVER_FILE for argument in arguments[1:])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
