"""Values that were decoded before are remembered; what comes out is what LangGraph's own serializer makes."""

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from unified_db.migration import decoding


def test_a_growing_conversation_decodes_as_ever() -> None:
    plain, ours = JsonPlusSerializer(), decoding.remembering_serializer()
    messages = [(HumanMessage, AIMessage)[i % 2](content=f"message {i}", id=str(i)) for i in range(50)]
    for length in range(50):
        typed = plain.dumps_typed({"messages": messages[:length], "turn": length, "tags": {"a", "b"}})
        assert ours.loads_typed(typed) == plain.loads_typed(typed)


def test_a_message_is_built_once_and_the_oldest_are_forgotten() -> None:
    built: list[bytes] = []
    memory = decoding._Memory(lambda code, content: built.append(content) or (code, content))
    large = [bytes([i]) * 100_000 for i in range(200)]
    for content in (large[0], large[0], *large):
        assert memory(5, content) == (5, content)
    assert len(built) == 200
    memory(5, large[0])
    assert len(built) == 201
    assert sum(len(c) for known in (memory._young, memory._old) for c in known[5]) < 3 << 20


def test_the_same_bytes_of_another_kind_are_another_value() -> None:
    memory = decoding._Memory(lambda code, content: (code, content))
    assert memory(1, b"x") != memory(2, b"x")
