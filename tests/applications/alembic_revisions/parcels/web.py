import operator
import os
import sqlite3
from typing import Annotated, TypedDict

from fastapi import FastAPI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import select

from parcels.tables import Parcel, sessions


class Round(TypedDict):
    grams: Annotated[int, operator.add]
    full: bool


memory = os.environ["PARCELS_MEMORY"]
os.makedirs(os.path.dirname(os.path.abspath(memory)), exist_ok=True)
builder = StateGraph(Round)
builder.add_node("load", lambda tour: {"full": tour["grams"] > 1000})
builder.add_edge(START, "load")
builder.add_edge("load", END)
graph = builder.compile(checkpointer=SqliteSaver(sqlite3.connect(memory, check_same_thread=False)))
app = FastAPI()


@app.get("/parcels")
def parcels():
    with sessions() as session:
        return [{"address": p.address, "grams": p.grams} for p in session.scalars(select(Parcel))]


@app.post("/rounds/{van}")
def send(van: str, address: str, grams: int):
    with sessions.begin() as session:
        session.add(Parcel(address=address, grams=grams))
    return graph.invoke({"grams": grams}, {"configurable": {"thread_id": van}})
