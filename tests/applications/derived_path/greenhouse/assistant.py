import operator
from typing import Annotated, TypedDict

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver
from langgraph.graph import END, START, StateGraph

from greenhouse.config import config


class Thoughts(TypedDict):
    degrees: Annotated[list[float], operator.add]
    advice: str


def think(thoughts: Thoughts):
    mean = sum(thoughts["degrees"]) / len(thoughts["degrees"])
    return {"advice": "water" if mean > 25 else "wait"}


async def connect():
    """The graph, and the connection that its owner closes."""
    connection = await aiosqlite.connect(str(config.checkpoint_file))
    graph = StateGraph(Thoughts)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    graph.add_edge("think", END)
    return graph.compile(checkpointer=Saver(connection)), connection
