"""Recipes, and a cook who remembers what was asked. The old copies are called recipes.db.bak."""

import operator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import FastAPI
from langgraph.checkpoint.sqlite import aio
from langgraph.graph import END, START, StateGraph
from sqlalchemy import create_engine, text

engine = create_engine("sqlite:///recipes.db", connect_args={"check_same_thread": False})


class Order(TypedDict):
    dishes: Annotated[list[str], operator.add]


def cook(order: Order):
    return {"dishes": [f"{order['dishes'][-1]}, done"]}


@asynccontextmanager
async def lifespan(app: FastAPI):
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE IF NOT EXISTS recipes (name TEXT PRIMARY KEY, minutes INTEGER) WITHOUT ROWID")
        )
    graph = StateGraph(Order)
    graph.add_node("cook", cook)
    graph.add_edge(START, "cook")
    graph.add_edge("cook", END)
    async with aio.AsyncSqliteSaver.from_conn_string(
        "checkpoints.db",  # beside the recipes
    ) as saver:
        app.state.graph = graph.compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
def recipes():
    with engine.connect() as connection:
        return {name: minutes for name, minutes in connection.execute(text("SELECT * FROM recipes"))}


@app.post("/order/{table}")
async def order(table: str, dish: str, minutes: int = 10):
    state = await app.state.graph.ainvoke({"dishes": [dish]}, {"configurable": {"thread_id": table}})
    with engine.begin() as connection:
        connection.execute(
            text("INSERT OR REPLACE INTO recipes VALUES (:name, :minutes)"),
            {"name": dish, "minutes": minutes},
        )
    return state["dishes"]
