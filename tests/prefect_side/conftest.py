from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect_side.tiny_application import TinyApplication


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()
