"""The application with its lifespan, called in this process, without a port."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
import pytest_asyncio

import crud
from database import session_scope
from server import app


@asynccontextmanager
async def run_app() -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client


@pytest.fixture
def start_app() -> Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """Starts the application; leaving the `async with` stops it."""
    return run_app


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running application."""
    async with run_app() as client:
        yield client


@pytest.fixture
def made_providers() -> Iterator[list[int]]:
    """Ids put here are removed after the test."""
    made: list[int] = []
    yield made
    with session_scope() as session:
        for provider_id in made:
            crud.delete_provider(session, provider_id)


@pytest.fixture
def post_provider(
    client: httpx.AsyncClient, made_providers: list[int]
) -> Callable[[str], Awaitable[httpx.Response]]:
    """Adds a provider by the API; it is removed after the test."""

    async def post(name: str) -> httpx.Response:
        body = {"name": name, "api_key": "sk-demo-SECRET-test", "model": "demo-model"}
        answer = await client.post("/api/providers", json=body)
        if answer.status_code == httpx.codes.CREATED:
            made_providers.append(answer.json()["id"])
        return answer

    return post
