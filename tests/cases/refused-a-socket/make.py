"""A socket."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):
        # A name relative to its folder: the address has room for about a hundred characters.
        listener.bind("app.db")
    yield [folder / "app.db"]
