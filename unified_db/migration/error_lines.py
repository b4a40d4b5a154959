"""Counts the lines of an application's log that tell of an error; quotes none, since they hold data."""

from __future__ import annotations

import re
from pathlib import Path

_ERROR = re.compile(rb"\b(?:ERROR|CRITICAL|FATAL)\b|Traceback \(most recent call last\)")


class ErrorLines:
    """The error lines that are appended to *path* after its first *offset* bytes.

    A log that was cut or replaced by a shorter one is read from its beginning.
    """

    def __init__(self, path: Path, *, offset: int) -> None:
        self.path = path
        self._offset = offset
        self._found = 0

    def count(self) -> int:
        """How many there are by now. Reads what was appended since the last call."""
        if not self.path.exists():
            return self._found
        unfinished = 0
        with self.path.open("rb") as stream:
            self._offset = self._offset if self.path.stat().st_size >= self._offset else 0
            stream.seek(self._offset)
            for line in stream:
                is_error = bool(_ERROR.search(line))
                if line.endswith(b"\n"):
                    self._offset += len(line)
                    self._found += is_error
                else:
                    # Looked at again once the rest of it is there.
                    unfinished = int(is_error)
        return self._found + unfinished
