import operator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypedDict

from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import create_engine, select

from quiz.database import Base, Score, engine, sessions
from quiz.settings import settings


class Game(TypedDict):
    points: Annotated[int, operator.add]


def backup():
    """What runs at night, and copies what the settings name."""
    source = create_engine(settings.database_url)
    Base.metadata.create_all(source)
    return source


@asynccontextmanager
async def lifespan(app: FastAPI):
    Path(settings.checkpoint_path).parent.mkdir(exist_ok=True)
    Base.metadata.create_all(engine)
    backup()
    graph = StateGraph(Game)
    graph.add_node("count", lambda game: {"points": 0})
    graph.add_edge(START, "count")
    graph.add_edge("count", END)
    async with AsyncSqliteSaver.from_conn_string(settings.checkpoint_path) as saver:
        app.state.graph = graph.compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/scores")
def scores():
    with sessions() as session:
        return {score.player: score.points for score in session.scalars(select(Score))}


@app.post("/answers/{player}")
async def answer(player: str, points: int):
    state = await app.state.graph.ainvoke({"points": points}, {"configurable": {"thread_id": player}})
    with sessions.begin() as session:
        session.add(Score(player=player, points=state["points"]))
    return state
