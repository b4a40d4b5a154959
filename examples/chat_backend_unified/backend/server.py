"""The HTTP API of the chat backend.

Handlers are `async def`. A turn of a conversation is one transaction: its messages and its
checkpoints are committed together, or neither is. Everything else is read and written with
short, synchronous sessions.
"""

import argparse
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from unified_db import UnifiedAsyncSqliteSaver

import crud
from chat import turns
from chat.graph import build_graph
from core import pidfile
from core.env_loader import get_chat_model, get_log_level, get_port
from database import Conversation, LLMProvider, db, session_scope
from schemas import (
    ChatIn,
    ChatOut,
    ConversationOut,
    DecisionIn,
    HistoryOut,
    MessageOut,
    ProviderIn,
    ProviderOut,
)

logger = logging.getLogger("chat_backend")

# How long running requests may take to finish once the server is told to stop.
GRACEFUL_SHUTDOWN_S = 5


@asynccontextmanager
async def open_checkpointer() -> AsyncIterator[UnifiedAsyncSqliteSaver]:
    """The checkpointer of this application; it has nothing of its own to close."""
    yield UnifiedAsyncSqliteSaver(db)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Build the graph on the database, and close what belongs to this event loop at the end."""
    async with open_checkpointer() as checkpointer:
        await checkpointer.setup()
        app.state.checkpointer = checkpointer
        app.state.graph = build_graph(checkpointer)
        logger.info("checkpoints are kept by %s", type(checkpointer).__name__)
        yield
    await db.async_engine.dispose()


app = FastAPI(title="Chat backend", lifespan=lifespan)


@app.get("/api/ping")
async def ping() -> dict[str, str]:
    """Whether the server is up and its tables are there."""
    with session_scope() as session:
        return {"status": "ok", "schema": crud.read_schema_version(session)}


@app.get("/api/providers")
async def list_providers() -> list[ProviderOut]:
    """All providers, keys masked."""
    with session_scope() as session:
        return [ProviderOut.from_row(row) for row in crud.list_providers(session)]


@app.post("/api/providers", status_code=201)
async def create_provider(provider: ProviderIn) -> ProviderOut:
    """Add a provider."""
    try:
        with session_scope() as session:
            return ProviderOut.from_row(crud.create_provider(session, **provider.model_dump()))
    except crud.DuplicateNameError as error:
        raise HTTPException(409, f"a provider named {provider.name!r} exists") from error


@app.get("/api/providers/{provider_id}")
async def get_provider(provider_id: int) -> ProviderOut:
    """One provider, key masked."""
    with session_scope() as session:
        row = crud.find_provider(session, provider_id)
        if row is None:
            raise HTTPException(404, f"no provider {provider_id}")
        return ProviderOut.from_row(row)


@app.delete("/api/providers/{provider_id}", status_code=204)
async def delete_provider(provider_id: int) -> Response:
    """Remove a provider; its conversations stay."""
    with session_scope() as session:
        if not crud.delete_provider(session, provider_id):
            raise HTTPException(404, f"no provider {provider_id}")
    return Response(status_code=204)


@app.post("/api/chat")
async def chat(request: ChatIn) -> ChatOut:
    """Say something in a conversation, which begins with its first message."""
    thread_id = request.thread_id or uuid4().hex
    await require_waiting(thread_id, waiting=False)
    async with db.transaction() as session:
        conversation, model = await session.run_sync(add_user_message, thread_id, request)
        config = turns.make_config(thread_id, model)
        turn = await turns.say(app.state.graph, request.message, config)
        await session.run_sync(add_reply, conversation, turn)
    return describe_turn(thread_id, turn, model)


@app.post("/api/chat/{thread_id}/resume")
async def resume(thread_id: str, request: DecisionIn) -> ChatOut:
    """Decide what a conversation waits for."""
    async with db.transaction() as session:
        conversation, model = await session.run_sync(read_conversation, thread_id)
        await require_waiting(thread_id, waiting=True)
        config = turns.make_config(thread_id, model)
        turn = await turns.decide(app.state.graph, request.decision, config)
        await session.run_sync(add_reply, conversation, turn)
    return describe_turn(thread_id, turn, model)


@app.get("/api/history/{thread_id}")
async def history(thread_id: str) -> HistoryOut:
    """A conversation twice: as the tables have it and as the newest checkpoint has it."""
    with session_scope() as session:
        title = crud.require_conversation(session, thread_id).title
        messages = [MessageOut.from_row(row) for row in crud.list_messages(session, thread_id)]
    snapshot = await app.state.graph.aget_state(turns.make_config(thread_id))
    state = turns.describe_state(snapshot)
    return HistoryOut(thread_id=thread_id, title=title, messages=messages, state=state)


@app.get("/api/conversations")
async def list_conversations() -> list[ConversationOut]:
    """All conversations, last used first."""
    with session_scope() as session:
        rows = crud.list_conversations(session)
        return [ConversationOut.from_row(*row) for row in rows]


@app.delete("/api/conversations/{thread_id}", status_code=204)
async def delete_conversation(thread_id: str) -> Response:
    """Forget a conversation: its messages and its checkpoints."""
    async with db.transaction() as session:
        if not await session.run_sync(crud.delete_conversation, thread_id):
            raise crud.UnknownConversationError(thread_id)
        await app.state.checkpointer.adelete_thread(thread_id)
    return Response(status_code=204)


@app.exception_handler(crud.UnknownConversationError)
async def answer_unknown_conversation(_request: Request, error: Exception) -> Response:
    """404 for a conversation that does not exist."""
    return JSONResponse({"detail": f"no conversation {error}"}, status_code=404)


@app.exception_handler(IntegrityError)
@app.exception_handler(StaleDataError)
async def answer_overtaken(_request: Request, _error: Exception) -> Response:
    """409 for a turn whose conversation another request began or deleted before it was committed."""
    detail = "the conversation was changed by another request; nothing of this one was kept"
    return JSONResponse({"detail": detail}, status_code=409)


async def require_waiting(thread_id: str, *, waiting: bool) -> None:
    """409 unless the thread waits for a decision, or with `waiting=False` unless it does not."""
    snapshot = await app.state.graph.aget_state(turns.make_config(thread_id))
    if turns.is_waiting(snapshot) != waiting:
        state = "waits for a decision" if not waiting else "waits for no decision"
        raise HTTPException(409, f"conversation {thread_id} {state}")


def model_of_conversation(provider: LLMProvider | None) -> str:
    """The model of the conversation's provider, or the one the settings name."""
    return provider.model if provider else get_chat_model()


