import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

import crud
from database import LLMProvider, Message, checkpoint_path, session_scope
from schemas import ProviderOut


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
    crud.delete_provider(session, provider.id)
    session.refresh(conversation)
    assert conversation.provider_id is None


def test_only_users_and_assistants_speak(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    with pytest.raises(IntegrityError, match="CHECK"):
        crud.add_message(session, conversation, "system", "one")


def test_the_id_of_a_deleted_message_is_not_used_again(session, unique_name):
    conversation = crud.start_conversation(session, unique_name, "one")
    deleted = crud.add_message(session, conversation, "user", "one")
    deleted_id = deleted.id
    session.delete(deleted)
    session.flush()
    assert crud.add_message(session, conversation, "user", "two").id > deleted_id


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


def test_the_folder_of_the_checkpoints_exists_and_does_not_depend_on_where_we_are(monkeypatch, tmp_path):
    here = checkpoint_path()
    monkeypatch.chdir(tmp_path)
    assert checkpoint_path() == here
    assert here.parent.is_dir()
