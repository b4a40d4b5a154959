"""What all tests share.

The tests run on the application's own databases, not on temporary ones, so that they say
something about the files the application uses. They therefore give everything names of their
own and clean up, and they do not care what else is in the files.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session

import crud
import server
from database import SessionLocal, db, session_scope

BACKEND_DIR = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _migrated_database() -> None:
    command.upgrade(Config(BACKEND_DIR / "alembic.ini"), "head")
    db.prepare_sync()


@pytest.fixture
def unique_name() -> str:
    """A name nothing else in the database has."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def session() -> Iterator[Session]:
    """A session whose changes are undone after the test."""
    with SessionLocal() as session:
        yield session
        session.rollback()


@pytest_asyncio.fixture
async def new_thread() -> AsyncIterator[Callable[[], str]]:
    """Makes thread ids; their conversations and checkpoints are removed after the test."""
    made: list[str] = []

    def make() -> str:
        made.append(f"test-{uuid4().hex}")
        return made[-1]

    yield make
    with session_scope() as session:
        for thread_id in made:
            crud.delete_conversation(session, thread_id)
    async with server.open_checkpointer() as checkpointer:
        for thread_id in made:
            await checkpointer.adelete_thread(thread_id)
