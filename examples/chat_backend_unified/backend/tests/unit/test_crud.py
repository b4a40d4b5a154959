import pytest

import crud

ACCOUNT = {
    "base_url": "https://llm.example.invalid/v1",
    "api_key": "sk-demo-SECRET-test",
    "model": "demo",
}


def test_a_new_provider_can_be_found_again(session, unique_name):
    provider = crud.create_provider(session, unique_name, **ACCOUNT)
    assert crud.find_provider(session, provider.id).name == unique_name
    assert provider in crud.list_providers(session)


def test_a_second_provider_of_the_same_name_is_refused(session, unique_name):
    crud.create_provider(session, unique_name, **ACCOUNT)
    with pytest.raises(crud.DuplicateNameError):
        crud.create_provider(session, unique_name, **ACCOUNT)


def test_there_is_one_default_provider_at_a_time(session, unique_name):
    first = crud.create_provider(session, unique_name, **ACCOUNT, is_default=True)
    second = crud.create_provider(session, f"{unique_name}-2", **ACCOUNT, is_default=True)
    assert crud.choose_provider(session, None) is second
    session.refresh(first)
    assert first.is_default is False


def test_a_provider_asked_for_goes_before_the_default_one(session, unique_name):
    asked_for = crud.create_provider(session, unique_name, **ACCOUNT)
    crud.create_provider(session, f"{unique_name}-2", **ACCOUNT, is_default=True)
    assert crud.choose_provider(session, asked_for.id) is asked_for


def test_a_long_first_message_is_cut_at_a_word():
    title = crud.make_title("word " * 40)
    assert title.endswith("word…")
    assert len(title) <= crud.TITLE_CHARS + 1


def test_a_title_is_one_line(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "two\n  lines")
    assert conversation.title == "two lines"


def test_messages_come_in_the_order_they_were_written(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    for number, content in enumerate(["one", "two", "three"]):
        crud.add_message(session, conversation, "user" if number % 2 == 0 else "assistant", content)
    written = [message.content for message in crud.list_messages(session, unique_name)]
    assert written == ["one", "two", "three"]


def test_conversations_are_listed_with_their_number_of_messages_and_checkpoints(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    crud.add_message(session, conversation, "user", "one")
    crud.add_message(session, conversation, "assistant", "two")
    assert (conversation, 2, 0) in crud.list_conversations(session)


def test_an_unknown_conversation_is_an_error_where_one_is_required(session, unique_name):
    with pytest.raises(crud.UnknownConversationError):
        crud.require_conversation(session, unique_name)
