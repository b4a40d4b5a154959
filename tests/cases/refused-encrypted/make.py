"""What a tool that encrypts whole pages leaves: bytes without a pattern."""

import random
from collections.abc import Iterator
from pathlib import Path


def make(folder: Path) -> Iterator[list[Path]]:
    (folder / "app.db").write_bytes(random.Random(4711).randbytes(16384))
    yield [folder / "app.db"]
