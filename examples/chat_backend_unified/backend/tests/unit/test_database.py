import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

import crud
from chat import turns
from chat.graph import build_graph
from database import LLMProvider, Message, db, session_scope
from schemas import ProviderOut
from server import open_checkpointer


def make_provider(name: str) -> LLMProvider:
    return LLMProvider(name=name, base_url="", api_key="sk-demo-SECRET-test", model="demo")


def test_deleting_a_conversation_deletes_its_messages(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    message = crud.add_message(session, conversation, "user", "one")
    crud.delete_conversation(session, unique_name)
    assert session.scalars(select(Message.id).where(Message.id == message.id)).all() == []


def test_a_conversation_outlives_its_provider(session, unique_name):
    provider = make_provider(unique_name)
    session.add(provider)
    conversation = crud.start_conversation(session, unique_name, "one", provider=provider)
    session.flush()
    crud.delete_provider(session, provider.id)
    session.refresh(conversation)
    assert conversation.provider_id is None


def test_only_users_and_assistants_speak(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    crud.add_message(session, conversation, "system", "one")
    with pytest.raises(IntegrityError, match="CHECK"):
        session.flush()


def test_the_id_of_a_deleted_message_is_not_used_again(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    deleted = crud.add_message(session, conversation, "user", "one")
    session.flush()
    deleted_id = deleted.id
    session.delete(deleted)
    session.flush()
    message = crud.add_message(session, conversation, "user", "two")
    session.flush()
    assert message.id > deleted_id


def test_an_error_undoes_the_whole_session(unique_name):
    def fail_halfway():
        with session_scope() as session:
            crud.start_conversation(session, unique_name, "one")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    with session_scope() as session:
        assert crud.find_conversation(session, unique_name) is None


def test_a_providers_key_is_neither_in_its_repr_nor_in_a_response(session, unique_name):
    provider = make_provider(unique_name)
    session.add(provider)
    session.flush()
    assert "SECRET" not in repr(provider)
    assert "SECRET" not in ProviderOut.from_row(provider).model_dump_json()


async def test_an_error_undoes_rows_and_checkpoints_alike(new_thread):
    thread_id = new_thread()
    config = turns.make_config(thread_id)

    async def fail_at_the_end(checkpointer):
        async with db.transaction() as session:
            await session.run_sync(crud.start_conversation, thread_id, "one")
            await turns.say(build_graph(checkpointer), "one", config)
            raise RuntimeError("at the end")

    async with open_checkpointer() as checkpointer:
        with pytest.raises(RuntimeError, match="at the end"):
            await fail_at_the_end(checkpointer)
        assert await checkpointer.aget_tuple(config) is None
    with session_scope() as session:
        assert crud.find_conversation(session, thread_id) is None
