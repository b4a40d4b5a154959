"""What the model may do: calculate, look something up, and send mail if a person agrees."""

import ast
import operator
from collections.abc import Callable

from langchain_core.tools import tool
from langgraph.types import interrupt

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}

KNOWLEDGE = {
    "checkpoint": "A checkpoint is the state of a graph after one step of a thread.",
    "langgraph": "LangGraph runs language model applications as graphs with saved state.",
    "sqlite": "SQLite keeps a whole database in one file and lets one writer in at a time.",
    "thread": "A thread is one conversation: all checkpoints with the same thread_id.",
    "wal": "In WAL mode changes are appended to a second file and moved over later.",
}


def evaluate(expression: str) -> int | float:
    """The value of an arithmetic expression.

    Raises:
        ValueError: It is not made of numbers, + - * / // % and brackets, or divides by zero.
    """
    try:
        return _value_of(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"cannot calculate {expression!r}") from error


def _value_of(node: ast.AST) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value_of(node.left), _value_of(node.right))
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value_of(node.operand))
    raise ValueError("only numbers, + - * / // % and brackets are allowed")


@tool
def calculator(expression: str) -> str:
    """Calculate an arithmetic expression such as 2+3*4."""
    try:
        return str(evaluate(expression))
    except ValueError as error:
        return f"error: {error}"


@tool
def knowledge_base(topic: str) -> str:
    """Look a topic up in the small built-in knowledge base."""
    return KNOWLEDGE.get(topic.strip().lower(), f"Nothing is known about {topic!r}.")


@tool
def send_email(to: str, body: str) -> str:
    """Send an email once a person has approved it."""
    decision = interrupt({"action": "send_email", "to": to, "body": body})
    if decision != "approve":
        return f"The email to {to} was rejected and not sent."
    return f"The email to {to} was sent."


TOOLS = [calculator, knowledge_base, send_email]
