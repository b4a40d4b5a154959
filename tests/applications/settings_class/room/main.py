from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import select

from room.database import Base, Loan, Session, engine
from room.graph import build
from room.settings import get_settings


@asynccontextmanager
async def lifespan(app: FastAPI):
    path = Path(get_settings().checkpoint_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Base.metadata.create_all(engine)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        app.state.graph = build(saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/loans")
def loans():
    with Session() as session:
        return [{"book": loan.book, "thread": loan.thread_id} for loan in session.scalars(select(Loan))]


@app.post("/loans/{thread_id}")
async def lend(thread_id: str, book: str, request: Request):
    state = await request.app.state.graph.ainvoke(
        {"said": [f"lend me {book}"]}, {"configurable": {"thread_id": thread_id}}
    )
    with Session() as session, session.begin():
        session.add(Loan(book=book, thread_id=thread_id))
    return {"answer": state["said"][-1]}
