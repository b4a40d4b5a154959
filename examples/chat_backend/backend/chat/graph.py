"""The graph: remember, ask the model, run tools until none is wanted.

    START -> remember -> model -> END
                         ^   \\
                         |    v
                         +- tools -> count_tools
"""

import operator
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode

from chat.model import OfflineChatModel, find_name
from chat.tools import TOOLS


class ChatState(TypedDict):
    """What LangGraph saves after every step of a thread."""

    messages: Annotated[list[AnyMessage], add_messages]
    facts: dict[str, str]
    tool_runs: Annotated[int, operator.add]


def remember(state: ChatState) -> dict[str, Any]:
    """Keep what the newest message tells about the user."""
    facts = dict(state.get("facts") or {})
    name = find_name(str(state["messages"][-1].content))
    if name:
        facts["name"] = name
    return {"facts": facts}


def call_model(state: ChatState, config: RunnableConfig) -> dict[str, Any]:
    """Let the conversation's model answer."""
    model_name = config.get("configurable", {}).get("model") or "offline-rules-1"
    model = OfflineChatModel(model_name=model_name).bind_tools(TOOLS)
    return {"messages": [model.invoke(state["messages"], config)]}


def count_tools(state: ChatState) -> dict[str, Any]:
    """Count the tool that has just run."""
    return {"tool_runs": 1}


def route_after_model(state: ChatState) -> Literal["tools", "__end__"]:
    """To the tools while the model asks for one."""
    newest = state["messages"][-1]
    return "tools" if isinstance(newest, AIMessage) and newest.tool_calls else END


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> CompiledStateGraph:
    """The compiled graph; with a checkpointer every step of a thread is saved."""
    builder = StateGraph(ChatState)
    builder.add_node("remember", remember)
    builder.add_node("model", call_model)
    builder.add_node("tools", ToolNode(TOOLS))
    builder.add_node("count_tools", count_tools)
    builder.add_edge(START, "remember")
    builder.add_edge("remember", "model")
    builder.add_conditional_edges("model", route_after_model)
    builder.add_edge("tools", "count_tools")
    builder.add_edge("count_tools", "model")
    return builder.compile(checkpointer=checkpointer)