def read_conversation(session: Session, thread_id: str) -> tuple[Conversation, str]:
    """The conversation, and the model that answers in it."""
    conversation = crud.require_conversation(session, thread_id)
    return conversation, model_of_conversation(conversation.provider)


def add_user_message(session: Session, thread_id: str, request: ChatIn) -> tuple[Conversation, str]:
    """Add the user's message; its conversation, and the model that shall answer it."""
    conversation = crud.find_conversation(session, thread_id)
    if conversation is None:
        provider = crud.choose_provider(session, request.provider_id)
        if provider is None and request.provider_id is not None:
            raise HTTPException(404, f"no provider {request.provider_id}")
        conversation = crud.start_conversation(session, thread_id, request.message, provider=provider)
    crud.add_message(session, conversation, "user", request.message)
    return conversation, model_of_conversation(conversation.provider)


def add_reply(session: Session, conversation: Conversation, turn: turns.Turn) -> None:
    """Add the reply, if there is one yet."""
    if turn.pending is None:
        crud.add_message(session, conversation, "assistant", turn.reply)


def describe_turn(thread_id: str, turn: turns.Turn, model: str) -> ChatOut:
    """What a turn is answered with."""
    return ChatOut(
        thread_id=thread_id,
        reply=turn.reply,
        interrupted=turn.pending is not None,
        pending=turn.pending,
        model=model,
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Host and port; the command line wins over PORT in the environment."""
    parser = argparse.ArgumentParser(description="Run the chat backend.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=get_port())
    return parser.parse_args(arguments)


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    # uvicorn shuts down by itself and then raises the signal once more for whoever was
    # there before it; without this the process would end before it removes server.pid.
    raise SystemExit(0)


def main() -> None:
    """Serve until told to stop."""
    options = parse_arguments()
    logging.basicConfig(
        level=get_log_level(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    running = pidfile.read_pid()
    if running is not None and pidfile.is_server(running):
        sys.exit(f"a server of this folder runs already, as process {running}")
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        pidfile.write_pid()
        uvicorn.run(
            app,
            host=options.host,
            port=options.port,
            log_config=None,
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        )
    finally:
        pidfile.remove_own_pid()
        db.close()


if __name__ == "__main__":
    main()
