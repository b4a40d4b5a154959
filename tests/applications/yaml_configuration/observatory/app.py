import operator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from observatory.settings import CHECKPOINTS, DATABASE_URL


class Base(DeclarativeBase):
    pass


class Sighting(Base):
    __tablename__ = "sightings"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(index=True)
    magnitude: Mapped[float]


class Visit(TypedDict):
    asked: Annotated[list[str], operator.add]
    told: str


def guide(visit: Visit):
    *before, now = visit["asked"]
    return {"told": f"{now} is up; you also asked for {', '.join(before) or 'nothing'}"}


CHECKPOINTS.parent.mkdir(exist_ok=True)
engine = create_engine(DATABASE_URL)
sessions = sessionmaker(engine)


@asynccontextmanager
async def lifespan(app: FastAPI):
    Base.metadata.create_all(engine)
    graph = StateGraph(Visit)
    graph.add_node("guide", guide)
    graph.add_edge(START, "guide")
    graph.add_edge("guide", END)
    async with AsyncSqliteSaver.from_conn_string(str(CHECKPOINTS)) as saver:
        app.state.graph = graph.compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/sightings")
def sightings():
    with sessions() as session:
        return [s.body for s in session.scalars(select(Sighting).order_by(Sighting.magnitude))]


@app.post("/visits/{visitor}")
async def visit(visitor: str, body: str, magnitude: float):
    with sessions.begin() as session:
        session.add(Sighting(body=body, magnitude=magnitude))
    state = await app.state.graph.ainvoke({"asked": [body]}, {"configurable": {"thread_id": visitor}})
    return {"told": state["told"]}
