"""A chat model that needs no network and no key: rules instead of a language model.

The same messages always give the same answer, so a conversation can be compared before and
after its database has moved.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

_CALCULATE = re.compile(r"\bcalculate\s+(?P<expression>.+)", re.IGNORECASE)
_LOOK_UP = re.compile(r"\blook up\s+(?P<topic>[\w -]+)", re.IGNORECASE)
_EMAIL = re.compile(r"\bsend (?:an )?e?mail to\s+(?P<to>[^\s,]+)(?:\s+saying\s+(?P<body>.+))?", re.IGNORECASE)
_NAME = re.compile(r"\bmy name is\s+(?P<name>\w+)", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\bwhat(?: is|'s) my name\b", re.IGNORECASE)


def find_name(text: str) -> str | None:
    """The name in "my name is NAME"."""
    found = _NAME.search(text)
    return found["name"] if found else None


def find_tool_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """The tool a message asks for, with its arguments."""
    if found := _EMAIL.search(text):
        return "send_email", {"to": found["to"], "body": found["body"] or "Hello!"}
    if found := _CALCULATE.search(text):
        return "calculator", {"expression": found["expression"].rstrip(" ?=.")}
    if found := _LOOK_UP.search(text):
        return "knowledge_base", {"topic": found["topic"].strip()}
    return None


def write_reply(messages: Sequence[BaseMessage]) -> str:
    """A plain answer that shows what is remembered of the earlier turns."""
    said = [str(message.content) for message in messages if isinstance(message, HumanMessage)]
    name = next((name for text in reversed(said) if (name := find_name(text))), None)
    if _ASKS_NAME.search(said[-1]):
        return f"Your name is {name}." if name else "You have not told me your name."
    address = f", {name}" if name else ""
    if len(said) == 1:
        return f"Hello{address}. This is your message number 1."
    return f"This is your message number {len(said)}{address}. You began with: {said[0]!r}."


def report_results(results: Sequence[ToolMessage]) -> str:
    """An answer made of what the tools returned."""
    return " ".join(f"{result.name} says: {result.content}" for result in results)


class OfflineChatModel(BaseChatModel):
    """Answers by rules; calls only the tools that are bound to it."""

    model_name: str = "offline-rules-1"

    @property
    def _llm_type(self) -> str:
        return "offline-rules"

    def bind_tools(
        self, tools: Sequence[BaseTool | Callable[..., Any]], **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """The model with these tools at hand."""
        return self.bind(tool_names=[getattr(tool, "name", None) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - BaseChatModel passes it by name
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - passed by name
        *,
        tool_names: Sequence[str] = (),
        **kwargs: Any,  # noqa: ARG002 - whatever else is bound
    ) -> ChatResult:
        answer = self._answer(messages, tool_names)
        answer.response_metadata = {"model_name": self.model_name}
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _answer(self, messages: Sequence[BaseMessage], tool_names: Sequence[str]) -> AIMessage:
        results = _trailing_results(messages)
        if results:
            return AIMessage(report_results(results))
        wanted = find_tool_call(str(messages[-1].content))
        if wanted is None or wanted[0] not in tool_names:
            return AIMessage(write_reply(messages))
        name, arguments = wanted
        call = {"name": name, "args": arguments, "id": f"call_{len(messages)}"}
        return AIMessage("", tool_calls=[call])


def _trailing_results(messages: Sequence[BaseMessage]) -> list[ToolMessage]:
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, message)
    return results
