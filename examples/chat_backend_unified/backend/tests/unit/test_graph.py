from langchain_core.messages import AIMessage, HumanMessage

from chat import turns
from chat.graph import build_graph, remember, route_after_model

TOOL_CALL = {"name": "calculator", "args": {"expression": "1+1"}, "id": "call_1"}


def test_remember_adds_a_name_to_the_facts():
    state = {"messages": [HumanMessage("my name is Ada")], "facts": {"colour": "blue"}}
    assert remember(state) == {"facts": {"colour": "blue", "name": "Ada"}}


def test_a_tool_call_leads_to_the_tools():
    state = {"messages": [AIMessage("", tool_calls=[TOOL_CALL])]}
    assert route_after_model(state) == "tools"


def test_a_plain_answer_ends_the_turn():
    assert route_after_model({"messages": [AIMessage("Hello.")]}) == "__end__"


async def test_a_turn_with_a_tool_has_four_messages():
    result = await build_graph().ainvoke({"messages": [HumanMessage("calculate 6*7")]})
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert result["tool_runs"] == 1


async def test_the_configured_model_answers():
    config = turns.make_config("unsaved", "model-of-the-provider")
    result = await build_graph().ainvoke({"messages": [HumanMessage("Hi")]}, config)
    newest = result["messages"][-1]
    assert newest.response_metadata["model_name"] == "model-of-the-provider"


def test_a_message_with_a_tool_call_is_described_with_the_tools_name():
    described = turns.describe_message(AIMessage("", tool_calls=[TOOL_CALL]))
    assert described == {"type": "ai", "content": "", "tool_calls": ["calculator"]}
