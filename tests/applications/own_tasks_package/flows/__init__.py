"""How chores are handed out."""

import operator
import os
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

import tasks  # noqa: F401 - it loads .env

CHECKPOINTS = os.environ["CHECKPOINTS"]


class Hand(TypedDict):
    titles: Annotated[list[str], operator.add]
    next: str


def build(saver):
    graph = StateGraph(Hand)
    graph.add_node("choose", lambda hand: {"next": min(hand["titles"])})
    graph.add_edge(START, "choose")
    graph.add_edge("choose", END)
    return graph.compile(checkpointer=saver)
