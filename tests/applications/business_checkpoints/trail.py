import operator
import os
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

import uvicorn
from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

TRAIL_DB = "sqlite:///trail.db"
RANGER_DB = "ranger.db"


class Base(DeclarativeBase):
    pass


class Checkpoint(Base):
    """A place on the trail."""

    __tablename__ = "checkpoints"

    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(index=True)


class Passage(Base):
    __tablename__ = "passages"

    id: Mapped[int] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    hiker: Mapped[str]


class Hike(TypedDict):
    places: Annotated[list[str], operator.add]
    last: str


engine = create_engine(TRAIL_DB)
sessions = sessionmaker(engine)


@asynccontextmanager
async def lifespan(app: FastAPI):
    Base.metadata.create_all(engine)
    graph = StateGraph(Hike)
    graph.add_node("note", lambda hike: {"last": hike["places"][-1]})
    graph.add_edge(START, "note")
    graph.add_edge("note", END)
    async with AsyncSqliteSaver.from_conn_string(RANGER_DB) as saver:
        app.state.graph = graph.compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/places")
def places():
    query = (
        "SELECT place, count(*) FROM passages JOIN checkpoints AS c ON c.id = checkpoint_id GROUP BY place"
    )
    with engine.connect() as connection:
        return {place: count for place, count in connection.execute(text(query))}


@app.post("/hikers/{hiker}")
async def arrive(hiker: str, place: str):
    with sessions.begin() as session:
        found = session.scalar(select(Checkpoint).where(Checkpoint.place == place)) or Checkpoint(place=place)
        session.add(found)
        session.flush()
        session.add(Passage(checkpoint_id=found.id, hiker=hiker))
    return await app.state.graph.ainvoke({"places": [place]}, {"configurable": {"thread_id": hiker}})


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
