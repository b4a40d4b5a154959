import operator
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypedDict

import aiosqlite
import uvicorn
from fastapi import FastAPI
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import config


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    urgent: Mapped[bool] = mapped_column(default=False)


class Case(TypedDict):
    words: Annotated[list[str], operator.add]
    urgent: bool


def triage(case: Case):
    return {"urgent": "fire" in case["words"]}


def build(saver):
    graph = StateGraph(Case)
    graph.add_node("triage", triage)
    graph.add_edge(START, "triage")
    graph.add_edge("triage", END)
    return graph.compile(checkpointer=saver)


@asynccontextmanager
async def lifespan(app: FastAPI):
    Path(config.CHECKPOINT_DB).parent.mkdir(exist_ok=True)
    engine = create_async_engine(config.DATABASE_URL)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    connection = await aiosqlite.connect(config.CHECKPOINT_DB)
    app.state.sessions = async_sessionmaker(engine)
    app.state.graph = build(AsyncSqliteSaver(connection, serde=JsonPlusSerializer()))
    yield
    await connection.close()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/ping")
async def ping():
    return {"pong": True}


@app.get("/tickets")
async def tickets():
    async with app.state.sessions() as session:
        return [
            {"id": t.id, "subject": t.subject, "urgent": t.urgent}
            for t in await session.scalars(select(Ticket))
        ]


@app.post("/tickets/{thread_id}")
async def report(thread_id: str, subject: str):
    state = await app.state.graph.ainvoke(
        {"words": subject.split()}, {"configurable": {"thread_id": thread_id}}
    )
    async with app.state.sessions.begin() as session:
        session.add(Ticket(subject=subject, urgent=state["urgent"]))
    return {"urgent": state["urgent"], "words": len(state["words"])}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.getenv("PORT", "8000")))
