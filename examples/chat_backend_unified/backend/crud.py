"""Reads and writes the application's own tables. Commits nothing: the caller's session does."""

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from unified_db.runtime.schema import thread_summaries

from database import Conversation, LLMProvider, Message, utc_now

TITLE_CHARS = 60


class DuplicateNameError(Exception):
    """A provider of this name exists."""


class UnknownConversationError(Exception):
    """There is no conversation of this thread."""


def read_schema_version(session: Session) -> str:
    """The Alembic revision the tables are at."""
    return session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def create_provider(
    session: Session,
    name: str,
    *,
    base_url: str,
    api_key: str,
    model: str,
    is_default: bool = False,
) -> LLMProvider:
    """Add a provider; as the default one it takes that role from the others.

    Raises:
        DuplicateNameError: The name is taken.
    """
    if is_default:
        session.execute(update(LLMProvider).values(is_default=False))
    provider = LLMProvider(name=name, base_url=base_url, api_key=api_key, model=model, is_default=is_default)
    session.add(provider)
    try:
        session.flush()
    except IntegrityError as error:
        raise DuplicateNameError(name) from error
    return provider


def list_providers(session: Session) -> list[LLMProvider]:
    """All providers, oldest first."""
    return list(session.scalars(select(LLMProvider).order_by(LLMProvider.id)))


def find_provider(session: Session, provider_id: int) -> LLMProvider | None:
    """The provider with this id."""
    return session.get(LLMProvider, provider_id)


def find_default_provider(session: Session) -> LLMProvider | None:
    """The provider of conversations that name none."""
    return session.scalars(select(LLMProvider).where(LLMProvider.is_default)).first()


def choose_provider(session: Session, provider_id: int | None) -> LLMProvider | None:
    """The provider a new conversation asks for, or the default one if it names none."""
    if provider_id is None:
        return find_default_provider(session)
    return find_provider(session, provider_id)


def delete_provider(session: Session, provider_id: int) -> bool:
    """Remove a provider; its conversations stay. False when there was none."""
    provider = find_provider(session, provider_id)
    if provider is None:
        return False
    session.delete(provider)
    session.flush()
    return True


def make_title(message: str) -> str:
    """A conversation's title from its first message: one line, cut at a word."""
    line = " ".join(message.split())
    if len(line) <= TITLE_CHARS:
        return line
    return line[:TITLE_CHARS].rsplit(" ", 1)[0] + "…"


def find_conversation(session: Session, thread_id: str) -> Conversation | None:
    """The conversation of this LangGraph thread."""
    return session.scalars(select(Conversation).where(Conversation.thread_id == thread_id)).first()


def require_conversation(session: Session, thread_id: str) -> Conversation:
    """The conversation of this LangGraph thread.

    Raises:
        UnknownConversationError: There is none.
    """
    conversation = find_conversation(session, thread_id)
    if conversation is None:
        raise UnknownConversationError(thread_id)
    return conversation


def start_conversation(
    session: Session, thread_id: str, first_message: str, *, provider: LLMProvider | None = None
) -> Conversation:
    """Add a conversation without messages, titled after its first one."""
    # No flush, here and below: it would take the write lock, and the graph is still to run.
    conversation = Conversation(
        thread_id=thread_id, title=make_title(first_message), provider=provider, created_at=utc_now()
    )
    session.add(conversation)
    return conversation


def add_message(session: Session, conversation: Conversation, role: str, content: str) -> Message:
    """Append a message and note when the conversation was last used."""
    # A default is computed when the row is written, which is at the end of the turn.
    now = utc_now()
    message = Message(conversation=conversation, role=role, content=content, created_at=now)
    session.add(message)
    conversation.updated_at = now
    return message


def list_messages(session: Session, thread_id: str) -> list[Message]:
    """A conversation's messages in the order they were written."""
    query = select(Message).join(Conversation).where(Conversation.thread_id == thread_id).order_by(Message.id)
    return list(session.scalars(query))


def list_conversations(session: Session) -> list[tuple[Conversation, int, int]]:
    """All conversations with how many messages and checkpoints each has, last used first."""
    threads = thread_summaries().subquery()
    query = (
        select(Conversation, func.count(Message.id), func.coalesce(threads.c.checkpoints, 0))
        .outerjoin(Message)
        .outerjoin(threads, threads.c.thread_id == Conversation.thread_id)
        .group_by(Conversation.id)
        .order_by(Conversation.updated_at.desc(), Conversation.id.desc())
    )
    return [tuple(row) for row in session.execute(query)]


def delete_conversation(session: Session, thread_id: str) -> bool:
    """Remove a conversation and, by the foreign key, its messages. False when there was none."""
    conversation = find_conversation(session, thread_id)
    if conversation is None:
        return False
    session.delete(conversation)
    return True
