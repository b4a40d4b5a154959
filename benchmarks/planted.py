"""What goes wrong on purpose, in the staged copy of the example that runs on the unified file.

`gate_campaign.py` copies this file beside the staged `server.py` and has that call :func:`install`;
the example itself knows nothing of it. What is planted says `planted.json` beside it:

    {"path": "/api/chat", "alone": 0.2, "crowded": 0.25}
                                             each answer of one endpoint takes that share longer, by one
                                             number where no other request was there meanwhile, by the
                                             other where one was
    {"path": ..., "lock_after": 20}          a write lock on the database that is never given back
    {"path": ..., "leak_bytes": 4000000}     memory that each answer keeps
    {"path": ..., "status": 500}             another status
    {"lose": "assistant"}                    messages of this role are not stored
"""

from __future__ import annotations

import json
import sqlite3
import time
from asyncio import sleep
from pathlib import Path
from typing import Any

_PLAN: dict[str, Any] = json.loads((Path(__file__).parent / "planted.json").read_text())
_KEPT: list[Any] = []


_COARSE_S = 0.0015


async def _wait(seconds: float) -> None:
    """Wait as for something outside, so that no other request is held up by it.

    The event loop's clock is coarse; the end is spun away, so that a share is that share.
    """
    end = time.perf_counter() + seconds
    if seconds > _COARSE_S:
        await sleep(seconds - _COARSE_S)
    while time.perf_counter() < end:
        pass


class _Request:
    how = "alone"

    def __init__(self) -> None:
        self.begun = time.perf_counter()


class Planted:
    """An ASGI middleware that does what the plan says to one endpoint, and nothing to the others."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.active: set[_Request] = set()
        self.answers = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request()
        self.active.add(request)
        if len(self.active) > 1:
            for other in self.active:
                other.how = "crowded"

        async def send_planted(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["path"].startswith(_PLAN.get("path", "\0")):
                message = await self.spoil(message, request)
            await send(message)

        try:
            await self.app(scope, receive, send_planted)
        finally:
            self.active.discard(request)

    async def spoil(self, message: Any, request: _Request) -> Any:
        self.answers += 1
        await _wait((time.perf_counter() - request.begun) * _PLAN.get(request.how, 0.0))
        if self.answers == _PLAN.get("lock_after"):
            lock = sqlite3.connect(_PLAN["database"], isolation_level=None, timeout=30)
            lock.execute("BEGIN IMMEDIATE")
            _KEPT.append(lock)
        if "leak_bytes" in _PLAN:
            _KEPT.append(b"\x01" * _PLAN["leak_bytes"])
        return {**message, "status": _PLAN.get("status", message["status"])}


def install(app: Any) -> None:
    """Plant what the plan says into the FastAPI application *app*."""
    app.add_middleware(Planted)
    if "lose" in _PLAN:
        import crud  # type: ignore[import-not-found]  # the application's own module

        add_message = crud.add_message

        def lose_message(session: Any, conversation: Any, role: str, content: str) -> Any:
            return None if role == _PLAN["lose"] else add_message(session, conversation, role, content)

        crud.add_message = lose_message
