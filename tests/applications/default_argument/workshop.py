import operator
import sqlite3
from pathlib import Path
from typing import Annotated, TypedDict

from fastapi import FastAPI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select

HERE = Path(__file__).parent


class Job(TypedDict):
    steps: Annotated[list[str], operator.add]


class Foreman:
    """Plans jobs and remembers them."""

    def __init__(
        self, memory: str | Path = HERE / "state" / "foreman.sqlite", *, checked: bool = False
    ) -> None:
        Path(memory).parent.mkdir(exist_ok=True)
        self.connection = sqlite3.connect(memory, check_same_thread=checked)
        graph = StateGraph(Job)
        graph.add_node("plan", lambda job: {"steps": [f"step {len(job['steps'])}"]})
        graph.add_edge(START, "plan")
        graph.add_edge("plan", END)
        self.graph = graph.compile(checkpointer=SqliteSaver(self.connection))

    def plan(self, job: str, step: str) -> list[str]:
        state = self.graph.invoke({"steps": [step]}, {"configurable": {"thread_id": job}})
        return state["steps"]


class Inventory:
    """The tools there are."""

    def __init__(self, path: str = "state/inventory.db", echo: bool = False) -> None:
        self.engine = create_engine(f"sqlite:///{HERE / path}", echo=echo)
        metadata = MetaData()
        self.tools = Table(
            "tools", metadata, Column("id", Integer, primary_key=True), Column("name", String, unique=True)
        )
        metadata.create_all(self.engine)

    def add(self, name: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.tools.insert().prefix_with("OR IGNORE").values(name=name))

    def names(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(self.tools.c.name).order_by(self.tools.c.id)))


foreman, inventory = Foreman(), Inventory()
app = FastAPI()


@app.get("/tools")
def tools() -> list[str]:
    return inventory.names()


@app.post("/jobs/{job}")
def work(job: str, tool: str) -> list[str]:
    inventory.add(tool)
    return foreman.plan(job, tool)
