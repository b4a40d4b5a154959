from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect_side.server import Prefect
from tests.prefect_side.tiny_application import TinyApplication


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyApplication]:
    application = TinyApplication.create(tmp_path)
    yield application
    application.stop()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server for all tests of this process."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    server.start()
    yield server
    server.stop()
