from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from chat.model import OfflineChatModel, find_name, find_tool_call, write_reply
from chat.tools import TOOLS, calculator


def test_no_name_is_found_where_none_is_told():
    assert find_name("what is my name") is None


def test_a_calculation_is_found_without_its_question_mark():
    wanted = find_tool_call("Please calculate 2+3?")
    assert wanted == ("calculator", {"expression": "2+3"})


def test_a_look_up_is_found():
    assert find_tool_call("look up sqlite") == ("knowledge_base", {"topic": "sqlite"})


def test_an_email_is_found_with_its_text():
    wanted = find_tool_call("send an email to ada@example.invalid saying see you")
    assert wanted == ("send_email", {"to": "ada@example.invalid", "body": "see you"})


def test_the_reply_counts_the_users_messages_and_quotes_the_first():
    said = [HumanMessage("first"), AIMessage("answer"), HumanMessage("second")]
    assert write_reply(said) == "This is your message number 2. You began with: 'first'."


def test_the_name_told_last_is_the_one_remembered():
    said = [
        HumanMessage("my name is Ada"),
        HumanMessage("my name is Grace"),
        HumanMessage("what is my name?"),
    ]
    assert write_reply(said) == "Your name is Grace."


def test_a_name_never_told_is_not_made_up():
    assert write_reply([HumanMessage("what's my name?")]) == "You have not told me your name."


def test_the_model_calls_a_tool_that_is_bound():
    answer = OfflineChatModel().bind_tools(TOOLS).invoke([HumanMessage("calculate 2+3")])
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("calculator", {"expression": "2+3"})
    ]


def test_the_model_calls_no_tool_that_is_not_bound():
    answer = OfflineChatModel().bind_tools([calculator]).invoke([HumanMessage("look up wal")])
    assert answer.tool_calls == []


def test_the_model_reports_what_a_tool_returned():
    messages = [
        HumanMessage("calculate 2+3"),
        ToolMessage("5", name="calculator", tool_call_id="call_1"),
    ]
    assert OfflineChatModel().invoke(messages).content == "calculator says: 5"
