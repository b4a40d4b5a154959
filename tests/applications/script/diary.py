"""A diary on the command line, which counts the words that a topic has had so far."""

import operator
import sqlite3
import sys
from contextlib import closing
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

DIARY = "diary.sqlite3"
MEMORY = "memory.sqlite3"


class Topic(TypedDict):
    words: Annotated[int, operator.add]
    seen: int


def open_diary():
    diary = sqlite3.connect(DIARY)
    diary.execute(
        "CREATE TABLE IF NOT EXISTS days "
        "(id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, text TEXT)"
    )
    return diary


def write(topic, text):
    """Keep *text*; how many words *topic* has had with it."""
    graph = StateGraph(Topic)
    graph.add_node("look", lambda topic: {"seen": topic["words"]})
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    with SqliteSaver.from_conn_string(MEMORY) as saver:
        state = graph.compile(checkpointer=saver).invoke(
            {"words": len(text.split())}, {"configurable": {"thread_id": topic}}
        )
    with closing(open_diary()) as diary, diary:
        diary.execute("INSERT INTO days (topic, text) VALUES (?, ?)", (topic, text))
    return state["seen"]


def read():
    with closing(open_diary()) as diary:
        return [text for (text,) in diary.execute("SELECT text FROM days ORDER BY id")]


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        print(write(*sys.argv[2:4]))
    else:
        print(*read(), sep="\n")
