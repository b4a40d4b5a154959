import operator
import os
import sqlite3
from typing import Annotated, TypedDict

from flask import Flask, jsonify, request
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

BASE_DIR = os.path.dirname(os.path.abspath(__file__))
DATABASE_URI = "sqlite:///" + os.path.join(BASE_DIR, "instance", "guests.db")
CHECKPOINT_PATH = os.path.join(BASE_DIR, "instance", "checkpoints.db")


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str]
    text: Mapped[str]


class Chat(TypedDict):
    texts: Annotated[list[str], operator.add]
    greeting: str


def greet(chat: Chat):
    return {"greeting": "welcome" if len(chat["texts"]) == 1 else "welcome back"}


os.makedirs(os.path.join(BASE_DIR, "instance"), exist_ok=True)
engine = create_engine(DATABASE_URI)
sessions = sessionmaker(engine)
Base.metadata.create_all(engine)
connection = sqlite3.connect(CHECKPOINT_PATH, check_same_thread=False)
builder = StateGraph(Chat)
builder.add_node("greet", greet)
builder.add_edge(START, "greet")
builder.add_edge("greet", END)
graph = builder.compile(checkpointer=SqliteSaver(connection))
app = Flask(__name__)


@app.route("/")
def entries():
    with sessions() as session:
        return jsonify([entry.text for entry in session.scalars(select(Entry).order_by(Entry.id))])


@app.route("/guests/<guest>", methods=["POST"])
def sign(guest):
    text = request.args["text"]
    with sessions.begin() as session:
        session.add(Entry(guest=guest, text=text))
    state = graph.invoke({"texts": [text]}, {"configurable": {"thread_id": guest}})
    return jsonify(greeting=state["greeting"], texts=len(state["texts"]))


if __name__ == "__main__":
    app.run(port=5000)
