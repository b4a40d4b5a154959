"""One turn of a conversation: what goes into the graph and what comes out."""

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot


@dataclass(frozen=True)
class Turn:
    """The graph's answer, or what it waits for."""

    reply: str
    pending: dict[str, Any] | None


def make_config(thread_id: str, model: str | None = None) -> RunnableConfig:
    """The configuration that names a LangGraph thread."""
    configurable = {"thread_id": thread_id}
    if model:
        configurable["model"] = model
    return {"configurable": configurable}


async def say(graph: CompiledStateGraph, message: str, config: RunnableConfig) -> Turn:
    """Run the graph on a user's message."""
    return read_turn(await graph.ainvoke({"messages": [HumanMessage(message)]}, config))


async def decide(graph: CompiledStateGraph, decision: str, config: RunnableConfig) -> Turn:
    """Answer what the graph waits for, and let it go on."""
    return read_turn(await graph.ainvoke(Command(resume=decision), config))


def read_turn(result: dict[str, Any]) -> Turn:
    """What a run of the graph ended with."""
    interrupts = result.get("__interrupt__") or ()
    if interrupts:
        pending = interrupts[0].value
        return Turn(f"Waiting for a decision: {pending['action']} to {pending['to']}.", pending)
    return Turn(str(result["messages"][-1].content), None)


def is_waiting(snapshot: StateSnapshot) -> bool:
    """Whether the thread stopped at an interrupt."""
    return bool(snapshot.interrupts)


def describe_message(message: AnyMessage) -> dict[str, Any]:
    """A message of the state as plain values."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return {
        "type": message.type,
        "content": str(message.content),
        "tool_calls": [call["name"] for call in calls],
    }


def describe_state(snapshot: StateSnapshot) -> dict[str, Any]:
    """The newest checkpoint as plain values; empty for a thread that has none."""
    values = snapshot.values
    return {
        "messages": [describe_message(message) for message in values.get("messages", [])],
        "facts": values.get("facts", {}),
        "tool_runs": values.get("tool_runs", 0),
        "next": list(snapshot.next),
        "interrupted": is_waiting(snapshot),
    }
