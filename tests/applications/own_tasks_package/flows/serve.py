import os
from contextlib import asynccontextmanager

import aiosqlite
import uvicorn
from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import select

from flows import CHECKPOINTS, build
from tasks import Task, sessions


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with aiosqlite.connect(CHECKPOINTS) as connection:
        app.state.graph = build(AsyncSqliteSaver(connection))
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/tasks")
def listed():
    with sessions() as session:
        return [task.title for task in session.scalars(select(Task))]


@app.post("/hands/{hand}")
async def give(hand: str, title: str):
    with sessions.begin() as session:
        session.add(Task(title=title))
    return await app.state.graph.ainvoke({"titles": [title]}, {"configurable": {"thread_id": hand}})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.getenv("PORT", "8000")))
