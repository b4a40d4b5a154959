"""What the HTTP API takes and gives."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from core.masking import mask_key
from database import Conversation, LLMProvider, Message


class ProviderIn(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    base_url: str = Field(default="https://llm.example.invalid/v1", max_length=500)
    api_key: str = Field(min_length=1, max_length=500)
    model: str = Field(default="offline-rules-1", min_length=1, max_length=100)
    is_default: bool = False


class ProviderOut(BaseModel):
    id: int
    name: str
    base_url: str
    api_key: str = Field(description="Masked; the key itself never leaves the application")
    model: str
    is_default: bool
    created_at: datetime

    @classmethod
    def from_row(cls, row: LLMProvider) -> "ProviderOut":
        """The provider with its key masked."""
        return cls(
            id=row.id,
            name=row.name,
            base_url=row.base_url,
            api_key=mask_key(row.api_key),
            model=row.model,
            is_default=row.is_default,
            created_at=row.created_at,
        )


class ChatIn(BaseModel):
    message: str = Field(min_length=1, max_length=4000)
    thread_id: str | None = Field(default=None, min_length=1, max_length=100)
    provider_id: int | None = None


class DecisionIn(BaseModel):
    decision: Literal["approve", "reject"]


class ChatOut(BaseModel):
    thread_id: str
    reply: str
    interrupted: bool = Field(description="The graph waits for a decision")
    pending: dict[str, Any] | None = Field(default=None, description="What the decision is about")
    model: str


class MessageOut(BaseModel):
    id: int
    role: str
    content: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: Message) -> "MessageOut":
        """The message as stored."""
        return cls(id=row.id, role=row.role, content=row.content, created_at=row.created_at)


class StateMessageOut(BaseModel):
    type: str
    content: str
    tool_calls: list[str] = []


class StateOut(BaseModel):
    messages: list[StateMessageOut]
    facts: dict[str, str]
    tool_runs: int
    next: list[str]
    interrupted: bool


class HistoryOut(BaseModel):
    thread_id: str
    title: str
    messages: list[MessageOut] = Field(description="From the application's tables")
    state: StateOut = Field(description="From the newest checkpoint")


class ConversationOut(BaseModel):
    thread_id: str
    title: str
    provider_id: int | None
    message_count: int
    checkpoint_count: int
    created_at: datetime
    updated_at: datetime | None

    @classmethod
    def from_row(cls, row: Conversation, message_count: int, checkpoint_count: int) -> "ConversationOut":
        """The conversation with its number of messages and of checkpoints."""
        return cls(
            thread_id=row.thread_id,
            title=row.title,
            provider_id=row.provider_id,
            message_count=message_count,
            checkpoint_count=checkpoint_count,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
